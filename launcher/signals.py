"""SIGINT and SIGTERM belong to Python, whatever the engine does to them. Imported by the launcher only."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Terminated(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt no Exception: only `main` ends on it."""


def own_signals() -> None:
    """Make SIGINT raise KeyboardInterrupt and SIGTERM raise Terminated in the main thread.

    The engine installs handlers of its own once the model is loaded, so this is called again then: `signal.signal`
    asks the system anew even if Python believes that nothing changed.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """What happens inside happens whole: a signal waits for its end. A second one doesn't. Main thread only."""
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            _act(number, frame)
        held.append(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        _act(held[0], None)


def _act(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGTERM:
        _terminate(number, frame)
    signal.default_int_handler(number, frame)
