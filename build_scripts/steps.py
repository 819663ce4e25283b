"""One door to subprocesses for the native build: output to a log file, progress on standard error, one-line failures.

Only build scripts may import it.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

_NINJA = re.compile(r"\[(\d+)/(\d+)\]")


class StepError(Exception):
    """A step failed; the message says which and where its output is, or what is missing and how to get it."""


class Steps:
    """Runs the steps of one build: `say` what happens, `run` programs with their output in the log."""

    def __init__(self, log: Path, stream: TextIO = sys.stderr, name: str = "engine") -> None:
        self.log = log
        self._name = name
        self._stream = stream
        self._start = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")

    def say(self, text: str) -> None:
        seconds = int(time.monotonic() - self._start)
        print(f"{self._name}: {text} [{seconds // 60}:{seconds % 60:02d}]", file=self._stream, flush=True)

    def run(self, what: str, command: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> None:
        """Run `command`; show ninja's progress. Raises StepError with the log's path and the last error line."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(str(part) for part in command)}\n")
            log.flush()
            with subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env=dict(env),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                encoding="utf-8",
                errors="replace",
            ) as process:
                assert process.stdout is not None
                tail = self._follow(what, process.stdout, log)
        if process.returncode != 0:
            raise StepError(f"{what} failed (exit {process.returncode}): {tail}; the whole output is in {self.log}")

    def _follow(self, what: str, output: TextIO, log: TextIO) -> str:
        """Copy the output to the log; return the line that most likely says what went wrong."""
        last, error, shown = "", "", time.monotonic()
        for line in output:
            log.write(line)
            last = line.strip() or last
            if not error and re.search(r"\berror: |Error: |npm error ", line):
                error = line.strip()
            at = _NINJA.match(line)
            pause = 0.2 if self._stream.isatty() else 30.0
            if at and time.monotonic() - shown >= pause:
                shown = time.monotonic()
                if self._stream.isatty():
                    self._stream.write(f"\r{self._name}: {what}, {at[1]} of {at[2]} ")
                    self._stream.flush()
                else:
                    self.say(f"{what}, {at[1]} of {at[2]}")
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
        return error or last


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
