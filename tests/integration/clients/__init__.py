"""Programs that use a server as its users do, and the environments with real client packages that they run in.

The packages are heavy and have warnings of their own, so they are kept away from the test suite's environment: every
script here is a program that prints one JSON object, run with the Python of an environment in the build cache.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from runtime.paths import build_cache
from tests.integration.conftest import ROOT, TIMEOUT

HERE = Path(__file__).parent
_INSTALL_TIMEOUT = 1800.0


def environment(name: str) -> Path:
    """The folder of the programs of an environment with build_scripts/requirements-NAME.txt, made if it isn't there."""
    requirements = ROOT / "build_scripts" / f"requirements-{name}.txt"
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = build_cache(os.environ) / f"{name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            venv.create(folder, clear=True, with_pip=True, symlinks=True)
            install = [folder / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements]
            done = subprocess.run(install, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT, check=False)
            assert done.returncode == 0, f"pip could not install {requirements.name}:\n{done.stderr[-2000:]}"
            (folder / "complete").touch()
    return folder / "bin"


def run_client(programs: Path, script: str, *arguments: str | Path, cwd: Path, **env: str) -> Any:
    """What `script` of this folder prints. HOME is `cwd`, so that nothing of the user's counts."""
    done = subprocess.run(
        [programs / "python", HERE / script, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8", "NO_PROXY": "*", **env},
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{script} failed:\n{done.stderr[-4000:]}\n{done.stdout[-1000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])
