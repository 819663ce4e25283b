"""A person at a terminal: a real pseudo-terminal with an emulator behind it that answers the program's questions."""

import re
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pyte

PATIENCE = 60.0  # seconds; a guard against hanging, not a measurement
ENTER, CTRL_C, CTRL_D, CTRL_J, TAB = "\r", "\x03", "\x04", "\n", "\t"


class Terminal:
    """A program in a terminal of `columns` × `rows`. `text` is everything shown so far, scrolled-off lines included."""

    def __init__(
        self, command: Sequence[str | Path], env: Mapping[str, str], *, columns: int = 80, rows: int = 24
    ) -> None:
        self.screen: Any = pyte.HistoryScreen(columns, rows, history=100_000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        program, *arguments = map(str, command)
        self._child = pexpect.spawn(program, arguments, env=dict(env), dimensions=(rows, columns), timeout=PATIENCE)
        self._child.delaybeforesend = None
        self.screen.write_process_input = self.type

    @property
    def text(self) -> str:
        gone = ["".join(row[column].data for column in range(self.screen.columns)) for row in self.screen.history.top]
        return "\n".join(line.rstrip() for line in [*gone, *self.screen.display]).rstrip()

    def type(self, keys: str) -> None:
        """Press keys."""
        self._child.send(keys.encode())

    def enter(self, line: str) -> None:
        """Type a line and press Enter."""
        self.type(line + ENTER)

    def look(self, seconds: float = 0.05) -> bool:
        """Take what the program has written meanwhile; False when it has ended."""
        try:
            piece = self._child.read_nonblocking(65_536, seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += piece
        self._stream.feed(piece)
        return True

    def wait_for(self, pattern: str, *, after: int = 0) -> str:
        """Look until the text from position `after` on matches; returns all text."""
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, self.text[after:], re.DOTALL):
            assert self.look(), f"it ended before showing {pattern!r}:\n{self.text}"
            assert time.monotonic() < end, f"it never showed {pattern!r}:\n{self.text}"
        return self.text

    def wait_for_keys(self) -> None:
        """Wait until the program has taken over the keyboard: from then on Enter reaches it as Enter."""
        end = time.monotonic() + PATIENCE
        while termios.tcgetattr(self._child.child_fd)[0] & termios.ICRNL:
            assert time.monotonic() < end, "it never took over the keyboard"
            time.sleep(0.005)

    def prompts(self) -> int:
        """How many prompts there have been: each turns on bracketed paste once."""
        return self.raw.count(b"\x1b[?2004h")

    def ask(self, line: str) -> str:
        """Type a line, wait for the next prompt, and return what came in between."""
        before, start = self.prompts(), len(self.text)
        self.enter(line)
        end = time.monotonic() + PATIENCE
        while self.prompts() <= before or not self.text.endswith("\n>>>"):
            assert self.look(), f"it ended:\n{self.text}"
            assert time.monotonic() < end, f"no prompt came back:\n{self.text}"
        return self.text[start:].removesuffix(">>>").strip()

    def end(self) -> int:
        """Wait until the program has ended; returns its exit code, 128 + the signal's number if one ended it."""
        stop = time.monotonic() + PATIENCE
        while self.look():
            assert time.monotonic() < stop, f"it didn't end:\n{self.text}"
        self._child.close()
        code = self._child.exitstatus
        return 128 + self._child.signalstatus if code is None else int(code)

    def signal(self, number: int) -> None:
        """Send the program a signal."""
        self._child.kill(number)

    def kill(self) -> None:
        self._child.close(force=True)
