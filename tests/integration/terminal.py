"""A person at a terminal: a real pseudo-terminal with an emulator behind it that answers the program's questions."""

import itertools
import re
import signal
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

PATIENCE = 60.0  # seconds; a guard against hanging, not a measurement
ENTER, CTRL_C, CTRL_D, CTRL_J, TAB = "\r", "\x03", "\x04", "\n", "\t"
# Arguments of a chat that answers without thinking, and of one whose answer takes long however fast the machine is.
DIRECT = ("--nothink",)
ENDLESS = (*DIRECT, "-c", "32768", "--ignore-eos", "--grammar", 'root ::= "1 2 3 4 5 6 7 8 " "word "+')
# What the endless answer begins with.
BEGINNING = "1 2 3 4 5 6 7 8"


def flat(text: str) -> str:
    """What a screen shows, with lines broken between words joined."""
    return " ".join(text.split())


def _hear_hangups() -> None:
    """A program in a window is told when that closes, also where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Terminal:
    """A program in a terminal of `columns` × `rows`. `text` is everything shown so far, scrolled-off lines included."""

    def __init__(
        self, command: Sequence[str | Path], env: Mapping[str, str], *, columns: int = 80, rows: int = 24
    ) -> None:
        self.screen: Any = pyte.HistoryScreen(columns, rows, history=100_000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._gone: list[str] = []  # lines that have scrolled off
        program, *arguments = map(str, command)
        self._child = pexpect.spawn(
            program, arguments, env=dict(env), dimensions=(rows, columns), timeout=PATIENCE, preexec_fn=_hear_hangups
        )
        self._child.delaybeforesend = None
        self.screen.write_process_input = self.type

    @property
    def text(self) -> str:
        rows = itertools.islice(self.screen.history.top, len(self._gone), None)
        self._gone += ["".join(row[at].data for at in range(self.screen.columns)).rstrip() for row in rows]
        return "\n".join([*self._gone, *(line.rstrip() for line in self.screen.display)]).rstrip()

    def type(self, keys: str) -> None:
        """Press keys."""
        self._child.send(keys.encode())

    def send(self, data: bytes) -> None:
        """Type bytes as they are, in pieces, taking what the program answers meanwhile."""
        for at in range(0, len(data), 1000):
            self._child.send(data[at : at + 1000])
            self.look(0.001)

    def enter(self, line: str) -> None:
        """Type a line and press Enter."""
        self.type(line + ENTER)

    def look(self, seconds: float = 0.05) -> bool:
        """Take what the program has written meanwhile; False when it has ended."""
        piece = self._read(seconds)
        self._stream.feed(piece or b"")
        return piece is not None

    def _read(self, seconds: float) -> bytes | None:
        """What has come at the latest after some seconds; None when the program has ended."""
        try:
            piece: bytes = self._child.read_nonblocking(65_536, seconds)
        except pexpect.TIMEOUT:
            return b""
        except pexpect.EOF:
            return None
        self.raw += piece
        return piece

    def wait_for_bytes(self, pattern: bytes) -> None:
        """Wait until what the program writes from now on matches. The emulator, which takes its time, sees it then."""
        seen = b""
        while not re.search(pattern, seen):
            piece = self._read(PATIENCE)
            assert piece, f"it never wrote {pattern!r}: {seen!r}"
            seen += piece
        self._stream.feed(seen)

    def wait_for(self, pattern: str, *, after: int = 0) -> str:
        """Look until the text from position `after` on matches; returns all text."""
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, text := self.text[after:], re.DOTALL):
            assert time.monotonic() < end, f"it never showed {pattern!r}:\n{text}"
            assert self.look(), f"it ended before showing {pattern!r}:\n{text}"
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
            assert time.monotonic() < end, f"no prompt came back:\n{self.text}"
            assert self.look(), f"it ended:\n{self.text}"
        return self.text[start:].removesuffix(">>>").strip()

    def end(self) -> int:
        """Wait until the program has ended; returns its exit code, 128 + the signal's number if one ended it."""
        stop = time.monotonic() + PATIENCE
        while self.look():
            assert time.monotonic() < stop, f"it didn't end:\n{self.text}"
        self._child.close()
        code = self._child.exitstatus
        return 128 + self._child.signalstatus if code is None else int(code)

    @property
    def pid(self) -> int:
        """The program's number."""
        return int(self._child.pid)

    def signal(self, number: int) -> None:
        """Send the program a signal."""
        self._child.kill(number)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size."""
        self._child.setwinsize(rows, columns)
        self.screen.resize(rows, columns)

    def hang_up(self) -> int:
        """Close the window; returns the exit code as `end` does."""
        self._child.ptyproc.fileobj.close()
        stop = time.monotonic() + PATIENCE
        while self._child.ptyproc.isalive():
            if time.monotonic() > stop:
                self.signal(signal.SIGKILL)
                pytest.fail("it didn't end when its window was closed")
            time.sleep(0.01)
        code = self._child.ptyproc.exitstatus
        return 128 + int(self._child.ptyproc.signalstatus) if code is None else int(code)

    def kill(self) -> None:
        self._child.close(force=True)
