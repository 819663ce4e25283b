"""Threads and memory of the machine, read from /sys and /proc as they look on machines that are not here."""

import os
import struct
from pathlib import Path

import pytest

from launcher import machine
from runtime.memory import MachineMemory, machine_memory, repacked_types

GB = 10**9


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cpus")
def test_on_intels_hybrids_the_fast_cores_count(tmp_path: Path) -> None:
    put(tmp_path, {"sys/devices/cpu_core/cpus": "0-3", "sys/devices/cpu_atom/cpus": "4-7"})
    for cpu, siblings in enumerate(("0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7")):
        put(tmp_path, {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": siblings})
    assert machine.usable_cores(tmp_path) == 2


@pytest.mark.usefixtures("eight_cpus")
def test_on_arm_the_big_cores_count(tmp_path: Path) -> None:
    for cpu, capacity in enumerate((250, 250, 250, 250, 800, 800, 800, 1024)):
        put(tmp_path, {f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity": str(capacity)})
    assert machine.usable_cores(tmp_path) == 4


def test_a_process_bound_to_slow_cores_uses_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6}, raising=False)
    put(tmp_path, {"sys/devices/cpu_core/cpus": "0-3"})
    assert machine.usable_cores(tmp_path) == 3


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize("group", ["x", "x/y"])
def test_a_quota_of_a_cgroup_of_version_1(tmp_path: Path, group: str) -> None:
    put(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/z\n4:cpu,cpuacct:/x/y",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            f"sys/fs/cgroup/cpu/{group}/cpu.cfs_quota_us": "200000",
            f"sys/fs/cgroup/cpu/{group}/cpu.cfs_period_us": "100000",
        },
    )
    assert machine.usable_cores(tmp_path) == 2


def core(mask: int, *, efficiency: int = 0) -> bytes:
    """A record of SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX as 64-bit Windows writes it."""
    return struct.pack("<IIBB20xHQH6x", 0, 48, 1, efficiency, 1, mask, 0)


def test_cores_as_windows_tells_them() -> None:
    smt = core(0b0011) + core(0b1100)
    assert machine.count_cores(smt, 0b1111) == 2
    assert machine.count_cores(smt, 0b0010) == 1
    assert machine.count_cores(smt + smt, 0) == 4  # in two groups of processors
    hybrid = core(0b11, efficiency=1) + core(0b100) + core(0b1000)
    assert machine.count_cores(hybrid, 0b1111) == 1
    assert machine.count_cores(hybrid, 0b1100) == 2
    assert machine.count_cores(b"", 1) == 0


MEMINFO = "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:    8000000 kB"


def test_memory_of_a_machine(tmp_path: Path) -> None:
    put(tmp_path, {"proc/meminfo": MEMINFO})
    assert machine_memory(tmp_path) == MachineMemory(total=16_384_000_000, available=8_192_000_000)


def test_a_cgroup_of_version_2_limits_it(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/memory.max": str(4 * GB),
            "sys/fs/cgroup/a/memory.current": str(3 * GB),
            "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {GB}",
            "sys/fs/cgroup/a/b/memory.max": "max",
            "sys/fs/cgroup/a/b/memory.current": "7",
        },
    )
    assert machine_memory(tmp_path) == MachineMemory(total=4 * GB, available=2 * GB)


def test_a_cgroup_of_version_1_limits_it(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "3:cpu,cpuacct:/x\n4:memory:/x",
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes": str(2 * GB),
            "sys/fs/cgroup/memory/x/memory.usage_in_bytes": str(GB),
        },
    )
    assert machine_memory(tmp_path) == MachineMemory(total=2 * GB, available=GB)


def test_weights_are_rearranged_for_the_kernels_of_this_machine(tmp_path: Path) -> None:
    put(tmp_path, {"proc/cpuinfo": "flags : fpu sse4_2"})
    assert repacked_types(tmp_path, "x86_64") == frozenset()
    put(tmp_path, {"proc/cpuinfo": "flags : fpu avx2"})
    assert repacked_types(tmp_path, "x86_64") == {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}
    put(tmp_path, {"proc/cpuinfo": "flags : fpu avx2 avx512f"})
    assert "Q2_K" in repacked_types(tmp_path, "x86_64")
    assert "Q8_0" in repacked_types(tmp_path, "aarch64")
