"""The streams of this process: terminal or not, colour or not, and model text made safe for a terminal.

Imported by the launcher only. stdout carries the answer and nothing else; everything else goes to stderr.
"""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from runtime.errors import QwenfileError

# Model text may hold escape sequences that set the window's title, write the clipboard or move the cursor. Every
# control character but tab and new line becomes the picture of itself (U+2400 + code); a carriage return, which
# would overwrite the line and mostly comes as CR LF, goes; the C1 range (8-bit escape sequences) becomes U+FFFD.
_HARMLESS: dict[int, int | None] = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
_HARMLESS |= {0x0D: None, 0x7F: 0x2421}
_HARMLESS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
# Lone surrogates cannot be encoded; they must not end the program.
_HARMLESS |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
# Between two columns of a table, and how far its narrow form is indented.
_GAP = re.compile(r"(?<=\S) {2,}(?=\S)")
_INDENT = 6
# Terminals that have no colours: dumb, DEC's, and terminfo's names for the monochrome variant of others.
_MONOCHROME = re.compile(r"dumb|unknown|vt\d+.*|.+-m(ono)?")


def harmless(text: str) -> str:
    """Text that a terminal only shows. Works piece by piece: no sequence can hide at the border of two pieces."""
    return text.translate(_HARMLESS)


def between_words(text: str, columns: int) -> str:
    """Text with new lines where it would go over the terminal's edge. What stands in columns, two spaces apart, goes on
    in its column if that leaves half of the width."""
    return "\n".join(_folded(line, columns - 1) for line in text.split("\n"))


