"""One door to subprocesses for the native build: output to a log file, progress on standard error, one-line failures.

Only build scripts may import it.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stages import run_logged, watched

_ERROR = re.compile(r"\berror: |Error: |npm error ")


class StepError(Exception):
    """A step failed; the message says which and where its output is, or what is missing and how to get it."""


class Steps:
    """Runs the steps of one build: `say` what happens, `run` programs with their output in the log."""

    def __init__(self, log: Path, name: str = "engine") -> None:
        self.log = log
        self._name = name
        self._start = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")

    def say(self, text: str) -> None:
        seconds = int(time.monotonic() - self._start)
        print(f"{self._name}: {text} [{seconds // 60}:{seconds % 60:02d}]", file=sys.stderr, flush=True)

    def run(self, what: str, command: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> None:
        """Run `command`, shown by its last line. Raises StepError with the log's path and the line that says most."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(str(part) for part in command)}\n")
        start = self.log.stat().st_size
        with watched(f"{self._name}: {what}", self.log):
            code = run_logged(command, self.log, cwd, env)
        if code:
            reason = self._reason(start)
            raise StepError(f"{what} failed (exit {code}): {reason}; the whole output is in {self.log}")

    def _reason(self, start: int) -> str:
        """The log's first line from byte `start` on that speaks of an error, or else its last."""
        with self.log.open("rb") as log:
            log.seek(start)
            lines = [line.decode(errors="replace").strip() for line in log if line.strip()]
        return next((line for line in lines if _ERROR.search(line)), lines[-1] if lines else "")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file: two builds of the same thing wait for each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except ImportError:
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        yield


def replace_folder(work: Path, final: Path) -> None:
    """Give a finished work folder its final name; what was there before goes away."""
    if final.exists():
        old = final.with_name(f"{final.name}.old-{os.getpid()}")
        final.rename(old)
        work.rename(final)
        remove_folder(old)
    else:
        work.rename(final)


def remove_folder(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new text, nothing between."""
    work = path.with_name(f"{path.name}.work-{os.getpid()}")
    work.write_text(text, encoding="utf-8")
    work.replace(path)
