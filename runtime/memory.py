"""How much memory a model needs at a context size, and how much this machine has. Everybody may import it.

The bundler shows the need (`qwenfile inspect`), the launcher holds it against what is free before it loads anything.
The numbers are what llama.cpp allocates on a CPU with flash attention, its default, checked by tests against its log.
"""

import enum
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from runtime.presets import MINIMUM_CONTEXT

UBATCH = 512  # tokens computed at a time, llama.cpp's default
CELLS = 256  # llama.cpp rounds a context up to a multiple of this
# Bytes per value of the KV cache's types: block bytes / values per block (ggml-common.h).
CACHE_TYPES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
# Weights of these types are rearranged when they are loaded: a copy in memory in place of the mapped file
# (ggml-cpu/repack.cpp, ggml_repack_get_optimal_repack_type).
_REPACKED_AVX2 = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
_REPACKED_AVX512 = frozenset({"Q2_K"})
_REPACKED_ARM = frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"})


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a model that memory depends on. `weights`: bytes of all tensors; `matrices`: bytes of those that
    are multiplied with, by type; `tied`: bytes of the embedding if it is the output too, by type."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    key_length: int
    value_length: int
    feed_forward: int
    vocabulary: int
    weights: int
    experts_used: int = 0
    expert_feed_forward: int = 0
    matrices: Mapping[str, int] = field(default_factory=dict)
    tied: Mapping[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """Back from the manifest; None if it holds none, or one of another version."""
        try:
            return cls(**facts["shape"])
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True, kw_only=True)
class Need:
    """Memory in bytes. `mapped`: weights that stay in their file and that the system may drop and read again;
    `copied`: weights rearranged into memory; `cache`: keys and values; `compute`: everything between two layers;
    `twice`: weights that are both mapped and copied."""

    mapped: int
    copied: int
    cache: int
    compute: int
    twice: int = 0

    @property
    def weights(self) -> int:
        """Mapped and copied."""
        return self.mapped + self.copied

    @property
    def own(self) -> int:
        """What cannot be dropped even if the weights stay mapped (`--no-repack`)."""
        return self.cache + self.compute

    @property
    def in_file(self) -> int:
        """The weights if all stay mapped, which is their size."""
        return self.weights - self.twice

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.own

    def __add__(self, other: "Need") -> "Need":
        return Need(**{name: size + getattr(other, name) for name, size in asdict(self).items()})


