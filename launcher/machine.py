"""How many processor threads serve a model best on this machine. Imported by the launcher only."""

import math
import os
import re
import struct
from pathlib import Path

from runtime.memory import cgroups

_FAST = 0.7  # of the highest capacity: big cores beside one that is bigger still, not the little ones
_PROCESSOR_CORE = 0  # RelationProcessorCore of winnt.h
# Relationship, Size, Flags, EfficiencyClass (higher is faster), Reserved, GroupCount, then the first group's mask.
_CORE = struct.Struct("<IIxB20xHQ")


def usable_cores(root: Path = Path("/")) -> int:
    """Physical cores that this process may use: its CPU affinity, one thread a core, within the cgroup's quota; on a
    processor with cores of two kinds, those that are fast, if it may use any.

    0 where the system does not tell (then the engine decides). `root`: where /sys and /proc are, for tests.
    More threads than cores slow the engine down: they wait for each other in spinning barriers.
    """
    if not hasattr(os, "sched_getaffinity"):
        return _windows_cores() if os.name == "nt" else _mac_cores()
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(root, cpu) for cpu in allowed & _performance(root, allowed) or allowed}
    quota = _quota(root)
    return max(1, math.ceil(min(len(cores), quota)))


def kernels() -> str:
    """The CPU kernels that the engine has chosen (`zen4`, `haswell`, ...); "" where the system doesn't tell."""
    found = re.search(r"ggml-cpu-(\w+)\.so", _read(Path("/proc/self/maps")))
    return found[1] if found else ""


def _mac_cores() -> int:
    """Physical cores, of Apple's two kinds the fast ones; what the engine itself would take. 0 if macOS won't tell."""
    import ctypes

    system, count = ctypes.CDLL(None), ctypes.c_int32()
    if not hasattr(system, "sysctlbyname"):
        return 0
    for name in (b"hw.perflevel0.physicalcpu", b"hw.physicalcpu"):
        size = ctypes.c_size_t(ctypes.sizeof(count))
        if system.sysctlbyname(name, ctypes.byref(count), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0:
            return count.value
    return 0


def _windows_cores() -> int:
    """Physical fast cores within the process's affinity; 0 if Windows won't tell. The engine itself, built by MinGW's
    rules, would take half of all logical processors, whether they share cores or not."""
    import ctypes

    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    size = ctypes.c_uint32()
    kernel.GetLogicalProcessorInformationEx(_PROCESSOR_CORE, None, ctypes.byref(size))
    records = ctypes.create_string_buffer(size.value)
    if not kernel.GetLogicalProcessorInformationEx(_PROCESSOR_CORE, records, ctypes.byref(size)):
        return 0
    allowed, whole = ctypes.c_size_t(), ctypes.c_size_t()
    kernel.GetProcessAffinityMask(ctypes.c_void_p(-1), ctypes.byref(allowed), ctypes.byref(whole))
    return count_cores(records.raw, allowed.value)


def count_cores(records: bytes, allowed: int) -> int:
    """The fast cores among records of SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX (winnt.h) with a processor in the mask
    `allowed`; 0 is for a process in several groups of processors, which have a mask each. The slowest of several
    classes are left out, unless there are no others."""
    classes: list[int] = []
    at = 0
    while at + _CORE.size <= len(records):
        _relationship, length, kind, _groups, mask = _CORE.unpack_from(records, at)
        if mask & allowed or not allowed:
            classes.append(kind)
        at += max(length, _CORE.size)
    fast = sum(kind > min(classes) for kind in classes)
    return fast or len(classes)


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
    quota = math.inf
    for version, folder in cgroups(root, "cpu"):
        if version == 1:
            granted, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        else:
            granted, _, period = _read(folder / "cpu.max").partition(" ")
        quota = min(quota, _ratio(granted, period))
    return quota


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
