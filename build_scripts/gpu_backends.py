"""The GPU backends that build_native.py can add to the engine: what each needs, and what CMake is told.

Only build scripts may import it. Vulkan serves NVIDIA, AMD and Intel through their drivers and is small; it belongs to
the standard engine of Linux where its tools are installed. CUDA makes an engine, and bases, of its own. Metal belongs
to every engine for macOS; no Mac has compiled it yet.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.paths import host_target
from steps import StepError
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


def choose(asked: str | None, *, standard: bool, cache: Path, older: bool = False, architectures: str = "") -> Gpu:
    """The backend that was asked for; else, in a `standard` engine, Vulkan if its tools are here.

    `older`: the engine is compiled against the libraries of an older system, with the same compiler.
    Raises StepError for one that was asked for and cannot be built."""
    if asked == "cuda":
        from cuda_toolkit import cuda

        return cuda(cache, architectures)
    if asked is None and host_target().startswith("macos-"):
        return Gpu(name="metal", options=OFF | METAL)
    if asked == "cpu" or (asked is None and not standard):
        return Gpu(options=OFF)
    missing = list(_missing())
    if not missing:
        return _vulkan(_vulkan_alone(cache) if older else {})
    if asked == "vulkan":
        raise StepError(f"Vulkan needs {', '.join(missing)} ({_PACKAGES})")
    notice = f"without a GPU backend: Vulkan needs {', '.join(missing)} ({_PACKAGES})"
    return Gpu(options=OFF, notice=notice)


def _vulkan_alone(cache: Path) -> dict[str, str]:
    """Where CMake finds Vulkan without the rest of this system's headers, which an older system's must not meet."""
    folder = cache / "native" / "vulkan-headers"
    folder.mkdir(parents=True, exist_ok=True)
    for name, header in (("vulkan", "vulkan.hpp"), ("vk_video", "vulkan_video_codecs_common.h"), ("spirv", "unified1")):
        place, link = folder / name, folder / f".{name}.{os.getpid()}"
        found = _header(f"{name}/{header}")
        if found is not None:
            link.symlink_to(found.parent)
            link.replace(place)
    ask = [shutil.which("cc") or "gcc", "-print-file-name=libvulkan.so"]
    library = subprocess.run(ask, capture_output=True, encoding="utf-8", check=True)
    return {"Vulkan_INCLUDE_DIR": str(folder), "Vulkan_LIBRARY": os.path.normpath(library.stdout.strip())}


def _vulkan(places: Mapping[str, str]) -> Gpu:
    header = _header("vulkan/vulkan_core.h")
    text = header.read_text(encoding="utf-8") if header else ""
    found = re.search(r"^#define VK_HEADER_VERSION (\d+)", text, re.MULTILINE)
    texts = {"vulkan-headers": _documents("libvulkan-dev"), "spirv-headers": _documents("spirv-headers")}
    return Gpu(
        name="vulkan",
        options=OFF | {"GGML_VULKAN": "ON"} | dict(places),
        inputs=(
            version_of(shutil.which("glslc", path=_programs()) or "glslc"),
            f"Vulkan headers {found[1] if found else '?'}",
        ),
        licenses={name: text for name, text in texts.items() if text.is_file()},
    )


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