@dataclass(frozen=True, kw_only=True)
class Cache:
    """What a KV cache is made of: tokens, and the types of keys and values."""

    context: int
    keys: str = "f16"
    values: str = "f16"
    slots: int = 1
    ubatch: int = UBATCH

    @property
    def cells(self) -> int:
        """Tokens as llama.cpp rounds them."""
        return -(-self.context // CELLS) * CELLS


def estimate(shape: Shape, cache: Cache, repacked: frozenset[str] = frozenset(), *, draft: Shape | None = None) -> Need:
    """What the engine allocates. `repacked`: see `repacked_types`; `draft`: a model that guesses ahead beside it, with
    as large a cache, F16 whatever the model's own is."""
    if draft:
        return estimate(shape, cache, repacked) + estimate(draft, replace(cache, keys="f16", values="f16"), repacked)
    per_token = shape.kv_heads * (
        shape.key_length * CACHE_TYPES[cache.keys] + shape.value_length * CACHE_TYPES[cache.values]
    )
    copied = sum(size for kind, size in shape.matrices.items() if kind in repacked)
    # the embedding is looked up in its file and multiplied with as a copy
    copied_twice = sum(size for kind, size in shape.tied.items() if kind in repacked)
    return Need(
        mapped=shape.weights - copied,
        copied=copied + copied_twice,
        cache=math.ceil(cache.cells * shape.layers * per_token),
        compute=_compute(shape, cache),
        twice=copied_twice,
    )


def _compute(shape: Shape, cache: Cache) -> int:
    """The widest moment of a batch, which is in the feed-forward part: gate, up and their product (for a mixture, of
    every expert in use, and each one's output), beside what is kept around it: the residual, the attention's output,
    its norm and the query's buffer. Then the mask (F16) over the whole context, and the last layer's logits."""
    tokens = min(cache.ubatch, cache.cells)
    if shape.experts_used:
        inner = shape.experts_used * (3 * shape.expert_feed_forward + shape.hidden)
    else:
        inner = 3 * shape.feed_forward
    row = inner + 3 * shape.hidden + shape.heads * shape.key_length
    return tokens * (row * 4 + cache.cells * 2) + cache.slots * shape.vocabulary * 4


class Fit(enum.Enum):
    """How a model runs in so much memory."""

    WELL = "well"
    MAPPED = "with all weights mapped, none rearranged"
    FROM_DISK = "the weights are larger than memory, so they are read again and again"
    NOT = "not"


def judge(need: Need, memory: int) -> Fit:
    """How a model with this `need` runs in `memory` bytes. Weights alone may be larger; with a context that doesn't fit
    beside weights that do, a smaller one is the better choice."""
    if need.total <= memory:
        return Fit.WELL
    if need.in_file + need.own <= memory:
        return Fit.MAPPED
    return Fit.FROM_DISK if need.in_file > memory >= need.own else Fit.NOT


def largest_context(shape: Shape, cache: Cache, memory: int, *, draft: Shape | None = None, parts: int = 1) -> int:
    """The most tokens, in steps of 256 up to those of `cache`, with which the model runs in `memory` bytes; 0 if not
    even the least do. `parts`: conversations that share the cache; the tokens are those of each."""
    low, high = 0, cache.context // parts // CELLS
    while low < high:
        middle = (low + high + 1) // 2
        need = estimate(shape, replace(cache, context=middle * CELLS * parts), draft=draft)
        low, high = (low, middle - 1) if judge(need, memory) is Fit.NOT else (middle, high)
    return low * CELLS if low * CELLS >= MINIMUM_CONTEXT else 0


def repacked_types(root: Path = Path("/"), machine: str = "") -> frozenset[str]:
    """The types of weights that this machine's CPU kernels rearrange. `root`: where /proc is, for tests."""
    machine = (machine or _machine()).lower()
    if machine in ("arm64", "aarch64"):
        return _REPACKED_ARM
    flags = next((line.split() for line in _lines(root / "proc/cpuinfo") if line.startswith("flags")), None)
    if flags is None:
        return _REPACKED_AVX2  # no way to ask here; nearly every x86-64 has it
    found = _REPACKED_AVX2 if "avx2" in flags else frozenset[str]()
    return found | _REPACKED_AVX512 if "avx512f" in flags else found


def _machine() -> str:
    if hasattr(os, "uname"):
        return os.uname().machine
    import platform

    return platform.machine()


@dataclass(frozen=True, kw_only=True)
class MachineMemory:
    """Bytes of memory; 0 where the system doesn't say."""

    total: int
    available: int


def machine_memory(root: Path = Path("/")) -> MachineMemory:
    """What this process may use: the system's memory, or what its cgroups leave of it. `root`: for tests."""
    lines = (line.split() for line in _lines(root / "proc/meminfo"))
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1 and words[1].isdigit()}
    total, available = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    if not total and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if not total and os.name == "nt":
        total, available = _windows_memory()
    for limit, used in _cgroup_limits(root):
        if not total or limit < total:
            total = limit
            available = min(available, limit - used) if available else limit - used
    return MachineMemory(total=total, available=max(available, 0))


def _windows_memory() -> tuple[int, int]:
    """Total and available bytes (MEMORYSTATUSEX of Microsoft's sysinfoapi.h)."""
    import ctypes

    status = (ctypes.c_uint64 * 8)(64)  # its length and the load in per cent share the first eight bytes
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(status):  # type: ignore[attr-defined,unused-ignore]
        return 0, 0
    return status[1], status[2]


def _cgroup_limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, used without what can be dropped) of each cgroup around this process."""
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    for version, folder in cgroups(root, "memory"):
        limit, used = (_number(folder / name) for name in names[version][:2])
        if limit is not None and used is not None:
            stat = dict(row.split(" ", 1) for row in _lines(folder / "memory.stat") if " " in row)
            yield limit, used - int(stat.get(names[version][2], "0"))


def cgroups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """(version, folder) of the cgroups around this process in which `controller` may set limits, its own first."""
    groups = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        hierarchy, controllers, path = [*line.split(":", 2), "", ""][:3]
        own = Path(path.strip("/"))
        if hierarchy == "0":
            version, base = 2, groups
        elif controller in controllers.split(","):
            version, base = 1, groups / controller
        else:
            continue
        yield from ((version, base / folder) for folder in (own, *own.parents))


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []
