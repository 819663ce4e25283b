"""What is known of GPUs without their drivers, read from a made-up /dev, /sys and /usr."""

import ctypes
import os
import re
from pathlib import Path

import pytest

from launcher.drivers import fingerprint, libraries, may_have_gpu, missing_library
from runtime.paths import host_target


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Linux without a GPU."""
    for folder in ("sys/class/drm", "sys/module", "dev/dri", "usr/share/vulkan/icd.d"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def add(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("node", ["dev/dri/renderD128", "dev/nvidia0", "dev/dxg"])
def test_a_gpu_shows_in_dev(root: Path, node: str) -> None:
    assert not may_have_gpu({}, root)
    add(root, node)
    assert may_have_gpu({}, root)


def test_screens_and_control_nodes_are_no_gpus(root: Path) -> None:
    add(root, "dev/dri/card0")
    add(root, "dev/nvidiactl")
    assert not may_have_gpu({}, root)


def test_who_chooses_vulkan_devices_has_some(root: Path) -> None:
    assert may_have_gpu({"GGML_VK_VISIBLE_DEVICES": "0"}, root)


def test_other_systems_may_have_one(tmp_path: Path) -> None:
    assert may_have_gpu({}, tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("usr/share/vulkan/icd.d/nvidia_icd.json", "{}"),
        ("sys/module/nvidia/version", "560.1"),
        ("dev/dri/renderD128", ""),
        ("sys/class/drm/renderD128/device/device", "0x1234"),
    ],
)
def test_the_fingerprint_follows_driver_and_devices(root: Path, name: str, text: str) -> None:
    before = fingerprint("vulkan", Path("engine-1"), {}, root)
    assert before == fingerprint("vulkan", Path("engine-1"), {"HOME": "/x"}, root)
    add(root, name, text)
    assert before != fingerprint("vulkan", Path("engine-1"), {}, root)


def test_the_fingerprint_follows_engine_backend_and_settings(root: Path) -> None:
    settings = [
        ("vulkan", "engine-1", {}),
        ("cuda", "engine-1", {}),
        ("vulkan", "engine-2", {}),
        ("vulkan", "engine-1", {"GGML_VK_VISIBLE_DEVICES": "1"}),
        ("vulkan", "engine-1", {"VK_DRIVER_FILES": "/x.json"}),
    ]
    keys = {fingerprint(backend, Path(engine), env, root) for backend, engine, env in settings}
    assert len(keys) == len(settings)


@pytest.mark.parametrize("name", ["etc/ld.so.cache", "usr/lib/libvulkan.so.1", "own/libvulkan.so.1"])
def test_what_tells_of_an_installed_library(root: Path, name: str) -> None:
    env = {"LD_LIBRARY_PATH": f"{root / 'own'}{os.pathsep}"}
    before = libraries(env, root)
    assert before == libraries(env, root)
    add(root, name)
    assert before != libraries(env, root)


def test_a_drivers_library_that_is_not_there_is_named_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a frozen program PyInstaller's error, which speaks of freezing, stands before the linker's."""

    def load(name: str) -> None:
        absent = OSError(f"{name}: cannot open shared object file: No such file or directory")
        raise OSError("Most likely it was not found when the application was frozen.") from absent

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert missing_library("metal") == ""
    assert re.fullmatch(
        r"(libcuda\.so\.1|nvcuda\.dll) is not on this machine \(NVIDIA's driver .*\)", missing_library("cuda")
    )


@pytest.mark.skipif(not host_target().startswith("linux-"), reason="other systems don't say why")
def test_a_drivers_library_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise OSError("frozen") from OSError(f"{name}: file too short")

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert missing_library("vulkan") == "libvulkan.so.1: file too short"
