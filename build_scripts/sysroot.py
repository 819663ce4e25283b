"""An older Linux to compile against: headers and libraries of Debian 11; the result runs on glibc 2.31 and newer.

    python build_scripts/sysroot.py [--target linux-x86_64]

Any program that is linked here needs no newer symbols than these libraries have. The compiler stays this machine's GCC
with its own C++ headers; what its libstdc++ has and the older one lacks is linked in from its static libstdc++.a.
In the build cache: sysroot/<target>-<key>/, which also serves as a root folder to run programs of the target in.
"""

import argparse
import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from debian import Debian, tool  # noqa: E402
from runtime.errors import QwenfileError  # noqa: E402
from runtime.paths import build_cache  # noqa: E402
from steps import StepError, Steps, locked, remove_folder, replace_folder, write_text  # noqa: E402

# target -> Debian's name for the machine, the compiler's, and the packages of Debian 11 with their SHA-256
MACHINES = {"linux-x86_64": "amd64", "linux-aarch64": "arm64"}
TRIPLES = {"linux-x86_64": "x86_64-linux-gnu", "linux-aarch64": "aarch64-linux-gnu"}
PACKAGES = {
    "linux-x86_64": {
        "libc6-dev_2.31-13+deb11u11": "e7f7b45d9c5cfcf37609f0b6efd3c645272c812144703af89dfd32218fcb0fd3",
        "libc6_2.31-13+deb11u11": "05f7264da867b37f4c5ce49266b558ea1e81e05a9464f623152fca70f3550282",
        "libffi-dev_3.3-6": "ca2c71d9c68b1944b689606f12acf8023bad1b5083e8413894fd41ad0b977d20",
        "libffi7_3.3-6": "30ca89bfddae5fa6e0a2a044f22b6e50cd17c4bc6bc850c579819aeab7101f0f",
        "libgcc-s1_10.2.1-6": "e478f2709d8474165bb664de42e16950c391f30eaa55bc9b3573281d83a29daf",
        "libstdc++6_10.2.1-6": "5c155c58935870bf3b4bfe769116841c0d286a74f59eccfd5645693ac23f06b1",
        "linux-libc-dev_5.10.223-1": "e3be603bd12377bb90fcfb0f2048ca3a81c886e49d6f09945b82159d1c54f7b2",
        "zlib1g-dev_1:1.2.11.dfsg-2+deb11u2": "f49fc849870c4e64fed2794722841ee950c1788f7fe90b3a091e6a098a46cd33",
        "zlib1g_1:1.2.11.dfsg-2+deb11u2": "03d2ab2174af76df6f517b854b77460fbdafc3dac0dca979317da67538159a3e",
    },
    "linux-aarch64": {
        "libc6-dev_2.31-13+deb11u11": "28d478134722dcd4b0bd2045a199301d18713bf95947b9fce66634e7aeacab2e",
        "libc6_2.31-13+deb11u11": "baaa9aa184e2f21738c5819055e6740cc5b22f198e3f416e33f82b40ff6933d8",
        "libffi-dev_3.3-6": "31166c3c814374c520e4c47cc779291888a2a7eca09fc93b5d2918bd7e2ed085",
        "libffi7_3.3-6": "eb748e33ae4ed46f5a4c14b7a2a09792569f2029ede319d0979c373829ba1532",
        "libgcc-s1_10.2.1-6": "e2fcdb378d3c1ad1bcb64d4fb6b37aab44011152beca12a4944f435a2582df1f",
        "libstdc++6_10.2.1-6": "7869aa540cc46e9f3d4267d5bde2af0e5b429a820c1d6f1a4cfccfe788c31890",
        "linux-libc-dev_5.10.223-1": "8b6374a64412d33eac61d74f77b8f932da4b8a707ea8a614791e2a35b8917618",
        "zlib1g-dev_1:1.2.11.dfsg-2+deb11u2": "6aa99970b3af7dbc6e34d7b55b493ba65b1a2d7c18cea042e96e271f1bb8ecfe",
        "zlib1g_1:1.2.11.dfsg-2+deb11u2": "e3963985d1a020d67ffd4180e6f9c4b5c600b515f0c9d8fda513d7a0e48e63a1",
    },
}


