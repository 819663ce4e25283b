"""GPUs, played by Mesa's lavapipe: which devices compute, how many layers they hold, and what is said without one.

F32 weights: with them every backend generates the same tokens. lavapipe is slow, so answers are short.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.drivers import may_have_gpu
from launcher.verdict import judge
from runtime.bundle import Bundle
from tests.integration.conftest import ROOT, STEADY, Runner, succeed
from tests.integration.server import Server
from tests.integration.terminal import CTRL_D, Terminal

ICDS = Path("/usr/share/vulkan/icd.d")
ASK = ("--cli", "-p", "What is 2+3?", "-n", "6", "-c", "512", *STEADY)


@pytest.fixture(scope="session", autouse=True)
def _vulkan(base: Path) -> None:
    if (Bundle.open(base).manifest.engine.get("gpu") or {}).get("backend") != "vulkan":
        pytest.skip("the engine was built without Vulkan: libvulkan-dev, glslc and spirv-headers are missing")


@pytest.fixture(scope="session")
def lavapipe() -> dict[str, str]:
    """The environment in which lavapipe is the only Vulkan device; ggml takes it because it is chosen by its number."""
    found = sorted(ICDS.glob("lvp_icd*.json"))
    if not found:
        pytest.skip(f"there is no software Vulkan device in {ICDS} (Debian, Ubuntu: apt install mesa-vulkan-drivers)")
    return {"VK_ICD_FILENAMES": str(found[0]), "GGML_VK_VISIBLE_DEVICES": "0"}


@pytest.fixture(scope="session")
def f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with F32 weights."""
    path = tmp_path_factory.mktemp("f32") / "demo-f32.gguf"
    subprocess.run([sys.executable, ROOT / "build_scripts/demo_f32.py", path], check=True)
    return path


def told(run: Runner, bundle: Path, *flags: str | Path, **env: str) -> dict[str, Any]:
    done = succeed(run(bundle, *ASK, "--json", *flags, **env), flags)
    answer: dict[str, Any] = json.loads(done.out)
    return answer | {"notices": done.err.splitlines()}


def shares(compute: Mapping[str, Any]) -> dict[str, int]:
    """Layers by device, without those that hold none."""
    return {device["name"]: device["layers"] for device in compute["devices"] if device["layers"]}


def test_all_layers_go_to_the_gpu_and_the_tokens_stay_the_same(
    run: Runner, demo_bundle: Path, f32: Path, lavapipe: dict[str, str]
) -> None:
    cpu = told(run, demo_bundle, "-m", f32, "--gpu", "off", **lavapipe)
    gpu = told(run, demo_bundle, "-m", f32, "-ngl", "99", **lavapipe)
    total = cpu["compute"]["layers"]
    assert shares(cpu["compute"]) == {"CPU": total}
    assert shares(gpu["compute"]) == {"Vulkan0": total}
    assert gpu["text"] == cpu["text"] != ""
    assert gpu["notices"] == cpu["notices"] == []


def test_a_driver_is_tried_with_the_launchers_own_libraries(
    run: Runner, demo_bundle: Path, lavapipe: dict[str, str], tmp_path: Path
) -> None:
    linker = {"LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": str(tmp_path / "linker")}
    env = {**lavapipe, **linker, "QWENFILE_CACHE": str(tmp_path / "cache")}
    assert "Vulkan0" in succeed(run(demo_bundle, "--list-devices", **env), ["--list-devices"]).out
    logs = [log.read_text(errors="replace") for log in tmp_path.glob("linker.*")]
    found = [re.findall(r"calling init: (.*libffi.*)", log) for log in logs]
    assert sum(map(bool, found)) == 2, found  # the launcher, and the child that tries
    assert all("/_internal/" in path for paths in found for path in paths), found


