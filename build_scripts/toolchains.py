"""What CMake needs to know to build the engine for each target: compilers, system name, options, how to run a result.

Only build scripts may import it. To add a target: a function that returns its Toolchain, and a line in CROSS.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from bundler.interpreter import wine  # noqa: E402
from runtime.paths import build_cache, host_target  # noqa: E402
from steps import StepError, write_text  # noqa: E402
from sysroot import PACKAGES, Sysroot  # noqa: E402

# As old as upstream's own programs ask for; its CPU library uses Accelerate by itself, without a BLAS library beside.
MACOS = {"CMAKE_OSX_DEPLOYMENT_TARGET": "13.3", "GGML_BLAS": "OFF"}


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """How to build for one target. `compilers`: path -> version, part of the engine's key, as are the `options`.

    `options` are CMake definitions that are put over build_native.py's own; `env` is added to the environment of
    cmake and ninja; `run` is put before a program of the target to run it here (an emulator), None where nothing can.
    `sysroot`: the older system that is compiled against; it must be made before. `licenses`: of what the compiler
    itself links in, name -> file.
    """

    target: str
    compilers: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    run: tuple[str, ...] | None = ()
    sysroot: Sysroot | None = None
    licenses: Mapping[str, Path] = field(default_factory=dict)

    @property
    def native(self) -> bool:
        """Whether it builds for this very machine."""
        return self.target == host_target()


def toolchain(target: str, *, portable: bool = False) -> Toolchain:
    """The tools for `target` on this machine. `portable`: for older systems than this one.

    Raises StepError with the remedy when one is missing.
    """
    if "," in str(cache := build_cache(os.environ)):
        raise StepError(f"{cache} has a comma, where linkers part paths; set QWENFILE_BUILD_CACHE")
    if target == host_target():
        compilers = find_compilers()
        if not portable:
            return Toolchain(target=target, compilers=compilers, options=MACOS if target.startswith("macos-") else {})
        if target not in PACKAGES:
            raise StepError(f"there is no older system to build for {target}; leave --portable away")
        cc, cxx = compilers
        return _for_older_linux(target, cc, cxx)
    if target not in CROSS:
        known = ", ".join(sorted({host_target(), *CROSS}))
        raise StepError(f"this machine, {host_target()}, cannot build the engine for {target}; it can for {known}")
    return CROSS[target]()


def find_compilers() -> dict[str, str]:
    """This machine's C and C++ compilers and their versions. Raises StepError with the remedy when one is missing."""
    found = {}
    for kind, variable, names in (("C", "CC", ("cc", "gcc", "clang")), ("C++", "CXX", ("c++", "g++", "clang++"))):
        wanted = [part for part in os.environ.get(variable, "").split() if part[0] != "-"][
            -1:
        ] or names  # "ccache cc -m64"
        program = next((path for name in wanted if (path := shutil.which(name))), None)
        if program is None:
            remedy = "Debian/Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install"
            raise StepError(f"a {kind} compiler is missing; install one ({remedy})")
        found[program] = version_of(program)
    return found


def find(program: str, package: str) -> str:
    """The path of a program that Debian has in `package`. Raises StepError naming the package."""
    path = shutil.which(program)
    if path is None:
        raise StepError(f"{program} is missing; install it (Debian/Ubuntu: apt install {package})")
    return path


