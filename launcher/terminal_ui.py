"""What a chat says, on a terminal: painted Markdown with thinking folded, or plain text where nothing can be painted.

Imported by `launcher.repl` only.
"""

import base64
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from launcher.client import Progress
from launcher.console import Console, between_words, keys_seen
from launcher.painter import Painter
from runtime.errors import UsageError

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
# A prompt with fewer new tokens is read before anybody could see how far it is.
_WORTH_TELLING = 256
_THINKING_ROWS, _READING_ROWS = 5, 2
_LAST_THOUGHTS = 2_000  # characters that fill more than those rows
# Terminals take at least this much for the clipboard; xterm's own limit is higher.
_CLIPBOARD = 74_994
_EDITORS = ("nano", "vim", "vi", "emacs", "notepad")


def make(console: Console, *, ascii_only: bool) -> "TerminalUI":
    """The UI for this terminal."""
    if console.env.get("TERM", "dumb") == "dumb":
        return PlainUI(console)
    return PaintedUI(console, ascii_only=ascii_only)


class TerminalUI:
    """What both kinds have in common. `dim`: a fresh text of thinking has begun."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.view = "fold"
        self.began: float | None = None  # when thinking did

    def show(self, text: str) -> None:
        self.exact(between_words(text, self.console.size()[0]))

    def exact(self, text: str) -> None:
        self.console.answer(text.rstrip("\n") + "\n")

    def notice(self, text: str) -> None:
        self.console.say(text)

    def thinking_view(self, view: str) -> None:
        self.view = view

    def copy(self, text: str) -> None:
        data = base64.b64encode(text.encode(errors="replace")).decode()
        if self.console.env.get("TERM", "dumb") == "dumb":
            raise UsageError("this terminal has no clipboard", "/export FILE.md writes the conversation")
        if len(data) > _CLIPBOARD:
            raise UsageError(f"{len(text):,} characters are too many for a terminal's clipboard", "/export FILE.md")
        self.console.draw(f"\x1b]52;c;{data}\x07")

    def edit(self, text: str) -> str | None:
        command = shlex.split(self.console.env.get("VISUAL") or self.console.env.get("EDITOR") or "")
        command = command or [next((name for name in _EDITORS if shutil.which(name)), "")]
        if not command[0]:
            raise UsageError("there is no editor", "set EDITOR to yours")
        handle, name = tempfile.mkstemp(prefix="qwenfile-", suffix=".md")
        path = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            with keys_seen():
                done = subprocess.run([*command, name], check=False)
            if done.returncode:
                raise UsageError(f"{command[0]} ended with {done.returncode}, nothing sent")
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"cannot run {command[0]}: {(error.strerror or str(error)).lower()}") from None
        finally:
            path.unlink(missing_ok=True)

    def thought_for(self) -> str:
        """How long thinking took, as the line that it is folded to; thinking is over then."""
        seconds = time.monotonic() - (self.began or time.monotonic())
        self.began = None
        return f"thought for {seconds:.1f} s"

    def thinking(self, text: str) -> None:
        raise NotImplementedError

    def answer(self, text: str) -> None:
        raise NotImplementedError

    def reading(self, progress: Progress) -> None:
        raise NotImplementedError

    def turn_over(self, *, interrupted: bool) -> None:
        raise NotImplementedError


class PaintedUI(TerminalUI):
    """Markdown, and a live part that is repainted in place."""

    def __init__(self, console: Console, *, ascii_only: bool = False) -> None:
        super().__init__(console)
        self._painter = Painter(console, ascii_only=ascii_only)
        self._thoughts = ""
        self._answered = False
        self._reading = False

    def thinking(self, text: str) -> None:
        if self.began is None:
            self._end_reading()
            self.began = time.monotonic()
            self._thoughts = ""
            text = text.lstrip("\n")
        if self.view == "show":
            self._painter.dim(text)
        elif self.view == "fold":
            self._thoughts = (self._thoughts + text)[-_LAST_THOUGHTS:]
            self._painter.status(self._thoughts, _THINKING_ROWS)
        else:
            self._painter.status("thinking")

    def answer(self, text: str) -> None:
        self._end_reading()
        self._end_thinking()
        self._answered = True
        self._painter.markdown(text)

    def reading(self, progress: Progress) -> None:
        if progress.total - progress.cached < _WORTH_TELLING:
            return
        self._reading = True
        fresh, seconds = progress.done - progress.cached, progress.milliseconds / 1000
        rate = f", {fresh / seconds:,.0f} tokens/s" if fresh and seconds else ""
        share = 100 * progress.done // max(1, progress.total)
        told = f"reading {progress.done:,} of {progress.total:,} tokens ({share} %){rate}"
        self._painter.status(told, _READING_ROWS)

    def turn_over(self, *, interrupted: bool) -> None:
        if not (self._reading or self._answered or self.began is not None or interrupted):
            return  # nothing was shown
        self._end_reading()
        self._end_thinking()
        if self._answered:
            self._painter.end()
        if interrupted:
            self._painter.fix("[interrupted]")
        self._answered = False
        self.console.draw("\n")

    def _end_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._painter.fix()

    def _end_thinking(self) -> None:
        if self.began is None:
            return
        line = self.thought_for()
        if self.view == "fold":
            self._painter.fix(line)
        else:
            self._painter.fix()
        if self.view != "hide":
            self.console.draw("\n")


class PlainUI(TerminalUI):
    """Text as it comes, for terminals that can do nothing else."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._fresh = True

    def thinking(self, text: str) -> None:
        if self.began is None:
            self.began = time.monotonic()
            text = text.lstrip("\n")
            if self.view == "fold":
                self._write("[thinking ...")
        if self.view == "show":
            self._write(text)

    def answer(self, text: str) -> None:
        self._end_thinking()
        self._write(text)

    def reading(self, progress: Progress) -> None:
        """A line that cannot be taken back is not worth it."""

    def turn_over(self, *, interrupted: bool) -> None:
        if self._fresh and self.began is None and not interrupted:
            return  # nothing was shown
        self._end_thinking()
        if interrupted:
            self._write(" [interrupted]")
        self._end_line()
        self._write("\n")

    def _end_thinking(self) -> None:
        if self.began is not None:
            line = self.thought_for()
            if self.view == "fold":
                self._write(f" {line}]")
            self._end_line()

    def _end_line(self) -> None:
        if not self._fresh:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            self._fresh = text.endswith("\n")
            self.console.answer(text)
