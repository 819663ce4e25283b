"""What an engine is built from, with which options, and the keys over all of it. Only build scripts may import it."""

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import gpu_backends
from build_webui import webui_key
from llama_source import LLAMA_COMMIT, SDIST_SHA256
from toolchains import Toolchain

NATIVE = Path(__file__).resolve().parent.parent / "runtime" / "native"
# The scripts whose words reach the result.
_SCRIPTS = ("build_native.py", "engine_plan.py", "engine_folder.py")

OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",  # one plain name per library, no links to carry
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "GGML_OPENMP": "OFF",
    "GGML_RPC": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",  # built by build_webui.py, embedded from the build folder
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_IS_DEV": "OFF",
    "LLAMA_BUILD_NUMBER": "0",
    "LLAMA_BUILD_COMMIT": LLAMA_COMMIT,
    "GIT_EXE": "",  # else ggml marks its version with the state of whatever repository is around
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is built from what. `fast` and a missing web UI make an engine for development only."""

    cache: Path
    tools: Toolchain
    gpu: gpu_backends.Gpu
    fast: bool
    webui: bool

    @property
    def target(self) -> str:
        return self.tools.target

    @property
    def variant(self) -> str:
        """The target, and whether it is for older systems than this one."""
        return self.target + ("-portable" if self.tools.native and self.tools.sysroot else "")

    @property
    def options(self) -> dict[str, str]:
        fast = {"GGML_CPU_ALL_VARIANTS": "OFF"} if self.fast else {}
        return OPTIONS | fast | dict(self.tools.options) | dict(self.gpu.options)

    @property
    def bare_options(self) -> dict[str, str]:
        """What tests and benchmarks need of a GPU backend is the engine's own library."""
        return self.options | gpu_backends.OFF | {"GGML_CPU": "OFF", "GGML_CPU_ALL_VARIANTS": "OFF"}

    def _keyed(self, options: dict[str, str]) -> dict[str, str]:
        """Options without the places of the cache and of the virtual environment, which do not reach the result."""
        places = {str(self.cache): "CACHE", sys.prefix: "ENVIRONMENT"}
        return {name: _without(value, places) for name, value in options.items()}

    @functools.cached_property
    def key(self) -> str:
        """16 hex digits over every input of the engine."""
        inputs = {
            "source": SDIST_SHA256,
            "target": self.target,
            "options": self._keyed(self.options),
            "compilers": dict(self.tools.compilers),
            "gpu": self.gpu.inputs,
            "webui": webui_key() if self.webui else "",
            "native": {path.name: _sha256(path) for path in _native_sources()},
            "script": _scripts(),
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]

    @functools.cached_property
    def bare_key(self) -> str:
        inputs = [SDIST_SHA256, self._keyed(self.bare_options), dict(self.tools.compilers), _scripts()]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def engine(self) -> Path:
        return self.cache / "engine" / f"{self.target}-{self.key}"

    @property
    def tree(self) -> Path:
        """Where the compiler works; kept, so that the next build compiles only what changed."""
        return self.cache / "native" / (self.variant + ("-fast" if self.fast else ""))


def _native_sources() -> list[Path]:
    return sorted(path for path in NATIVE.iterdir() if path.suffix in {".c", ".cpp", ".h", ".def", ".txt"})


def _without(value: str, places: Mapping[str, str]) -> str:
    return functools.reduce(lambda text, place: text.replace(place, places[place]), places, value)


def _scripts() -> dict[str, str]:
    return {name: _sha256(Path(__file__).with_name(name)) for name in _SCRIPTS}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