def test_without_flags_a_gpu_is_used_and_some_layers_may_stay(
    run: Runner, demo_bundle: Path, f32: Path, lavapipe: dict[str, str]
) -> None:
    alone = told(run, demo_bundle, "-m", f32, **lavapipe)
    two = told(run, demo_bundle, "-m", f32, "-ngl", "2", **lavapipe)
    total = alone["compute"]["layers"]
    assert shares(alone["compute"]) == {"Vulkan0": total}
    assert shares(two["compute"]) == {"Vulkan0": 2, "CPU": total - 2}
    assert alone["text"] == two["text"]
    assert alone["notices"] == two["notices"] == []


def test_layers_that_do_not_fit_stay_on_the_cpu_and_the_numbers_are_told(
    run: Runner, demo_bundle: Path, f32: Path, lavapipe: dict[str, str]
) -> None:
    """The margin that llama.cpp leaves free is set to all that the device has: nothing fits."""
    nothing = ("--fit-target", "999999999", "--fit", "on")
    asked = told(run, demo_bundle, "-m", f32, "-ngl", "99", *nothing, **lavapipe)
    assert "CPU" in shares(asked["compute"])
    assert len(asked["notices"]) == 1
    assert re.search(r"not enough memory on Vulkan0 \(llvmpipe.*\d\.\d\d GB were free", asked["notices"][0])
    named = run(demo_bundle, *ASK, "-m", f32, "--gpu", "vulkan", *nothing, **lavapipe)
    assert (named.code, named.out) == (1, "")
    assert "--gpu vulkan cannot be used: not enough memory" in named.one_line


def test_as_many_layers_as_fit_beside_the_context_go_to_a_small_gpu(
    run: Runner, demo_bundle: Path, f32: Path, lavapipe: dict[str, str]
) -> None:
    """lavapipe has 2 GiB; 300 MB of it for 32 contexts of 4,096 tokens, which take 340 MB with all layers."""
    many = ("--jsonl", "-np", "32", "-c", "4096", "-t", "1", "-ngl", "99", "--fit-target", "1750")
    row = '{"prompt": "Hi", "max_tokens": 2}'
    done = succeed(run(demo_bundle, "--cli", "-m", f32, *many, input=row, **lavapipe), many)
    found = re.search(
        r"(\d) of 6 layers are on Vulkan0 \(llvmpipe .*\), \d MB of weights: 2\.15 GB were free", done.err
    )
    assert found, done.err
    assert 1 <= int(found[1]) <= 5
    assert json.loads(done.out)["text"]


def test_a_gpu_that_fails_while_loading_is_given_up_for_the_cpu(
    run: Runner, demo_bundle: Path, f32: Path, lavapipe: dict[str, str]
) -> None:
    """Vulkan is told to allocate no more than 100 kB at a time, which a trial needs less of and a model more."""
    around = lavapipe | {"GGML_VK_FORCE_MAX_ALLOCATION_SIZE": "100000", "GGML_VK_FORCE_MAX_BUFFER_SIZE": "100000"}
    asked = told(run, demo_bundle, "-m", f32, "-ngl", "99", "--fit", "off", **around)
    assert shares(asked["compute"]) == {"CPU": asked["compute"]["layers"]}
    assert "computing on the CPU: Vulkan0 failed: " in "".join(asked["notices"])
    named = run(demo_bundle, *ASK, "-m", f32, "--gpu", "vulkan", "--fit", "off", **around)
    assert (named.code, named.out) == (1, "")


