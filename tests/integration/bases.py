"""Bases of other systems, made here, and what that needs. Their engines have one CPU variant (--fast)."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.paths import host_target
from tests.integration.conftest import ROOT, STEADY, Runner, succeed
from tests.integration.windows import WINE

ASK = ("--cli", *STEADY, "-p", "What is the capital of France?")
ANSWER = "The capital of France is Paris.\n"

needs_debian = pytest.mark.skipif(
    host_target() != "linux-x86_64" or platform.freedesktop_os_release()["ID"] != "debian",
    reason="needs Debian on x86-64: its apt fetches Debian 11's libraries and CPython's source",
)
needs_cross = pytest.mark.skipif(
    not shutil.which("aarch64-linux-gnu-g++") or not shutil.which("qemu-aarch64-static"),
    reason="needs the cross compiler and the emulator (apt install g++-aarch64-linux-gnu qemu-user-static)",
)
needs_wine = pytest.mark.skipif(not WINE, reason="needs wine, which runs programs for Windows (apt install wine64)")


def script(run: Runner, name: str, *arguments: str) -> Path:
    """What a build script says at its end: the path of what it made."""
    command = [sys.executable, ROOT / "build_scripts" / name, *arguments]
    env = {**run.env, "HOME": os.environ.get("HOME", "")}  # where ccache is
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def make_base(run: Runner, target: str, folder: Path) -> Path:
    """A base of `target`; those for Linux run on older systems than this one."""
    windows = target.startswith("windows-")
    python = ("build_windows_python.py",) if windows else ("build_python.py", "--target", target)
    engine = ("--no-webui",) if windows else ("--portable", "--backend", "cpu")
    parts = {
        "--python": script(run, *python),
        "--engine": script(run, "build_native.py", "--target", target, "--fast", *engine),
        "--stub": script(run, "build_stub.py", "--target", target),
    }
    named = [word for name, path in parts.items() for word in (name, path)]
    base = folder / f"{target}.base"
    succeed(run.qwenfile("base", "build", "--target", target, *named, "-o", base), [target])
    return base
