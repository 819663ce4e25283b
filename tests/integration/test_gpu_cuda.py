"""A bundle with CUDA in Vulkan's place: what it carries, and what it says where NVIDIA's driver is not, or is no use.

The engine takes an hour of CUDA's compiler, which is too much to be made by a test: these run where one was built.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from launcher.drivers import missing_library
from runtime.bundle import Bundle
from runtime.paths import host_target
from tests.integration.conftest import Runner, succeed
from tests.integration.test_gpu import ASK, CRASH, make_library, shares, told


@pytest.fixture(scope="module")
def cuda_bundle(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with the newest CUDA engine, made as the README says."""
    pointer = Path(run.env["QWENFILE_BUILD_CACHE"]) / "engine" / f"{host_target()}-cuda.current"
    if not pointer.is_file():
        pytest.skip("no CUDA engine was built here (an hour: build_scripts/build_native.py --backend cuda)")
    succeed(run.qwenfile("base", "build", "--backend", "cuda"), ["base", "build"])
    path = tmp_path_factory.mktemp("cuda") / "cuda.run"
    succeed(run.qwenfile("build", "--demo", "--backend", "cuda", "-o", path), ["build"])
    return path


needs_no_driver = pytest.mark.skipif(missing_library("cuda") == "", reason="this machine has NVIDIA's driver")


def test_it_carries_what_the_backend_is_linked_to_but_not_the_driver(run: Runner, cuda_bundle: Path) -> None:
    names = {member.name.removeprefix("engine/") for member in Bundle.open(cuda_bundle).manifest.prefixed("engine/")}
    assert {"libggml-cuda.so"} <= names
    assert not any("vulkan" in name for name in names)
    for library in ("libcudart.so", "libcublas.so", "libcublasLt.so"):
        assert any(name.startswith(library) for name in names), names
    assert not any(name.startswith("libcuda.so") for name in names)
    rows = run.qwenfile("inspect", cuda_bundle).out.splitlines()
    assert "cuda" in next(row for row in rows if row.startswith("GPU backend")).lower()


@needs_no_driver
def test_without_nvidias_driver_the_cpu_computes_and_the_reason_is_told(run: Runner, cuda_bundle: Path) -> None:
    asked = told(run, cuda_bundle, "-ngl", "99")
    assert shares(asked["compute"]) == {"CPU": asked["compute"]["layers"]}
    assert asked["notices"] == [
        "cuda: -ngl 99: computing on the CPU. CUDA: libcuda.so.1 is not on this machine (NVIDIA's driver brings it)"
    ]
    assert told(run, cuda_bundle)["notices"] == []
    for flags in (("--gpu", "cuda"), ("--device", "CUDA0")):
        named = run(cuda_bundle, *ASK, *flags)
        assert (named.code, named.out) == (1, "")
        assert f"{' '.join(flags)} cannot be used. CUDA: libcuda.so.1 is not on this machine" in named.one_line
    listed = succeed(run(cuda_bundle, "--list-devices"), ["--list-devices"])
    assert [row.split()[0] for row in listed.out.splitlines()] == ["CPU"]
    assert "CUDA: libcuda.so.1 is not on this machine" in listed.one_line


@needs_no_driver
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("int nothing;", "its drivers find no GPU"),
        (CRASH, "crashed"),
    ],
    ids=["useless", "crashing"],
)
def test_a_driver_of_no_use_does_not_take_the_program_down(
    run: Runner, cuda_bundle: Path, tmp_path: Path, code: str, reason: str
) -> None:
    make_library(tmp_path / "libcuda.so.1", code)
    around = {"LD_LIBRARY_PATH": str(tmp_path), "QWENFILE_CACHE": str(tmp_path / "cache")}
    asked = told(run, cuda_bundle, "-ngl", "99", **around)
    assert shares(asked["compute"]) == {"CPU": asked["compute"]["layers"]}
    assert len(asked["notices"]) == 1
    assert reason in asked["notices"][0]
    named = run(cuda_bundle, *ASK, "--gpu", "cuda", **around)
    assert (named.code, named.out) == (1, "")
    assert reason in named.one_line


def test_with_nvidias_driver_all_layers_go_to_the_gpu(run: Runner, cuda_bundle: Path) -> None:
    if not shutil.which("nvidia-smi") or missing_library("cuda"):
        pytest.skip("this machine has no NVIDIA GPU")
    gpu = told(run, cuda_bundle, "-ngl", "99")
    assert shares(gpu["compute"]) == {"CUDA0": gpu["compute"]["layers"]}
    assert re.match("2 . 3", gpu["text"]), json.dumps(gpu)
