"""Compile the stub, a bundle's first bytes, with the zig compiler of PyPI's `ziglang`: static, stripped; for any Linux,
for Windows 10 and later, and for macOS 11 and later.

    python build_scripts/build_stub.py [--target linux-x86_64] [--force]

The result lies in the build cache at stub/<target>-<key>/stub, keyed by sources, flags and compiler; the last line
of stdout is its path. The first run on a machine takes about half a minute: zig compiles musl for itself.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from bundler.macho import prepare  # noqa: E402
from runtime.errors import QwenfileError  # noqa: E402
from runtime.paths import build_cache, host_target  # noqa: E402
from runtime.version import VERSION  # noqa: E402
from windows_resources import resources  # noqa: E402

SOURCES = ROOT / "runtime" / "native" / "stub"

# target -> what zig calls it
TARGETS = {
    "linux-x86_64": "x86_64-linux-musl",
    "linux-aarch64": "aarch64-linux-musl",
    "windows-x86_64": "x86_64-windows-gnu",
    "windows-arm64": "aarch64-windows-gnu",
    "macos-arm64": "aarch64-macos.11.0",
    "macos-x86_64": "x86_64-macos.11.0",
}
# What every system shares; the rest of SOURCES is for Linux and macOS, windows/ for Windows.
SHARED = ("header.c", "sha256.c", "ustar.c")

FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-D__USE_MINGW_ANSI_STDIO=0", "-Wall", "-Wextra", "-Werror", "-fno-ident")
SPEED = {"sha256.c": "-O2"}  # the one place where the first start spends time; the rest is for size
SIZE = "-Os"
STATIC = ("-static", "-s", "-Wl,--gc-sections", "-Wl,--build-id=none")
# macOS has no static programs. The room between load commands and code is for the one that names the signature.
LINK_FLAGS = {"linux": STATIC, "windows": STATIC, "macos": ("-s", "-Wl,-dead_strip", "-Wl,-headerpad,0x100")}
# What the stub is linked with statically: the licence's name, and its text in zig's package
LICENSES = {
    "linux": ("musl", "lib/libc/musl/COPYRIGHT"),
    "windows": ("mingw-w64", "lib/libc/mingw/COPYING"),
    "macos": ("zig-compiler-rt", "LICENSE"),
}

# A bundle is looked at in its first 256 KiB, and every bundle carries this: a stub that grows is a mistake.
MAX_SIZE = {"linux": 64 * 1024, "windows": 96 * 1024, "macos": 96 * 1024}  # arm64 macOS: pages of 16 KiB


def stub_key(target: str) -> str:
    """16 hex digits over everything that the stub's bytes depend on."""
    digest = hashlib.sha256()
    options = (*FLAGS, *SPEED.items(), SIZE, *LINK_FLAGS[_system(target)])
    for line in (TARGETS[target], importlib.metadata.version("ziglang"), repr(options)):
        digest.update(line.encode() + b"\0")
    for name in (*_sources(target), "stub.h", "windows/shared.h"):
        digest.update(name.encode() + b"\0" + (SOURCES / name).read_bytes())
    if _system(target) == "macos":
        digest.update((ROOT / "bundler/macho.py").read_bytes())
    if _system(target) == "windows":
        digest.update(VERSION.encode() + (ROOT / "build_scripts/windows_resources.py").read_bytes())
    return digest.hexdigest()[:16]


def _system(target: str) -> str:
    return target.partition("-")[0]


def _sources(target: str) -> list[str]:
    """The C files of a target, relative to SOURCES."""
    if target.startswith("windows-"):
        return [*SHARED, *(f"windows/{path.name}" for path in sorted(SOURCES.glob("windows/*.c")))]
    return [path.name for path in sorted(SOURCES.glob("*.c"))]


def build_stub(target: str, env: Mapping[str, str], *, force: bool = False) -> Path:
    """Compile the stub for `target` unless the cache has it; returns its path. Raises QwenfileError."""
    cache = build_cache(env)
    folder = cache / "stub" / f"{target}-{stub_key(target)}"
    stub = folder / "stub"
    library, text = LICENSES[_system(target)]
    license_text = folder / "licenses" / f"{library}.txt"
    if force or not stub.is_file() or not license_text.is_file():
        license_text.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_zig() / text, license_text)
        with tempfile.TemporaryDirectory(prefix="stub-", dir=folder.parent) as work:
            built = _compile(target, Path(work), cache / "zig", env)
            built.replace(stub)
    current = cache / "stub" / f"{target}.current"
    part = current.with_suffix(f".{os.getpid()}")
    part.write_text(folder.name + "\n")
    part.replace(current)
    return stub


def _zig() -> Path:
    """The folder of the zig package, which carries C libraries as source."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise QwenfileError("there is no zig compiler here", "pip install ziglang")
    return Path(found.origin).parent


def _compile(target: str, work: Path, zig_cache: Path, env: Mapping[str, str]) -> Path:
    zig_env = {**env, "ZIG_GLOBAL_CACHE_DIR": str(zig_cache), "ZIG_LOCAL_CACHE_DIR": str(work / "zig")}
    compiler = (sys.executable, "-m", "ziglang", "cc", "-target", TARGETS[target], *FLAGS)
    objects = []
    for source in _sources(target):
        # Names relative to the sources: no path of this machine gets into the bytes.
        objects.append(f"{Path(source).stem}.o")
        options = (SPEED.get(source, SIZE), "-c", source, "-o", str(work / objects[-1]))
        _run((*compiler, *options), SOURCES, zig_env)
    if _system(target) == "windows":
        objects.append("icon.res")
        (work / objects[-1]).write_bytes(resources(VERSION))
    stub = work / "stub"
    _run((*compiler, SIZE, *LINK_FLAGS[_system(target)], *objects, "-o", stub.name), work, zig_env)
    if _system(target) == "macos":
        stub.write_bytes(prepare(stub.read_bytes()))
    size = stub.stat().st_size
    limit = MAX_SIZE[_system(target)]
    if size > limit:
        raise QwenfileError(f"the stub for {target} has {size:,} bytes; {limit:,} are allowed")
    return stub


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        raise QwenfileError(f"zig failed with {result.returncode}: {' '.join(command)}\n{result.stderr.strip()}")


def main(argv: Sequence[str] | None = None) -> int:
    """Build the stub and print its path."""
    parser = argparse.ArgumentParser(description="Compile the stub, a bundle's first bytes.")
    parser.add_argument("--target", choices=sorted(TARGETS), default=host_target())
    parser.add_argument("--force", action="store_true", help="compile even if the cache has it")
    options = parser.parse_args(argv)
    try:
        print(build_stub(options.target, os.environ, force=options.force))
    except QwenfileError as error:
        print(f"build_stub: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
