"""What every script needs first: a compiler, the virtual environment .venv, engine, stub and base.

Standard library only. `prepare` is shared by demo.py and test.py; `python3 build_scripts/environment.py` runs it alone.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_backends import choose
from stages import StageError, Stages, build_cache

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
REQUIREMENTS = ROOT / "build_scripts" / "requirements.txt"
STAGES = 5
NEEDS = "needs Python 3.11 or newer and a C/C++ compiler; everything else comes from PyPI"


def check_needs() -> None:
    """Raise StageError, naming the remedy, for what this machine lacks."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is the message for older ones
        raise StageError(f"this is Python {sys.version.split()[0]}; run it with Python 3.11 or newer")
    for kind, names in (("C", ("cc", "gcc", "clang")), ("C++", ("c++", "g++", "clang++"))):
        if os.name != "nt" and not any(map(shutil.which, names)):
            raise StageError(f"there is no {kind} compiler; install one (Debian, Ubuntu: apt install build-essential)")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        raise StageError("this Python lacks ensurepip; install it (Debian, Ubuntu: apt install python3-venv)") from None


def prepare(stages: Stages, *engine_flags: str) -> None:
    """Run STAGES stages, after which `.venv`, a base for this machine and llama-cpp-python's bindings are there."""
    check_needs()
    if sys.platform == "linux" and (notice := choose(None, target="linux", standard=True, cache=build_cache()).notice):
        print(f"note: the engine is built {notice}", file=sys.stderr)
    stages.run("virtual environment", lambda: make_environment(stages))
    engine = stages.command("native engine", [PYTHON, ROOT / "build_scripts/build_native.py", *engine_flags])
    stages.run("engine bindings", lambda: _install_bindings(stages, Path(engine)))
    stages.command("stub", [PYTHON, ROOT / "build_scripts/build_stub.py"])
    stages.command("base", [PYTHON, "-m", "bundler", "base", "build"])


def _pip(stages: Stages, *arguments: str | Path, **env: str) -> None:
    log = stages.log("pip")
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", *arguments]
    with log.open("wb") as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env}, check=False
        ).returncode
    if code:
        raise StageError(f"pip failed with exit code {code}; its output is in {log}")
    log.unlink()


def _stamped(name: str, key: str) -> bool:
    """Whether the environment already holds what `key` describes."""
    stamp = VENV / f".{name}"
    return stamp.is_file() and stamp.read_text() == key


def make_environment(stages: Stages, only: Sequence[str] = ()) -> str:
    """Everything of requirements.txt, or of it `only` these packages, and this package in .venv; returns a note."""
    asked = ["-c", REQUIREMENTS, *only] if only else ["-r", REQUIREMENTS]
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + sys.version.encode())
    key.update(" ".join(only).encode())
    if PYTHON.is_file() and _stamped("requirements", key.hexdigest()):
        return "up to date"
    if not PYTHON.is_file() and VENV.exists():
        shutil.rmtree(VENV)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    _pip(stages, *asked)
    _pip(stages, "--no-deps", "--no-build-isolation", "--editable", ROOT)
    (VENV / ".requirements").write_text(key.hexdigest())
    return "installed"


def _install_bindings(stages: Stages, engine: Path) -> str:
    """llama-cpp-python from the engine's own sdist, without compiling: LLAMA_CPP_LIB_PATH names the libraries."""
    key = engine.name
    if _stamped("bindings", key):
        return "up to date"
    sdist = next((build_cache() / "downloads").glob("llama_cpp_python-*.tar.gz"))
    _pip(stages, "--no-deps", "--no-build-isolation", sdist, CMAKE_ARGS="-DLLAMA_BUILD=OFF")
    (VENV / ".bindings").write_text(key)
    return "installed"


def main() -> int:
    """Prepare and nothing more."""
    try:
        prepare(Stages(STAGES))
    except StageError as error:
        print(f"environment: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
