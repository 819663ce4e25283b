"""How much memory a model needs at a context size, and how much this machine has. Everybody may import it.

The bundler shows the need (`qwenfile inspect`), the launcher holds it against what is free before it loads anything.
The numbers are what llama.cpp allocates on a CPU with flash attention, its default, checked by tests against its log.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
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
    `copied`: weights rearranged into memory; `cache`: keys and values; `compute`: everything between two layers."""

    mapped: int
    copied: int
    cache: int
    compute: int

    @property
    def weights(self) -> int:
        """Mapped and copied."""
        return self.mapped + self.copied

    @property
    def own(self) -> int:
        """What cannot be dropped even if the weights stay mapped (`--no-repack`)."""
        return self.cache + self.compute

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.own


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


def estimate(shape: Shape, cache: Cache, repacked: frozenset[str] = frozenset()) -> Need:
    """What the engine allocates. `repacked`: see `repacked_types`."""
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


def largest_context(shape: Shape, cache: Cache, room: int, *, mapped: bool) -> int:
    """The most tokens, in steps of 256, whose need is at most `room` bytes; 0 if not even the least fit.

    `mapped`: the weights stay in their file and don't count."""
    low, high = 0, cache.context // CELLS
    while low < high:
        middle = (low + high + 1) // 2
        tried = Cache(context=middle * CELLS, keys=cache.keys, values=cache.values, slots=cache.slots)
        need = estimate(shape, tried)
        low, high = (middle, high) if (need.own if mapped else need.total) <= room else (low, middle - 1)
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
    """(limit, used without what can be dropped) of each cgroup around this process, version 2 or 1."""
    groups = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        hierarchy, controllers, path = [*line.split(":", 2), "", ""][:3]
        own = Path(path.strip("/"))
        if hierarchy == "0":
            names, base = ("memory.max", "memory.current", "inactive_file"), groups
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = groups / "memory"
        else:
            continue
        for folder in (own, *own.parents):
            limit, used = (_number(base / folder / name) for name in names[:2])
            if limit is not None and used is not None:
                stat = dict(row.split(" ", 1) for row in _lines(base / folder / "memory.stat") if " " in row)
                yield limit, used - int(stat.get(names[2], "0"))


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []
