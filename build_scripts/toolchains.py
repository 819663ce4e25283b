"""What CMake needs to know to build the engine for each target: compilers, system name, options, how to run a result.

Only build scripts may import it. To add a target: a function that returns its Toolchain, and a line in CROSS.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from runtime.paths import host_target  # noqa: E402
from steps import StepError  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """How to build for one target. `compilers`: path -> version, part of the engine's key, as are the `options`.

    `options` are CMake definitions that are put over build_native.py's own; `env` is added to the environment of
    cmake and ninja; `run` is put before a program of the target to run it here (an emulator), None where nothing can.
    """

    target: str
    compilers: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    run: tuple[str, ...] | None = ()

    @property
    def native(self) -> bool:
        """Whether it builds for this very machine."""
        return self.target == host_target()


def toolchain(target: str) -> Toolchain:
    """The tools for `target` on this machine. Raises StepError with the remedy when one is missing."""
    if target == host_target():
        return Toolchain(target=target, compilers=find_compilers())
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


def _linux_aarch64() -> Toolchain:
    """Debian's cross compiler; its libraries serve the emulator, too."""
    cc = find("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    cxx = find("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    return Toolchain(
        target="linux-aarch64",
        compilers={program: version_of(program) for program in (cc, cxx)},
        options={
            "CMAKE_SYSTEM_NAME": "Linux",
            "CMAKE_SYSTEM_PROCESSOR": "aarch64",
            "CMAKE_C_COMPILER": cc,
            "CMAKE_CXX_COMPILER": cxx,
        },
        run=(find("qemu-aarch64-static", "qemu-user-static"), "-L", "/usr/aarch64-linux-gnu"),
    )


# target -> its tools on a machine of another kind
CROSS: dict[str, Callable[[], Toolchain]] = {"linux-aarch64": _linux_aarch64}
