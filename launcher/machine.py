"""How many processor threads serve a model best on this machine. Imported by the launcher only."""

import math
import os
import re
from pathlib import Path

_FAST = 0.7  # of the highest capacity: big cores beside one that is bigger still, not the little ones


def usable_cores(root: Path = Path("/")) -> int:
    """Physical cores that this process may use: its CPU affinity, one thread a core, within the cgroup's quota; on a
    processor with cores of two kinds, those that are fast, if it may use any.

    0 where the system does not tell (then the engine decides). `root`: where /sys and /proc are, for tests.
    More threads than cores slow the engine down: they wait for each other in spinning barriers.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(root, cpu) for cpu in allowed & _performance(root, allowed) or allowed}
    quota = _quota(root)
    return max(1, math.ceil(min(len(cores), quota)))


def kernels() -> str:
    """The CPU kernels that the engine has chosen (`zen4`, `haswell`, ...); "" where the system doesn't tell."""
    found = re.search(r"ggml-cpu-(\w+)\.so", _read(Path("/proc/self/maps")))
    return found[1] if found else ""


def _performance(root: Path, allowed: set[int]) -> set[int]:
    """The CPUs of the fast cores; all where there is one kind. A batch waits for its slowest thread.

    Intel's hybrids list them as a device of their own; on Arm each CPU has a capacity, 1024 the highest.
    """
    listed = _read(root / "sys/devices/cpu_core/cpus")
    if listed:
        return _cpu_list(listed)
    capacities = {cpu: _read(root / f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity") for cpu in allowed}
    known = {cpu: int(text) for cpu, text in capacities.items() if text.isdigit()}
    return {cpu for cpu, capacity in known.items() if capacity >= _FAST * max(known.values())}


def _cpu_list(text: str) -> set[int]:
    """`0-3,8` as the kernel writes it."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def _siblings(root: Path, cpu: int) -> str:
    """The CPUs that share a core with `cpu`, as the kernel writes them; `cpu` alone where it doesn't."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    return _read(topology / "thread_siblings_list") or str(cpu)


def _quota(root: Path) -> float:
    """CPUs' worth of time that the cgroups (version 2, else 1) grant; infinite without a limit."""
    groups = root / "sys/fs/cgroup"
    quota = math.inf
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, _, path = line.partition("::")
        if hierarchy == "0":
            own = Path(path.strip("/"))
            for folder in (own, *own.parents):
                granted, _, period = _read(groups / folder / "cpu.max").partition(" ")
                quota = min(quota, _ratio(granted, period))
    old = groups / "cpu"
    return min(quota, _ratio(_read(old / "cpu.cfs_quota_us"), _read(old / "cpu.cfs_period_us")))


def _ratio(granted: str, period: str) -> float:
    """Microseconds granted per period; infinite for `max`, -1 or nothing readable."""
    if granted.isdigit() and period.isdigit() and int(period):
        return int(granted) / int(period) or math.inf
    return math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