def _folded(line: str, width: int) -> str:
    if _cells(line) <= width:
        return line
    start = len(line) - len(line.lstrip(" "))
    columns = [gap.end() for gap in _GAP.finditer(line)]
    near = [column for column in columns if column <= width // 2]
    if near:
        at = indent = near[-1]
        rows = [line[:at]]
    elif columns:
        at, indent = columns[0], _INDENT
        rows = [line[:at].rstrip(), " " * indent]
    else:
        at, indent = start, start if start <= width // 2 else _INDENT
        rows = [" " * indent]
    for gap, word in re.findall(r"( *)([^ ]+)", line[at:]):
        if _cells(rows[-1] + gap + word) <= width:
            rows[-1] += gap + word
        elif rows[-1].strip(" "):
            rows.append(" " * indent + word)
        else:
            rows[-1] += word
    return "\n".join(rows)


def _cells(text: str) -> int:
    """Columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(1 + (east_asian_width(sign) in "WF") for sign in text)


@dataclass(frozen=True, kw_only=True)
class Console:
    """Where input comes from and output goes to. `program`: the name that starts messages, as in `qwen3: ...`."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    env: Mapping[str, str]
    program: str = "qwen3"

    @classmethod
    def of_process(cls, env: Mapping[str, str], program: str) -> "Console":
        """This process's own streams, in UTF-8 whatever the locale says; closed ones read nothing, write nowhere."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="replace", newline="\n")
        if os.name == "nt":
            from launcher.windows import terminal_environment

            env = terminal_environment(env)
        return cls(
            stdin=sys.stdin or io.StringIO(),
            stdout=sys.stdout or _nowhere(),
            stderr=sys.stderr or _nowhere(),
            env=env,
            program=program,
        )

    @property
    def interactive(self) -> bool:
        """A person reads and types: stdin and stdout are terminals."""
        return _is_terminal(self.stdin) and _is_terminal(self.stdout)

    @property
    def answers_to_terminal(self) -> bool:
        """Whether stdout is a terminal, so that model text must be made harmless."""
        return _is_terminal(self.stdout)

    @property
    def reads_terminal(self) -> bool:
        """Whether stdin is a terminal, which nobody should wait for without a prompt."""
        return _is_terminal(self.stdin)

    @property
    def unattended(self) -> bool:
        """Started where there is no terminal at all, and with nothing to read: by a click on the file's icon."""
        if _is_terminal(self.stdin) or _is_terminal(self.stdout) or _is_terminal(self.stderr):
            return False
        return _reads_nothing(self.stdin) and not _has_terminal()

    @property
    def colour(self) -> bool:
        """Whether stdout takes colours: a terminal that has some, and NO_COLOR (no-color.org) is not set."""
        if self.env.get("NO_COLOR") or _MONOCHROME.fullmatch(self.env.get("TERM", "dumb")):
            return False
        return self.answers_to_terminal

    def say(self, text: str) -> None:
        """One line for the person, on stderr; on a terminal broken between words."""
        text = harmless(text)
        if _is_terminal(self.stderr):
            text = between_words(text, self.size()[0])
        self.stderr.write(f"{text}\n")
        self.stderr.flush()

    def complain(self, text: str) -> None:
        """One line about a problem, on stderr, under the program's name."""
        self.say(f"{self.program}: {' '.join(text.split())}")

    def answer(self, text: str) -> None:
        """A piece of the answer, on stdout, seen at once.

        Raises BrokenPipeError when nobody reads any more, QwenfileError when there is no room for it.
        """
        try:
            self.stdout.write(harmless(text) if self.answers_to_terminal else text)
            self.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            if os.name == "nt" and error.errno == errno.EINVAL:  # what Windows says of a pipe that nobody reads
                raise BrokenPipeError from None
            forget_stdout()  # else the interpreter tries, and complains, once more
            raise QwenfileError(f"the answer cannot be written: {(error.strerror or str(error)).lower()}") from None

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal now; 80 × 24 if it doesn't tell."""
        try:
            size = os.get_terminal_size(self.stdout.fileno())
        except (OSError, ValueError):
            import shutil

            size = shutil.get_terminal_size()
        return size.columns or 80, size.lines or 24

    def draw(self, text: str) -> None:
        """Text for the terminal with control sequences of our own; what comes from outside must be harmless already."""
        self.stdout.write(text)
        self.stdout.flush()


_before: "list[int | list[bytes | int]] | None" = None


@contextlib.contextmanager
def keys_unseen() -> Iterator[None]:
    """While the model loads or speaks, keys are neither echoed into its text nor lost: they wait for the next prompt.

    Ctrl-C stays a signal. Does nothing where stdin is no terminal, or the system has no termios.
    """
    try:
        import termios

        before = termios.tcgetattr(0)
    except (ImportError, OSError, ValueError):
        yield
        return
    except termios.error:
        yield
        return
    global _before
    _before = before
    during = termios.tcgetattr(0)
    during[0] &= ~termios.ICRNL  # Enter must arrive as Enter
    during[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(0, termios.TCSANOW, during)
    try:
        yield
    finally:
        give_back_keys()


def give_back_keys() -> bool:
    """At the end of `keys_unseen`, or inside for a program that ends here and now: the terminal as it was. False if
    nothing had been changed."""
    if _before is None:
        return False
    import termios

    with contextlib.suppress(termios.error):  # the terminal may be gone
        termios.tcsetattr(0, termios.TCSANOW, _before)
    return True


@contextlib.contextmanager
def keys_seen() -> Iterator[None]:
    """Inside `keys_unseen`, for a program that the person works in: the terminal as it was, Ctrl-C that program's."""
    import signal

    if _before is None:
        yield
        return
    import termios

    during = termios.tcgetattr(0)
    termios.tcsetattr(0, termios.TCSADRAIN, _before)
    handler = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        termios.tcsetattr(0, termios.TCSADRAIN, during)


def forget_stdout() -> None:
    """After a broken pipe: let the interpreter's last flush of stdout go nowhere instead of complaining."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _reads_nothing(stdin: TextIO) -> bool:
    """Whether stdin is closed or the null device."""
    try:
        return os.path.samestat(os.fstat(stdin.fileno()), Path(os.devnull).stat())
    except (OSError, ValueError):
        return True


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal, whatever its streams are."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - lives as long as the process
