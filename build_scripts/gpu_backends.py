"""The GPU backends that build_native.py can add to the engine: what each needs, and what CMake is told.

Only build scripts may import it. Vulkan serves NVIDIA, AMD and Intel through their drivers and is small; it belongs to
the standard engine of Linux where its tools are installed. CUDA makes an engine, and bases, of its own. Metal belongs
to every engine for macOS; no Mac has compiled it yet.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steps import StepError, replace_folder
from toolchains import version_of

BACKENDS = ("cpu", "vulkan", "cuda")
OFF = {"GGML_VULKAN": "OFF", "GGML_CUDA": "OFF"}
METAL = {"GGML_METAL": "ON", "GGML_METAL_EMBED_LIBRARY": "ON"}  # the shaders inside the library
_PACKAGES = "Debian/Ubuntu: apt install libvulkan-dev glslc spirv-headers"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU backend of the engine, or none (`name` empty). `inputs`: versions of what it is built with, for the key;
    `carried`: files that go with its library; `licenses`: name -> text file; `notice`: what the person should know."""

    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    carried: tuple[Path, ...] = ()
    licenses: Mapping[str, Path] = field(default_factory=dict)
    notice: str = ""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The library that CMake makes."""
        return (f"ggml-{self.name}",) if self.name else ()

    @property
    def suffix(self) -> str:
        """What is put after the target's name: a CUDA engine lies beside the standard one."""
        return "-cuda" if self.name == "cuda" else ""


def choose(asked: str | None, *, target: str, standard: bool, cache: Path, architectures: str = "") -> Gpu:
    """The backend for `target` that was asked for; else, in a `standard` engine, Vulkan if its tools are here.

    Raises StepError for one that was asked for and cannot be built."""
    if asked == "cuda":
        from cuda_toolkit import cuda

        return cuda(cache, architectures)
    if asked is None and target.startswith("macos-"):
        return Gpu(name="metal", options=OFF | METAL)
    if asked == "cpu" or (asked is None and not standard):
        return Gpu(options=OFF)
    missing = list(_missing())
    if not missing:
        return _vulkan(cache)
    if asked == "vulkan":
        raise StepError(f"Vulkan needs {', '.join(missing)} ({_PACKAGES})")
    notice = f"without a GPU backend: Vulkan needs {', '.join(missing)} ({_PACKAGES})"
    return Gpu(options=OFF, notice=notice)


def _vulkan(cache: Path) -> Gpu:
    header = _header("vulkan/vulkan_core.h")
    text = header.read_text(encoding="utf-8") if header else ""
    found = re.search(r"^#define VK_HEADER_VERSION (\d+)", text, re.MULTILINE)
    glslc = shutil.which("glslc", path=_programs()) or "glslc"
    texts = {"vulkan-headers": _documents("libvulkan-dev"), "spirv-headers": _documents("spirv-headers")}
    return Gpu(
        name="vulkan",
        options={
            **OFF,
            "GGML_VULKAN": "ON",
            "Vulkan_INCLUDE_DIR": str(_headers(cache)),  # the loader is runtime/native/vulkan_loader.c
            "Vulkan_GLSLC_EXECUTABLE": glslc,
        },
        inputs=(version_of(glslc), f"Vulkan headers {found[1] if found else '?'}"),
        licenses={name: text for name, text in texts.items() if text.is_file()},
    )


def _headers(cache: Path) -> Path:
    """A folder with these headers and nothing else of this system's, which another target's must not meet."""
    folders = {}
    for name in ("vulkan/vulkan.hpp", "vk_video/vulkan_video_codecs_common.h", "spirv/unified1/spirv.hpp"):
        top = name.partition("/")[0]
        if header := _header(name):
            folders[top] = next(parent for parent in header.parents if parent.name == top)
    digest = hashlib.sha256()
    for folder in folders.values():
        for file in sorted(folder.rglob("*.h*")):
            digest.update(file.name.encode() + file.read_bytes())
    place = cache / "vulkan-headers" / digest.hexdigest()[:16]
    if not place.is_dir():
        work = place.with_name(f"{place.name}.work-{os.getpid()}")
        for top, folder in folders.items():
            shutil.copytree(folder, work / top)
        replace_folder(work, place)
    return place


def _missing() -> Iterator[str]:
    if shutil.which("glslc", path=_programs()) is None:
        yield "glslc"
    if _header("vulkan/vulkan.hpp") is None:
        yield "the Vulkan headers"
    if _header("spirv/unified1/spirv.hpp") is None:
        yield "the SPIR-V headers"


def _programs() -> str:
    """Newer tools than the system's, with more shaders, are those of a Vulkan SDK; CMake looks there first, too."""
    sdk = os.environ.get("VULKAN_SDK")
    path = os.environ.get("PATH", os.defpath)
    return os.pathsep.join([str(Path(sdk) / "bin"), path]) if sdk else path


def _header(name: str) -> Path | None:
    sdk = os.environ.get("VULKAN_SDK")
    folders = [Path(sdk) / "include"] if sdk else []
    found = (folder / name for folder in (*folders, Path("/usr/local/include"), Path("/usr/include")))
    return next((path for path in found if path.exists()), None)


def _documents(package: str) -> Path:
    """A Debian package's licence text. What is compiled in are headers under Apache 2.0 or MIT."""
    return Path("/usr/share/doc") / package / "copyright"
