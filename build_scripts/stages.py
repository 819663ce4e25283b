"""Run programs with their output in a log and their last line on the screen; the stages of demo.py and test.py.

Standard library only: it runs before the virtual environment exists. `steps` builds on it.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

Command = Sequence[str | Path]


class StageError(Exception):
    """A stage ended badly; the message names the log."""


def build_cache() -> Path:
    """The build cache, as `runtime.paths.build_cache` finds it (a test compares the two); created."""
    if override := os.environ.get("QWENFILE_BUILD_CACHE"):
        folder = Path(override).absolute()
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "qwenfile" / "build"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library/Caches/qwenfile/build"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwenfile" / "build"
    for place in (folder.parent, folder):  # 0700, since the run cache may be the parent
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


class Stages:
    """Counts stages and shows them on stderr. `total` is the number of stages that will be run."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.logs = build_cache() / "logs"
        self.logs.mkdir(exist_ok=True)

    def command(self, name: str, command: Command) -> str:
        """Run `command` as the next stage, its output going to a log; returns the last line it printed."""
        log = self.log(name)

        def work() -> str:
            code = run_logged(command, log)
            lines = [line for line in _tail(log) if line.strip()]
            if code:
                shown = "".join(f"\n    {line}" for line in lines[-12:])
                raise StageError(f"stage {name!r} failed with exit code {code}; its output is in {log}{shown}")
            return lines[-1] if lines else ""

        note = self.run(name, work, log)
        log.unlink()
        return note

    def log(self, name: str) -> Path:
        """A log of this process's own: others may be at the same stage."""
        log = self.logs / f"{name.replace(' ', '-')}-{os.getpid()}.log"
        log.unlink(missing_ok=True)
        return log

    def run(self, name: str, work: Callable[[], str], log: Path | None = None) -> str:
        """Run `work` as the next stage. It returns a note for the line that reports the stage done."""
        self.number += 1
        label = f"[{self.number}/{self.total}] {name}"
        start = time.monotonic()
        _say(f"{label} ...")
        with watched(label, log):
            note = work()
        _say(f"{label}: {time.monotonic() - start:.1f} s{'  ' + note if note else ''}")
        return note


def run_logged(command: Command, log: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run a program, its output at the end of a log; returns its exit code."""
    with log.open("ab") as output:
        return subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode


@contextlib.contextmanager
def watched(label: str, log: Path | None) -> Iterator[None]:
    """What happens inside is shown by its time and the log's last line."""
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(label, log, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(label: str, log: Path | None, done: threading.Event) -> None:
    """A line that lives on a terminal; a sign of life every minute elsewhere."""
    start, terminal = time.monotonic(), sys.stderr.isatty()
    while not done.wait(1 if terminal else 60):
        last = next((line.strip() for line in reversed(_tail(log)) if line.strip()), "") if log else ""
        line = f"{label}: {time.monotonic() - start:.0f} s  {last[:80]}"
        if terminal:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        else:
            _say(line)
    if terminal:
        sys.stderr.write("\r\x1b[K")


def _tail(log: Path) -> list[str]:
    """The last few lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return file.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
    except OSError:
        return []


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
