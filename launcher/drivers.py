"""What can be known of GPUs without touching their drivers: whether there may be one, and when a driver has changed.

Imported by the launcher only. A driver is code that may crash or take a tenth of a second to start, so it is loaded
when there is a reason to.
"""

import ctypes
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from runtime.paths import host_target

# The driver's own library for each backend and system, and where it comes from.
_LIBRARIES = {
    ("vulkan", "linux"): ("libvulkan.so.1", "the GPU's driver brings it; Debian, Ubuntu: apt install libvulkan1"),
    ("vulkan", "windows"): ("vulkan-1.dll", "the GPU's driver brings it"),
    ("cuda", "linux"): ("libcuda.so.1", "NVIDIA's driver brings it"),
    ("cuda", "windows"): ("nvcuda.dll", "NVIDIA's driver brings it"),
}
# What decides which devices a driver shows.
_VARIABLES = ("VK_", "GGML_VK_", "CUDA_", "NVIDIA_", "MESA_", "LD_LIBRARY_PATH", "XDG_DATA_DIRS")
_DRIVER_FOLDERS = ("etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d", "usr/share/vulkan/icd.d")
_MODULES = ("nvidia", "amdgpu", "i915", "xe", "nouveau")
# What changes when a library is installed: the linker's list of them, and the folders that are searched without one.
_LINKER = ("etc/ld.so.cache", "lib", "lib64", "usr/lib", "usr/lib64", "Windows/System32")


def may_have_gpu(env: Mapping[str, str], root: Path = Path("/")) -> bool:
    """Whether this machine may have a GPU. False only where Linux shows none, and nobody has set which to use."""
    if not (root / "sys/class").is_dir():
        return True  # no Linux
    if any(name.startswith("GGML_VK_VISIBLE") for name in env):
        return True
    return any(_nodes(root))


def missing_library(backend: str) -> str:
    """Why the driver's own library cannot be loaded; "" if it can, or none is needed. It may crash: load it beside."""
    library, origin = _LIBRARIES.get((backend, host_target().partition("-")[0]), ("", ""))
    try:
        if library:
            ctypes.CDLL(library)
    except OSError as error:
        reason = str(error.__cause__ or error)  # in a frozen program, PyInstaller's own error comes from the linker's
        if reason and "No such file" not in reason and host_target().startswith("linux"):
            return reason
        return f"{library} is not on this machine ({origin})"
    return ""


def fingerprint(backend: str, engine: Path, env: Mapping[str, str], root: Path = Path("/")) -> str:
    """16 hex digits that change with the engine, the driver's version, the devices and the driver's settings."""
    parts = [backend, engine.name]
    parts += sorted(f"{name}={value}" for name, value in env.items() if name.startswith(_VARIABLES))
    if hasattr(os, "uname"):
        parts.append(os.uname().release)
    parts += [_read(root / "sys/module" / module / fact) for module in _MODULES for fact in ("version", "srcversion")]
    parts += sorted(str(path) for path in _nodes(root))
    parts += [_read(path / fact) for path in sorted(_cards(root)) for fact in ("vendor", "device")]
    parts += [f"{path} {_changed(path)}" for path in sorted(_manifests(env, root))]
    return _digest(parts)


def libraries(env: Mapping[str, str], root: Path = Path("/")) -> str:
    """16 hex digits that change when a library is installed where the linker looks, or one of these is removed."""
    places = [*(root / name for name in _LINKER), *_named(env, "LD_LIBRARY_PATH")]
    return _digest(f"{path} {_changed(path)}" for path in places)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _named(env: Mapping[str, str], variable: str) -> Iterator[Path]:
    """The paths that a variable lists."""
    return (Path(part) for part in env.get(variable, "").split(os.pathsep) if part)


def _nodes(root: Path) -> Iterator[Path]:
    """The kernel's doors to GPUs; /dev/dxg is Windows' GPU inside WSL."""
    dev = root / "dev"
    yield from dev.glob("dri/renderD*")
    yield from dev.glob("nvidia[0-9]*")
    yield from (path for path in (dev / "dxg", dev / "kgsl-3d0", dev / "mali0") if path.exists())


def _cards(root: Path) -> Iterator[Path]:
    return (path / "device" for path in (root / "sys/class/drm").glob("renderD*"))


def _manifests(env: Mapping[str, str], root: Path) -> Iterator[Path]:
    """The files by which Vulkan drivers announce themselves; a new version of the driver has new ones."""
    for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES"):
        yield from _named(env, name)
    for folder in _DRIVER_FOLDERS:
        yield from (root / folder).glob("*.json")


def _changed(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
