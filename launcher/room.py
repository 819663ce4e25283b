"""Hold the memory that a model needs against what is free, before it is loaded. Imported by the launcher only."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import QwenfileError
from runtime.memory import (
    CACHE_TYPES,
    UBATCH,
    Cache,
    MachineMemory,
    Need,
    Shape,
    estimate,
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
    engine_args: Sequence[str],
    *,
    context: int,
    private: bool,
    force: bool,
    machine: MachineMemory | None = None,
) -> Verdict:
    """Raises QwenfileError, with the numbers and what would fit, if there is too little memory and no `force`.

    `facts`: the manifest's about the model; `draft`: about the draft model in use; `engine_args`: what decides the KV
    cache is looked for in them; `context`: tokens, 0 if unknown. Weights that are larger than what is free run from
    their file, with a notice. Where the system doesn't tell, nothing is checked.
    """
    shape = Shape.from_facts(facts)
    if shape is None or not context:
        return Verdict()
    machine = machine or machine_memory()
    if not machine.available:
        return Verdict()
    cache = _cache(engine_args, context, private=private)
    extra = _draft_need(draft, context)
    upper = estimate(shape, cache, _ALL_TYPES)
    if upper.total + extra.total <= machine.available:
        return Verdict()  # without asking which kernels this machine has
    copied = estimate(shape, cache, repacked_types())
    if copied.total + extra.total <= machine.available:
        return Verdict()
    need = estimate(shape, cache)  # with weights that stay as they are in their file
    args = ("--no-repack",) if copied.copied else ()
    if need.total + extra.total <= machine.available:
        return Verdict(args=args)
    weights, own = need.weights + extra.weights, need.own + extra.own
    mapped = weights > machine.available
    if force or (mapped and own <= machine.available):
        return Verdict(args=args, notice=_slow_notice(weights, own, machine))
    left = machine.available - (extra.own if mapped else extra.total)
    fits = largest_context(shape, cache, left, mapped=mapped)
    raise QwenfileError(_shortage(need, extra, machine, context), _remedy(fits, cache))


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
    need = estimate(shape, cache).total + _draft_need(draft, context).total + scores
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


def _draft_need(draft: Mapping[str, Any] | None, context: int) -> Need:
    shape = Shape.from_facts(draft) if draft else None
    return estimate(shape, Cache(context=context)) if shape else Need(mapped=0, copied=0, cache=0, compute=0)


def _shortage(need: Need, draft: Need, machine: MachineMemory, context: int) -> str:
    parts = [("weights", need.weights), (f"{context:,} tokens of context", need.cache), ("computing", need.compute)]
    if draft.total:
        parts.append(("the draft model", draft.total))
    listed = ", ".join(f"{name} {_size(count)}" for name, count in parts)
    return f"this needs {_size(need.total + draft.total)} of memory ({listed}); {_size(machine.available)} are free"


def _remedy(fits: int, cache: Cache) -> str:
    ways = [f"-c {fits} fits"] if fits else ["close other programs"]
    if cache.keys == "f16":
        ways.append("-ctk q8_0 -ctv q8_0 halves the context's part")
    return "; ".join([*ways, "--force goes on anyway"])


def _slow_notice(weights: int, own: int, machine: MachineMemory) -> str:
    return (
        f"{_size(machine.available)} of memory are free for weights of {_size(weights)} and {_size(own)} more: "
        "the weights are read from the disk again and again, which is slow"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
