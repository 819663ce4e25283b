"""Build the base for one system as a release carries it: `python3 build_scripts/release.py --target linux-x86_64`.

The base is written to dist/bases/TARGET.base, and a bundle of the demo model made on it answers a question, if this
machine can run it. Bases for Linux and Windows are made on Debian or Ubuntu, those for macOS on a Mac.

The one for Windows on Arm takes two machines: on Debian or Ubuntu engine and stub are made and left in
dist/parts/TARGET; where that folder is brought to such a Windows, the same command there freezes the launcher with
Windows' own Python and makes the base. Standard library only.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environment import PYTHON, ROOT, check_needs, make_environment
from stages import StageError, Stages

sys.path.insert(0, str(ROOT))

from runtime.paths import host_target


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a base is made. `engine`: flags of build_native.py; `python`: the script that makes the Python to freeze,
    nothing for the one that runs this; `freezes_there`: that is the target's own, to which engine and stub are brought.
    """

    engine: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    freezes_there: bool = False


RECIPES = {
    "linux-x86_64": Recipe(
        engine=("--portable", "--backend", "vulkan"), python=("build_python.py", "--target", "linux-x86_64")
    ),
    "linux-aarch64": Recipe(python=("build_python.py", "--target", "linux-aarch64")),
    "windows-x86_64": Recipe(python=("build_windows_python.py",)),
    "windows-arm64": Recipe(freezes_there=True),
    "macos-arm64": Recipe(),
    "macos-x86_64": Recipe(),
}
# Of requirements.txt what freezing and bundling need; some of the rest cannot be had for Windows on Arm.
FREEZING = ("gguf", "platformdirs", "prompt-toolkit", "pyinstaller", "rich", "setuptools")
SCRIPTS, PARTS = ROOT / "build_scripts", ROOT / "dist/parts"
QUESTION = ("--cli", "--temp", "0", "-p", "What is the capital of France?")
ANSWER = "The capital of France is Paris."


def main(argv: Sequence[str] | None = None) -> int:
    """Build the base, and try it."""
    parser = argparse.ArgumentParser(description="Build the base for one system as a release carries it.")
    parser.add_argument("--target", required=True, choices=sorted(RECIPES))
    parser.add_argument("--fast", action="store_true", help="one CPU variant, no page: to try this script")
    parser.add_argument("--out", type=Path, default=ROOT / "dist/bases", metavar="DIR")
    asked = parser.parse_args(argv)
    flags = ("--fast", "--no-webui") if asked.fast else ()
    try:
        check_needs()
        if not RECIPES[asked.target].freezes_there:
            print(build(asked.target, asked.out, flags))
        elif host_target() != asked.target:
            print(build_parts(asked.target, PARTS / asked.target, flags))
        else:
            print(build_of_parts(asked.target, PARTS / asked.target, asked.out))
    except StageError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def build(target: str, folder: Path, engine_flags: Sequence[str]) -> Path:
    """Make everything here; returns the base in `folder`."""
    stages = Stages(6)
    stages.run("virtual environment", lambda: make_environment(stages))
    engine, stub = _engine_and_stub(stages, target, engine_flags)
    parts: list[str | Path] = ["--engine", engine, "--stub", stub]
    if script := RECIPES[target].python:
        parts += ["--python", stages.command("Python", [PYTHON, SCRIPTS / script[0], *script[1:]])]
    else:
        stages.run("Python", lambda: "this one")
    return _base(stages, target, folder, parts)


def build_parts(target: str, folder: Path, engine_flags: Sequence[str]) -> Path:
    """Make engine and stub; returns `folder`, which holds them and nothing else."""
    stages = Stages(5)
    stages.run("virtual environment", lambda: make_environment(stages))
    # An engine that nothing here can run has the options that this machine's says it has.
    stages.command("engine of this machine", [PYTHON, SCRIPTS / "build_native.py", *engine_flags])
    engine, stub = _engine_and_stub(stages, target, engine_flags)

    def gather() -> str:
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("lib", "licenses"):
            shutil.copytree(engine / name, folder / "engine" / name)
        shutil.copyfile(engine / "engine.json", folder / "engine" / "engine.json")
        shutil.copytree(stub.parent, folder / "stub")
        return f"to be brought to a {target}"

    stages.run("parts", gather)
    return folder


def build_of_parts(target: str, parts: Path, folder: Path) -> Path:
    """Make the base of the engine and the stub in `parts`, for the system that this is; returns it, in `folder`."""
    if not parts.is_dir():
        raise StageError(f"there is no {parts}; make it with this command on Debian or Ubuntu, and bring it here")
    stages = Stages(3)
    stages.run("virtual environment", lambda: make_environment(stages, FREEZING))
    return _base(stages, target, folder, ["--engine", parts / "engine", "--stub", parts / "stub" / "stub"])


def _engine_and_stub(stages: Stages, target: str, engine_flags: Sequence[str]) -> tuple[Path, Path]:
    """Two stages."""
    flags = ["--target", target, *RECIPES[target].engine, *engine_flags]
    engine = stages.command("engine", [PYTHON, SCRIPTS / "build_native.py", *flags])
    return Path(engine), Path(stages.command("stub", [PYTHON, SCRIPTS / "build_stub.py", "--target", target]))


def _base(stages: Stages, target: str, folder: Path, parts: Sequence[str | Path]) -> Path:
    """Two stages: the base, and a question to it."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{target}.base"
    command = [PYTHON, "-m", "bundler", "base", "build", "--target", target, *parts, "-o", out, "--force"]
    stages.command("base", command)
    stages.run("question", lambda: try_out(out, target))
    return out


def try_out(base: Path, target: str) -> str:
    """Bundle the demo model and ask it; returns the answer, or why there is none. Raises StageError."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / ("demo.exe" if target.startswith("windows-") else "demo")
        command = [PYTHON, "-m", "bundler", "build", "--demo", "--base", base, "-o", bundle]
        built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
        if built.returncode:
            raise StageError(f"no bundle could be made on {base}: {built.stderr.strip().splitlines()[-1]}")
        if target != host_target():
            return f"not asked: this machine is {host_target()}"
        asked = subprocess.run([bundle, *QUESTION], capture_output=True, text=True, encoding="utf-8", check=False)
    if asked.stdout.strip() != ANSWER:
        raise StageError(f"the demo bundle answered {asked.stdout!r} {asked.stderr!r}")
    return ANSWER


if __name__ == "__main__":
    raise SystemExit(main())