@dataclass(frozen=True, kw_only=True)
class Sysroot:
    """Debian 11's libraries for `target`, below the build cache; `make` puts them there."""

    target: str
    cache: Path

    @property
    def triple(self) -> str:
        return TRIPLES[self.target]

    @functools.cached_property
    def path(self) -> Path:
        inputs = json.dumps(PACKAGES[self.target]) + Path(__file__).read_text(encoding="utf-8")
        return self.cache / "sysroot" / f"{self.target}-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"

    def make(self, steps: Steps) -> None:
        """Download and unpack the packages unless that is done. Raises StepError."""
        with locked(self.cache / "sysroot" / "lock"):
            if self.path.is_dir():
                return
            debian = Debian(folder=self.cache / "downloads" / "debian", steps=steps)
            machine = MACHINES[self.target]
            files = debian.binaries(machine, PACKAGES[self.target], self.cache / "downloads" / "debian" / machine)
            work = self.path.with_name(f"{self.path.name}.work-{os.getpid()}")
            try:
                for file in files:
                    steps.run(f"unpacking {file.name}", [tool("dpkg-deb"), "-x", file, work], file.parent, os.environ)
                _inside(work)
                # In this order: what the older library lacks comes from the compiler's own, and goes into the result.
                script = "INPUT ( libstdc++.so.6 libstdc++.a )\n"
                write_text(work / "usr/lib" / self.triple / "libstdc++.so", script)
                replace_folder(work, self.path)
            finally:
                remove_folder(work)

    def compile_flags(self, compiler: str, language: str) -> list[str]:
        """For `language` "c" or "c++": its own headers of the compiler, the system's of this folder, no others."""
        folders = [_ask(compiler, "-print-file-name=include").strip()]
        if language == "c++":
            folders = [*_cxx_folders(compiler), *folders]
        folders += [str(self.path / "usr/include" / self.triple), str(self.path / "usr/include")]
        return [f"--sysroot={self.path}", "-nostdinc", *(f"-isystem{folder}" for folder in folders)]

    @property
    def link_flags(self) -> list[str]:
        libraries = self.path / "usr/lib" / self.triple
        folders = (f"-B{libraries}", f"-L{libraries}", f"-L{self.path / 'lib' / self.triple}")
        # the parts of libstdc++.a stay private: whatever else a process loads has its own
        return [f"--sysroot={self.path}", *folders, "-Wl,--exclude-libs,libstdc++.a"]


def _inside(folder: Path) -> None:
    """Make absolute links relative: here they would lead to this machine's own files."""
    for path in folder.rglob("*"):
        if path.is_symlink() and (to := path.readlink()).is_absolute():
            path.unlink()
            path.symlink_to(os.path.relpath(folder / to.relative_to("/"), path.parent))


def _cxx_folders(compiler: str) -> list[str]:
    """Where the compiler has the headers of its libstdc++, in its order. Raises StepError for anything but GCC."""
    said = _ask(compiler, "-E", "-v", "-x", "c++", os.devnull)
    listed = said.partition("#include <...> search starts here:\n")[2].partition("End of search list")[0]
    folders = [os.path.normpath(line.strip()) for line in listed.splitlines()]
    found = [folder for folder in folders if "/c++/" in folder]
    if not found:
        raise StepError(f"{compiler} names no folder of C++ headers; an older system needs GCC")
    return found


def _ask(compiler: str, *arguments: str) -> str:
    env = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run([compiler, *arguments], capture_output=True, encoding="utf-8", env=env, check=False)
    if done.returncode != 0:
        raise StepError(f"{compiler} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout if arguments[0].startswith("-print") else done.stderr


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Unpack Debian 11's libraries and print their folder.")
    parser.add_argument("--target", choices=sorted(PACKAGES), default="linux-x86_64")
    target = parser.parse_args(argv).target
    try:
        cache = build_cache(os.environ)
        sysroot = Sysroot(target=target, cache=cache)
        sysroot.make(Steps(cache / "logs" / f"sysroot-{target}.log", name="sysroot"))
    except (StepError, QwenfileError) as error:
        print(f"sysroot: {error}", file=sys.stderr)
        return 1
    print(sysroot.path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