def version_of(program: str, *arguments: str) -> str:
    """The first line that a compiler says about itself."""
    command = [program, *arguments, "--version"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout.partition("\n")[0]


def _for_older_linux(target: str, cc: str, cxx: str) -> Toolchain:
    """These compilers with the headers and libraries of Debian 11."""
    sysroot = Sysroot(target=target, cache=build_cache(os.environ))
    linker = " ".join(sysroot.link_flags)
    return Toolchain(
        target=target,
        compilers={program: version_of(program) for program in (cc, cxx)},
        options={
            "CMAKE_C_COMPILER": cc,
            "CMAKE_CXX_COMPILER": cxx,
            "CMAKE_C_FLAGS": " ".join(sysroot.compile_flags(cc, "c")),
            "CMAKE_CXX_FLAGS": " ".join(sysroot.compile_flags(cxx, "c++")),
            **{f"CMAKE_{kind}_LINKER_FLAGS": linker for kind in ("EXE", "SHARED", "MODULE")},
        },
        sysroot=sysroot,
    )


def _linux_aarch64() -> Toolchain:
    """Debian's cross compiler, for Debian 11, whose libraries serve the emulator, too."""
    cc = find("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    cxx = find("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    emulator = find("qemu-aarch64-static", "qemu-user-static")
    tools = _for_older_linux("linux-aarch64", cc, cxx)
    assert tools.sysroot
    system = {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": "aarch64"}
    return replace(tools, options={**tools.options, **system}, run=(emulator, "-L", str(tools.sysroot.path)))


def _windows_x86_64() -> Toolchain:
    """zig; wine to run a result, if it is there."""
    tools = _windows("windows-x86_64", "x86_64-windows-gnu", "x86_64")
    return replace(tools, run=wine() or None)


# What upstream asks of a CPU library before it computes with it; with 0 the engine says that none runs on this machine.
_DOTPROD_SCORE = """\
#include <windows.h>
#ifndef PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
#define PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE 43
#endif
extern "C" int ggml_backend_score() { return IsProcessorFeaturePresent(PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE) ? 1 : 0; }
"""


def _windows_arm64() -> Toolchain:
    """zig; nothing here runs a result.

    Upstream has CPU variants for Arm on Linux, Android and macOS, and refuses GGML_CPU_ALL_VARIANTS elsewhere: here one
    library serves all processors. It takes dot products, which quantized weights live on. Windows' machines have them
    from the first Snapdragon 8cx and 7c on (Cortex-A76), servers from Neoverse N1 on; a Snapdragon 835 or 850 has not,
    and gets a message instead of an illegal instruction. Anything later (i8mm, SVE) would leave the 8cx out, as
    upstream's own programs do, which are for armv8.7-a.
    """
    tools = _windows("windows-arm64", "aarch64-windows-gnu", "arm64")
    folder = build_cache(os.environ) / "zig-tools" / "arm64"
    score = _source(folder, "score", _DOTPROD_SCORE)
    # CMake asks whatever is called nm for what ggml-base is to export, and this machine's reads no objects for Arm.
    path = _only(folder, "nm", find("aarch64-linux-gnu-nm", "binutils-aarch64-linux-gnu"))
    return replace(
        tools,
        env={**tools.env, "PATH": f"{path}:{os.environ.get('PATH', os.defpath)}"},
        options={
            **tools.options,
            "GGML_CPU_ALL_VARIANTS": "OFF",
            "GGML_CPU_ARM_ARCH": "generic+v8_2a+dotprod",  # armv8.2-a+dotprod, as zig spells it
            # The CPU library, the only module, exports a score (runtime/native/backend.def), which upstream gives to
            # Arm's variants alone. zig compiles what it finds among the objects to link.
            "CMAKE_MODULE_LINKER_FLAGS": f'-s "{score}"',
        },
    )


def _windows(target: str, zig_target: str, processor: str) -> Toolchain:
    """zig, which carries MinGW-w64 and LLVM's C++ library."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise StepError("there is no zig compiler here; run: pip install ziglang")
    zig = Path(spec.origin).with_name("zig")
    library = zig.parent / "lib"
    version = importlib.metadata.version("ziglang")
    folder = build_cache(os.environ) / "zig-tools" / version
    options = {"CMAKE_SYSTEM_NAME": "Windows", "CMAKE_SYSTEM_PROCESSOR": processor}
    for name, part in (("C_COMPILER", "cc"), ("CXX_COMPILER", "c++")):
        options[f"CMAKE_{name}"] = f"{zig};{part};-target;{zig_target}"
    for name in ("AR", "RANLIB", "RC"):  # of these CMake takes the path of a program, without arguments
        options[f"CMAKE_{name}{'_COMPILER' if name == 'RC' else ''}"] = str(_script(folder / name.lower(), zig))
    options |= {f"CMAKE_{kind}_LINKER_FLAGS": "-s" for kind in ("EXE", "SHARED", "MODULE")}
    return Toolchain(
        target=target,
        compilers={"zig": f"zig {version}"},
        options=options,
        env={
            "ZIG_GLOBAL_CACHE_DIR": str(folder.parent.parent / "zig"),
            "WINEPREFIX": str(folder.parent.parent / "wine"),
            "WINEDEBUG": "-all",
        },
        run=None,
        licenses={
            "mingw-w64": library / "libc/mingw/COPYING",
            **{name: library / name / "LICENSE.TXT" for name in ("libcxx", "libcxxabi", "libunwind")},
        },
    )


def _script(path: Path, zig: Path) -> Path:
    """A program that is one of zig's tools."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f'#!/bin/sh\nexec "{zig}" {path.name} "$@"\n')
    path.chmod(0o755)
    return path


def _only(folder: Path, name: str, program: str) -> Path:
    """A folder for PATH in which `name` is that program."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / f"{name}.work-{os.getpid()}"
    link.symlink_to(program)
    link.replace(folder / name)
    return folder


def _source(folder: Path, name: str, text: str) -> Path:
    """A source file of our own, named after its text: its path is an option, and so part of the engine's key."""
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.cpp"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


# target -> its tools on a machine of another kind
CROSS: dict[str, Callable[[], Toolchain]] = {
    "linux-aarch64": _linux_aarch64,
    "windows-x86_64": _windows_x86_64,
    "windows-arm64": _windows_arm64,
}