def test_without_a_gpu_no_driver_is_touched(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    if may_have_gpu({}):
        pytest.skip("this machine has a GPU")
    log = tmp_path / "log"
    succeed(run("strace", "-f", "-qq", "-e", "trace=openat", "-o", log, demo_bundle, *ASK), ASK)
    assert "libggml-cpu" in log.read_text()
    assert not re.search("libvulkan|vulkan.icd|libggml-vulkan", log.read_text())


def test_the_chat_says_what_computes(run: Runner, demo_bundle: Path, f32: Path, lavapipe: dict[str, str]) -> None:
    command = [demo_bundle, "-m", f32, "-ngl", "99", "-c", "512", "--no-history", *STEADY]
    chat = Terminal(command, {**run.env, **lavapipe}, columns=160, rows=50)
    chat.wait_for(r"llvmpipe.*\(Vulkan0\), all \d+ layers")
    chat.wait_for("\n>>>")
    chat.enter("/stats")
    chat.wait_for(r"computed by llvmpipe.*\(Vulkan0\), all \d+ layers")
    chat.type(CTRL_D)
    assert chat.end() == 0


def test_the_server_says_what_computes(run: Runner, demo_bundle: Path, f32: Path, lavapipe: dict[str, str]) -> None:
    with Server(demo_bundle, run, "-m", str(f32), "-ngl", "99", "-c", "512", **lavapipe) as server:
        compute = server.get("/props")["compute"]
    assert shares(compute) == {"Vulkan0": compute["layers"]}


def test_devices_are_listed_with_driver_and_memory(run: Runner, demo_bundle: Path, lavapipe: dict[str, str]) -> None:
    rows = succeed(run(demo_bundle, "--list-devices", **lavapipe), ["--list-devices"]).out.splitlines()
    assert [row.split()[:3] for row in rows] == [["CPU", "cpu", "CPU"], ["Vulkan0", "gpu", "Vulkan"]]
    assert re.search(r"\d+\.\d of \d+\.\d GiB free +llvmpipe .*, llvmpipe Mesa \d+\.", rows[1])


BROKEN = [
    ("no driver", {"VK_ICD_FILENAMES": "/nowhere.json"}, "Vulkan: no driver for it is installed"),
    ("filtered", {"GGML_VK_VISIBLE_DEVICES": ""}, r"Vulkan: GGML_VK_VISIBLE_DEVICES= leaves none of llvmpipe"),
    ("wrong number", {"GGML_VK_VISIBLE_DEVICES": "7"}, r"Vulkan: GGML_VK_VISIBLE_DEVICES=7 leaves none of llvmpipe"),
]


@pytest.mark.parametrize(("env", "reason"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_no_usable_gpu_is_one_warning_if_asked_for_and_an_error_if_named(
    run: Runner, demo_bundle: Path, lavapipe: dict[str, str], env: dict[str, str], reason: str
) -> None:
    around = lavapipe | env
    asked = told(run, demo_bundle, "-ngl", "99", **around)
    assert shares(asked["compute"]) == {"CPU": asked["compute"]["layers"]}
    assert len(asked["notices"]) == 1
    assert re.search(f"-ngl 99: computing on the CPU. {reason}", asked["notices"][0])
    assert told(run, demo_bundle, **around)["notices"] == []
    for flags in (("--gpu", "vulkan"), ("--device", "Vulkan0")):
        named = run(demo_bundle, *ASK, *flags, **around)
        assert (named.code, named.out) == (1, "")
        assert re.search(rf"{' '.join(flags)} cannot be used. {reason}", named.one_line)


def test_a_machine_without_libvulkan(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    """The linker finds a file in its place that is no library; an absent one cannot be had where one is installed."""
    (tmp_path / "libvulkan.so.1").write_text("no library\n")
    asked = run(demo_bundle, *ASK, "-ngl", "99", LD_LIBRARY_PATH=str(tmp_path))
    assert asked.code == 0
    assert re.search(r"computing on the CPU. Vulkan: .*libvulkan\.so\.1", asked.one_line)
    named = run(demo_bundle, *ASK, "--gpu", "vulkan", LD_LIBRARY_PATH=str(tmp_path))
    assert (named.code, named.out) == (1, "")


def test_a_missing_libvulkan_is_remembered_until_a_library_is_installed(
    run: Runner, demo_bundle: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "lib"
    linked.mkdir()
    (linked / "libvulkan.so.1").write_text("no library\n")
    around = {"LD_LIBRARY_PATH": str(linked), "QWENFILE_CACHE": str(tmp_path / "cache")}

    def reason() -> str:
        asked = run(demo_bundle, *ASK, "-ngl", "99", **around)
        assert asked.code == 0
        return asked.one_line.partition("Vulkan: ")[2]

    first = reason()
    [verdict] = (tmp_path / "cache").glob("**/gpu-vulkan-*.json")
    verdict.write_text(json.dumps(json.loads(verdict.read_text()) | {"reason": "as remembered"}))
    assert reason().startswith("as remembered")
    (linked / "libother.so").touch()
    assert reason() == first


def test_backends_and_devices_that_are_not_there(run: Runner, demo_bundle: Path, lavapipe: dict[str, str]) -> None:
    cuda = run(demo_bundle, *ASK, "--gpu", "cuda")
    assert cuda.code == 1
    assert "CUDA: this bundle does not carry it" in cuda.one_line
    other = run(demo_bundle, *ASK, "--device", "Vulkan7", **lavapipe)
    assert other.code == 1
    assert "it has Vulkan0 (llvmpipe" in other.one_line


CRASH = "#include <stdlib.h>\n__attribute__((constructor)) static void crash(void) { abort(); }\n"


def make_library(path: Path, code: str) -> None:
    source = path.with_name("library.c")
    source.write_text(code)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True)


def test_a_library_of_the_driver_that_crashes_does_not_take_the_program_down(
    run: Runner, demo_bundle: Path, tmp_path: Path
) -> None:
    make_library(tmp_path / "libvulkan.so.1", CRASH)
    around = {"LD_LIBRARY_PATH": str(tmp_path), "QWENFILE_CACHE": str(tmp_path / "cache")}
    asked = told(run, demo_bundle, "-ngl", "99", **around)
    assert shares(asked["compute"]) == {"CPU": asked["compute"]["layers"]}
    assert "Vulkan: its driver crashed when it was tried (signal 6)" in "".join(asked["notices"])
    assert succeed(run(demo_bundle, "--list-devices", **around), ["--list-devices"]).out.startswith("CPU ")


def crashing_engine(base: Path, folder: Path) -> Path:
    """The base's engine with a Vulkan backend that ends its process as soon as it is loaded."""
    with_engine = folder / "engine"
    with_engine.mkdir()
    bundle = Bundle.open(base)
    for member in bundle.manifest.prefixed("engine/"):
        bundle.extract(member, with_engine / member.name.removeprefix("engine/"))
    library = with_engine / "libggml-vulkan.so"
    library.unlink()
    make_library(library, CRASH)
    return with_engine


def test_a_driver_that_crashes_is_found_out_beside_and_remembered(
    base: Path, lavapipe: dict[str, str], tmp_path: Path, run: Runner
) -> None:
    engine = crashing_engine(base, tmp_path)
    env = {**run.env, **lavapipe, "PYTHONPATH": str(ROOT)}
    verdict = judge("vulkan", engine, tmp_path, env)
    assert verdict.usable == ()
    assert verdict.reason == "its driver crashed when it was tried (signal 6)"
    shutil.rmtree(engine)
    assert judge("vulkan", engine, tmp_path, env) == verdict


def test_a_bundle_for_the_cpu_carries_no_gpu_backend(
    run: Runner, base: Path, demo_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cpu.run"
    built = run.qwenfile("build", "--demo", "--base", base, "--backend", "cpu", "-o", path, "--name", "演示")
    succeed(built, ["--backend", "cpu"])
    succeed(run.qwenfile("verify", path), ["verify"])
    assert demo_bundle.stat().st_size - path.stat().st_size <= 15_000_000
    assert "none" in next(
        row for row in run.qwenfile("inspect", path).out.splitlines() if row.startswith("GPU backend")
    )
    asked = run(path, *ASK, "-ngl", "99")
    assert asked.code == 0
    assert "this bundle carries no GPU backend" in asked.one_line


def test_a_base_without_cuda_says_how_to_make_one(run: Runner, base: Path, tmp_path: Path) -> None:
    done = run.qwenfile("build", "--demo", "--base", base, "--backend", "cuda", "-o", tmp_path / "x.run")
    assert done.code == 2
    assert "carries vulkan, not cuda" in done.err
