"""Which devices are to compute beside the processor: what was asked for, held against what works here. Launcher only.

Nothing asked: all layers that fit go to a GPU with memory of its own. Asked for a GPU (`-ngl N`): integrated ones
count, too, and if none is usable one notice says why. Named (`--gpu vulkan`, `--device Vulkan0`): that, or an error.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.drivers import may_have_gpu
from launcher.options import LaunchOptions
from launcher.verdict import Tried, Verdict, judge
from runtime.engine import Device, Engine
from runtime.errors import QwenfileError, UsageError
from runtime.layers import Layers

# Backends by how fast they are where several work; their names for people; and how their devices' names begin.
BACKENDS = ("cuda", "metal", "vulkan")
TITLES = {"cuda": "CUDA", "metal": "Metal", "vulkan": "Vulkan"}
_PREFIXES = {"cuda": "cuda", "metal": "mtl", "vulkan": "vulkan"}
_DISCRETE = "gpu"
_PROCESSOR = (("none",), ("cpu",))  # --device: llama.cpp's word, and the processor's name in --list-devices
# llama.cpp's flags by which a person says which weights go where.
_PLACING = ("-ot", "--override-tensor", "-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command line says about GPUs. `backend` and `devices` (names) are empty for any; `layers` as given;
    `placed`: weights are sent to places of their own."""

    off: bool = False
    backend: str = ""
    devices: tuple[str, ...] = ()
    layers: str | None = None
    placed: bool = False

    @classmethod
    def of(cls, options: LaunchOptions) -> "Wish":
        """Raises UsageError for contradictions."""
        names = tuple(filter(None, (name.strip() for name in (options.device or "").split(","))))
        processor = tuple(map(str.lower, names)) in _PROCESSOR
        backend = options.gpu if options.gpu in BACKENDS else ""
        wish = cls(
            off=options.gpu == "off" or processor or options.gpu_layers == "0",
            backend=backend,
            devices=() if processor else names,
            layers=options.gpu_layers,
            placed=any(flag in _PLACING for flag in options.engine_args),
        )
        alien = [name for name in wish.devices if backend and not name.lower().startswith(_PREFIXES[backend])]
        if (options.gpu == "off" and wish.devices) or (backend and processor) or alien:
            raise _contradiction(f"--gpu {options.gpu}", f"--device {options.device}")
        if wish.named and wish.layers == "0":
            raise _contradiction(str(wish), "-ngl 0")
        return wish

    @property
    def named(self) -> bool:
        """Whether nothing else will do."""
        return bool(self.backend or self.devices)

    @property
    def asked(self) -> bool:
        return not self.off and (self.named or self.layers is not None)

    def __str__(self) -> str:
        if self.devices:
            return f"--device {','.join(self.devices)}"
        return f"--gpu {self.backend}" if self.backend else f"-ngl {self.layers}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The devices to use, none for the processor alone; `notice`: what to tell about it, in one line. `given_up`: a
    backend is loaded and must not be used."""

    wish: Wish
    devices: tuple[Device, ...] = ()
    notice: str = ""
    given_up: bool = False

    @property
    def args(self) -> tuple[str, ...]:
        """The engine's arguments."""
        if not self.devices:
            return ("--device", "none") if self.given_up else ()
        args = ("--device", ",".join(device.name for device in self.devices))
        return (*args, "-ngl", self.wish.layers) if self.wish.layers else args


def _contradiction(one: str, other: str) -> UsageError:
    return UsageError(f"{one} and {other} contradict each other", "choose one")


