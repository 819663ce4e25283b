"""How the launcher ends: the exit code, and that nothing which comes in between keeps it from ending."""

import io
import signal
from typing import NoReturn

import pytest

from launcher import __main__ as program
from launcher.console import Console
from launcher.signals import ReaderLeft, Terminated
from runtime.errors import ExitCode, UsageError


class Stream(io.StringIO):
    """A terminal, or standard error that cannot be written to any more."""

    def __init__(self, terminal: bool = False, failing: BaseException | None = None) -> None:
        super().__init__()
        self.terminal, self.failing = terminal, failing

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        if self.failing:
            raise self.failing
        return super().write(text)


def ended(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, *, telling: BaseException | None = None, closed: bool = False
) -> tuple[int, str]:
    """The exit code and what was said when `error` ends the program, and `telling` comes while that is told."""
    stdin, stdout = Stream(terminal=True), Stream(terminal=True)
    console = Console(stdin=stdin, stdout=stdout, stderr=Stream(failing=telling), env={})

    def fail(*_: object) -> NoReturn:
        stdin.terminal = stdout.terminal = not closed
        raise error

    for name in ("own_signals", "_one_line_only", "forget_stdout"):
        monkeypatch.setattr(program, name, lambda: None)
    monkeypatch.setattr(program, "_run", fail)
    return program._guarded((), "m.run", console), console.stderr.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("what", "how"), ExitCode.USAGE, "qwen3: what (how)\n"),
        (ValueError("odd"), ExitCode.FAILURE, "qwen3: unexpected ValueError: odd (--debug shows where)\n"),
        (MemoryError(), ExitCode.FAILURE, "qwen3: memory ran out (close other programs, or choose a smaller -c)\n"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ""),
        (Terminated(signal.SIGTERM), 128 + 15, ""),
        (BrokenPipeError(), 128 + 13, ""),
        (ReaderLeft(), 128 + 13, ""),
    ],
)
def test_every_end_has_its_code(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str) -> None:
    assert ended(monkeypatch, error) == (code, said)


@pytest.mark.parametrize(
    ("telling", "code"),
    [
        (Terminated(1), 128 + 1),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ReaderLeft(), 128 + 13),
        (OSError(5, "Input/output error"), ExitCode.USAGE),
        (BrokenPipeError(), ExitCode.USAGE),
    ],
)
def test_what_comes_while_an_error_is_told(monkeypatch: pytest.MonkeyPatch, telling: BaseException, code: int) -> None:
    assert ended(monkeypatch, UsageError("what"), telling=telling) == (code, "")


def test_a_closed_window_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, OSError(5, "Input/output error"), closed=True) == (128 + 1, "")
