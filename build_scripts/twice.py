"""Build the engine and a base twice, each time from nothing and in another folder, and compare every byte.

    python build_scripts/twice.py [--fast] [--no-webui] FOLDER

Compiler caches are switched off. Without --fast it takes as long as two clean builds: half an hour of two processors.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from runtime.paths import build_cache, host_target  # noqa: E402

KEPT = ("engine", "stub", "bases")
ROUNDS = ("first", "again-in-another-folder")  # no comma: CMake hands folders to the linker in lists with commas


def build(cache: Path, engine_flags: Sequence[str]) -> dict[str, str]:
    """Build engine, stub and base in the empty build cache `cache`; returns file -> SHA-256 of what they consist of."""
    cache.mkdir(parents=True)
    for source in (*build_cache(os.environ).glob("source-*"), build_cache(os.environ) / "downloads"):
        shutil.copytree(source, cache / source.name, symlinks=True)
    env = {**os.environ, "QWENFILE_BUILD_CACHE": str(cache), "CCACHE_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    for script, *flags in (("build_native.py", *engine_flags), ("build_stub.py",)):
        subprocess.run([sys.executable, ROOT / "build_scripts" / script, *flags], env=env, check=True)
    subprocess.run([sys.executable, "-m", "bundler", "base", "build", "--target", host_target()], env=env, check=True)
    files = (path for kind in KEPT for path in (cache / kind).rglob("*") if path.is_file())
    return {path.relative_to(cache).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def main(argv: Sequence[str] | None = None) -> int:
    """Build twice; 0 if the same came out."""
    parser = argparse.ArgumentParser(description="Build twice and compare every byte.")
    parser.add_argument("folder", type=Path, help="an empty or new folder with 5 GB of room")
    parser.add_argument("--fast", action="store_true", help="one CPU variant only")
    parser.add_argument("--no-webui", action="store_true", help="leave out the web UI")
    asked = parser.parse_args(argv)
    flags = [flag for flag, wanted in (("--fast", asked.fast), ("--no-webui", asked.no_webui)) if wanted]
    first, second = (build(asked.folder / name, flags) for name in ROUNDS)
    different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    for name in different:
        print(f"differs: {name}")
    print(f"{len(first)} files, {len(different)} of them different")
    return bool(different)


if __name__ == "__main__":
    raise SystemExit(main())