def choose(options: LaunchOptions, engine: Engine, cache: Path, env: Mapping[str, str]) -> Choice:
    """Load the backend to use, if there is one, and say which of its devices. Raises UsageError, QwenfileError."""
    wish = Wish.of(options)
    carried = carried_backends(engine.folder)
    if wish.off or not (wish.asked or (carried and may_have_gpu(env))):
        return Choice(wish=wish)
    reasons = []
    for backends in _candidates(wish, carried):
        verdicts = {backend: _judged(backend, carried, engine, cache, env) for backend in backends}
        names = wanted(wish, [device for verdict in verdicts.values() for device in verdict.usable])
        if names:
            for backend in backends:
                engine.load_backend(backend)
            found = {device.name: device for device in engine.devices()}
            return Choice(wish=wish, devices=tuple(found[name] for name in names if name in found))
        reasons += [f"{TITLES[backend]}: {why_not(wish, verdict)}" for backend, verdict in verdicts.items()]
    if wish.named:
        raise _refused(wish, reasons)
    told = "; ".join(reasons) or "this bundle carries no GPU backend"
    return Choice(wish=wish, notice=f"{wish}: computing on the CPU. {told}" if wish.asked else "")


def carried_backends(folder: Path) -> tuple[str, ...]:
    """The GPU backends in the engine's folder, best first."""
    return tuple(
        name
        for name in BACKENDS
        if any((folder / file).is_file() for file in (f"libggml-{name}.so", f"ggml-{name}.dll"))
    )


def wanted(wish: Wish, usable: Sequence[Tried]) -> tuple[str, ...]:
    """The names of the devices to use, none if they don't fulfil the wish. GPUs with memory of their own go first."""
    if wish.devices:
        by_name = {device.name.lower(): device.name for device in usable}
        found = [by_name.get(name.lower(), "") for name in wish.devices]
        return tuple(found) if all(found) else ()
    discrete = tuple(device.name for device in usable if device.kind == _DISCRETE)
    return discrete or tuple(device.name for device in usable if wish.asked)


def why_not(wish: Wish, verdict: Verdict) -> str:
    """Why a backend's devices don't do."""
    if verdict.reason or not verdict.devices:
        return verdict.reason or "no device"
    return "it has " + ", ".join(f"{device.name} ({device.description})" for device in verdict.devices)


def _candidates(wish: Wish, carried: Sequence[str]) -> Iterable[Sequence[str]]:
    """Backends to try one after the other; those of named devices together."""
    if wish.backend:
        return [(wish.backend,)]
    if wish.devices:
        named = [name for name in BACKENDS if any(part.lower().startswith(_PREFIXES[name]) for part in wish.devices)]
        return [named or carried]
    return [(name,) for name in carried]


def _judged(backend: str, carried: Sequence[str], engine: Engine, cache: Path, env: Mapping[str, str]) -> Verdict:
    if backend not in carried:
        return Verdict(reason="this bundle does not carry it")
    return judge(backend, engine.folder, cache, env)


def _refused(wish: Wish, reasons: Sequence[str]) -> QwenfileError:
    told = "; ".join(reasons) or "this bundle carries no GPU backend"
    return QwenfileError(f"{wish} cannot be used. {told}", "--list-devices shows what can")


def loaded(choice: Choice, layers: Layers) -> str:
    """What to tell, in one line, when the model is loaded; "" if all is as it was wished.

    Raises QwenfileError if a GPU was named and holds nothing."""
    if not choice.devices or not layers.total or choice.wish.placed:
        return ""  # where the person has placed weights, memory is not why layers are elsewhere
    names = " and ".join(f"{device.name} ({device.description.strip()})" for device in choice.devices)
    free = _size(sum(device.memory_free for device in choice.devices))
    if not layers.offloaded:
        reason = f"not enough memory on {names} for a layer of this model and its context: {free} were free"
        if choice.wish.named:
            raise QwenfileError(f"{choice.wish} cannot be used: {reason}", "try a smaller -c, or -ctk q8_0 -ctv q8_0")
        return f"computing on the CPU: {reason}"
    whole = layers.offloaded == layers.total
    limited = (choice.wish.layers or "").isdecimal() and int(choice.wish.layers or 0) <= layers.offloaded
    if whole or limited:
        return ""
    there = _size(sum(share.bytes for share in layers.beside_cpu))
    return (
        f"{layers.offloaded} of {layers.total} layers are on {names}, {there} of weights: {free} were "
        "free, for the context, too; the rest is computed on the CPU"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
