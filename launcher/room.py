"""Hold the memory that a model needs against what is free, before it is loaded. Imported by the launcher only."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.settings import EngineCommand
from runtime.errors import QwenfileError
from runtime.memory import (
    CACHE_TYPES,
    UBATCH,
    Cache,
    Fit,
    MachineMemory,
    Need,
    Shape,
    estimate,
    judge,
    largest_context,
    machine_memory,
    repacked_types,
)

_PUBLIC_SLOTS = 4  # llama.cpp's default for a server, `--parallel -1`
_KEPT_LEAST, _KEPT_UNKNOWN = 16 * 2**20, 1024 * 2**20  # bytes
_GPU_FACTOR, _GPU_LEFT = 1.1, 2**30
_ALL_TYPES = frozenset({"Q2_K", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"})


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What follows for the engine's arguments, and what the person should know."""

    args: tuple[str, ...] = ()
    notice: str = ""


def check(
    facts: Mapping[str, Any],
    draft: Mapping[str, Any] | None,
    told: EngineCommand,
    *,
    private: bool,
    force: bool,
    machine: MachineMemory | None = None,
) -> Verdict:
    """Raises QwenfileError, with the numbers and what would fit, if there is too little memory and no `force`.

    `facts`: the manifest's about the model; `draft`: about the draft model in use; `told`: the engine's command line,
    which decides the KV cache. Weights that are larger than what is free run from their file, with a notice. Where the
    system doesn't tell, nothing is checked.
    """
    shape, guesser = Shape.from_facts(facts), Shape.from_facts(draft or {})
    if shape is None or not told.context:
        return Verdict()
    machine = machine or machine_memory()
    if not machine.available:
        return Verdict()
    cache = _cache(told.args, told.context, private=private)
    if judge(estimate(shape, cache, _ALL_TYPES, draft=guesser), machine.available) is Fit.WELL:
        return Verdict()  # without asking which kernels this machine has
    need = estimate(shape, cache, repacked_types(), draft=guesser)
    fit = judge(need, machine.available)
    args = ("--no-repack",) if need.copied and fit is not Fit.WELL else ()
    if fit in (Fit.WELL, Fit.MAPPED):
        return Verdict(args=args)
    if fit is Fit.FROM_DISK:
        slow = "the weights are read from the disk again and again, which is slow"
        return Verdict(args=args, notice=f"{_compared(need, machine)}: {slow}")
    short = _Shortage(shape=shape, draft=guesser, cache=cache, parts=told.slots, machine=machine)
    if force:
        fits = short.fitting_context()
        return Verdict(
            args=args,
            notice=f"{_compared(need, machine)}: the context does not fit, so the system may swap or end it"
            + (f"; -c {fits} fits" if fits else ""),
        )
    raise QwenfileError(str(short), short.remedy())


def fit(
    facts: Mapping[str, Any],
    draft: Mapping[str, Any] | None,
    engine_args: Sequence[str],
    *,
    context: int,
    private: bool,
    free: Sequence[int],
) -> tuple[str, ...]:
    """Whether the engine has to find out how many layers fit the GPUs, for which it reads the model twice.

    Not if all is certain to fit into the one GPU's `free` bytes: a GPU may hold the attention's scores, too, and
    llama.cpp leaves 1 GiB alone."""
    shape = Shape.from_facts(facts)
    if shape is None or not context or len(free) != 1:
        return ()
    cache = _cache(engine_args, context, private=private)
    scores = shape.heads * cache.ubatch * cache.cells * 4
    need = estimate(shape, cache, draft=Shape.from_facts(draft or {})).total + scores
    return ("--fit", "off") if _GPU_FACTOR * need + _GPU_LEFT <= free[0] else ()


def kept_prompts(facts: Mapping[str, Any], engine_args: Sequence[str], *, context: int) -> tuple[str, ...]:
    """How much memory a server may keep conversations in that have lost their slot: as much as its context takes.

    llama.cpp's own limit is 8 GiB whatever the model, which a server fills in the course of time.
    """
    shape = Shape.from_facts(facts)
    size = estimate(shape, _cache(engine_args, context, private=False)).cache if shape and context else _KEPT_UNKNOWN
    return ("--cache-ram", str(max(_KEPT_LEAST, size) // 2**20))


def _cache(args: Sequence[str], context: int, *, private: bool) -> Cache:
    """What the KV cache will be made of, by the engine's flags."""
    values = dict(itertools.pairwise(args))

    def given(names: tuple[str, ...], default: str) -> str:
        return next((values[name] for name in names if name in values), default)

    keys, vals = given(("-ctk", "--cache-type-k"), "f16"), given(("-ctv", "--cache-type-v"), "f16")
    slots = given(("-np", "--parallel"), "1" if private else str(_PUBLIC_SLOTS))
    ubatch = given(("-ub", "--ubatch-size"), str(UBATCH))
    return Cache(
        context=context,
        keys=keys if keys in CACHE_TYPES else "f16",
        values=vals if vals in CACHE_TYPES else "f16",
        slots=int(slots) if slots.isdigit() else _PUBLIC_SLOTS,
        ubatch=int(ubatch) if ubatch.isdigit() and int(ubatch) else UBATCH,
    )


@dataclass(frozen=True, kw_only=True)
class _Shortage:
    """Too little memory, in words. `parts`: conversations that have equal parts of the cache."""

    shape: Shape
    draft: Shape | None
    cache: Cache
    parts: int
    machine: MachineMemory

    def __str__(self) -> str:
        own, need = estimate(self.shape, self.cache), estimate(self.shape, self.cache, draft=self.draft)
        each = f"{self.cache.context // self.parts:,} tokens of context"
        context = f"{self.parts} x {each}" if self.parts > 1 else each
        named = [("weights", own.weights), (context, own.cache), ("computing", own.compute)]
        if self.draft:
            named.append(("the draft model", need.total - own.total))
        listed = ", ".join(f"{name} {_size(count)}" for name, count in named)
        return f"this needs {_size(need.total)} of memory ({listed}); {_size(self.machine.available)} are free"

    def remedy(self) -> str:
        """What would do, best first."""
        context, parts = self.fitting_context(), self._fitting_parts()
        ways = [f"-c {context} fits"] if context else []
        if parts:
            ways.append(f"--parallel {parts} fits")
        if self.draft:
            ways.append("--no-draft leaves the draft model out")
        if not context and not parts:
            ways.append("close other programs")
        if self.cache.keys == "f16":
            ways.append("-ctk q8_0 -ctv q8_0 halves the context's part")
        return "; ".join([*ways, "--force goes on anyway"])

    def fitting_context(self) -> int:
        """Tokens of each conversation, as for `-c`."""
        return largest_context(self.shape, self.cache, self.machine.available, draft=self.draft, parts=self.parts)

    def _fitting_parts(self) -> int:
        """How many conversations of this length fit, if fewer do."""
        each = self.cache.context // self.parts
        for parts in range(self.parts - 1, 0, -1):
            cache = replace(self.cache, context=each * parts, slots=parts)
            if judge(estimate(self.shape, cache, draft=self.draft), self.machine.available) is not Fit.NOT:
                return parts
        return 0


def _compared(need: Need, machine: MachineMemory) -> str:
    free, weights, more = map(_size, (machine.available, need.in_file, need.own))
    return f"{free} of memory are free for weights of {weights} and {more} more"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
