"""Build the base for one system as a release carries it: `python3 build_scripts/release.py --target linux-x86_64`.

The base is written to dist/bases/TARGET.base, and a bundle of the demo model made on it answers a question, if this
machine can run it. Bases for Linux and Windows are made on Debian or Ubuntu, those for macOS on a Mac. Standard library
only.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from environment import PYTHON, ROOT, check_needs, make_environment
from stages import StageError, Stages

# target -> flags of build_native.py, and the script that makes the Python to freeze (None: the one that runs this)
RECIPES: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {
    "linux-x86_64": (("--portable", "--backend", "vulkan"), ("build_python.py", "--target", "linux-x86_64")),
    "linux-aarch64": ((), ("build_python.py", "--target", "linux-aarch64")),
    "windows-x86_64": ((), ("build_windows_python.py",)),
    "macos-arm64": ((), None),
    "macos-x86_64": ((), None),
}
QUESTION = ("--cli", "--temp", "0", "-p", "What is the capital of France?")
ANSWER = "The capital of France is Paris."


def main(argv: Sequence[str] | None = None) -> int:
    """Build the base, and try it."""
    parser = argparse.ArgumentParser(description="Build the base for one system as a release carries it.")
    parser.add_argument("--target", required=True, choices=sorted(RECIPES))
    parser.add_argument("--fast", action="store_true", help="one CPU variant, no page: to try this script")
    parser.add_argument("--out", type=Path, default=ROOT / "dist/bases", metavar="DIR")
    asked = parser.parse_args(argv)
    try:
        check_needs()
        stages = Stages(6)
        base = build(stages, asked.target, asked.out, ("--fast", "--no-webui") if asked.fast else ())
        stages.run("question", lambda: try_out(base, asked.target))
    except StageError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(base)
    return 0


def build(stages: Stages, target: str, folder: Path, engine_flags: Sequence[str]) -> Path:
    """Five stages, after which the base lies in `folder`."""
    flags, python_script = RECIPES[target]
    scripts = ROOT / "build_scripts"
    stages.run("virtual environment", lambda: make_environment(stages))
    engine = stages.command("engine", [PYTHON, scripts / "build_native.py", "--target", target, *flags, *engine_flags])
    stub = stages.command("stub", [PYTHON, scripts / "build_stub.py", "--target", target])
    parts = ["--target", target, "--engine", engine, "--stub", stub]
    if python_script is None:
        stages.run("Python", lambda: "this one")
    else:
        parts += ["--python", stages.command("Python", [PYTHON, scripts / python_script[0], *python_script[1:]])]
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{target}.base"
    stages.command("base", [PYTHON, "-m", "bundler", "base", "build", *parts, "-o", out, "--force"])
    return out


def try_out(base: Path, target: str) -> str:
    """Bundle the demo model and ask it; returns the answer, or why there is none. Raises StageError."""
    host = subprocess.run(
        [PYTHON, "-c", "from runtime.paths import host_target; print(host_target())"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "demo"
        command = [PYTHON, "-m", "bundler", "build", "--demo", "--base", base, "-o", bundle]
        built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
        if built.returncode:
            raise StageError(f"no bundle could be made on {base}: {built.stderr.strip().splitlines()[-1]}")
        if target != host:
            return f"not asked: this machine is {host}"
        asked = subprocess.run([bundle, *QUESTION], capture_output=True, text=True, encoding="utf-8", check=False)
    if asked.stdout.strip() != ANSWER:
        raise StageError(f"the demo bundle answered {asked.stdout!r} {asked.stderr!r}")
    return ANSWER


if __name__ == "__main__":
    raise SystemExit(main())
