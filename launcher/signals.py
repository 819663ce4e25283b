"""SIGINT and SIGTERM belong to Python, whatever the engine does to them. Imported by the launcher only."""

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

# The end is wished for: by SIGTERM, or because the terminal is gone (SIGBREAK on Windows; it is Ctrl-Break, too).
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))


class Terminated(BaseException):
    """A signal of ENDING arrived. Like KeyboardInterrupt no Exception: only `main` ends on it."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = int(number)


class ReaderLeft(BaseException):
    """Nobody reads the answer any more. No Exception, so that nobody takes it for a broken connection."""


def own_signals() -> None:
    """Make SIGINT raise KeyboardInterrupt and those of ENDING raise Terminated in the main thread. A SIGHUP that is
    ignored, as nohup wants it, stays so.

    The engine installs handlers of its own once the model is loaded, so this is called again then: `signal.signal`
    asks the system anew even if Python believes that nothing changed.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDING:
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _terminate)


def _terminate(number: int, _frame: FrameType | None) -> None:
    if _reader_left.is_set():
        raise ReaderLeft
    raise Terminated(number)


_reader_left = threading.Event()
# Seconds in which a write may notice by itself that its reader has left, and end the program the usual way.
_GRACE = 0.1


def end_with_reader(stream: TextIO) -> None:
    """From now on, ReaderLeft is raised in the main thread when the reader of this pipe leaves, even while nothing is
    written: nobody computes for nobody. Does nothing for other streams, and where the system cannot tell."""
    try:
        import select

        number = stream.fileno()
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            return
        watch = select.poll()
    except (ImportError, AttributeError, OSError, ValueError):
        return
    watch.register(number, 0)  # errors are always told

    def wait() -> None:
        if watch.poll()[0][1] & select.POLLERR:
            time.sleep(_GRACE)
            _reader_left.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    threading.Thread(target=wait, name="reader", daemon=True).start()


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """What happens inside happens whole: a signal waits for its end. A second one doesn't. Main thread only."""
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            _act(number, frame)
        held.append(number)

    numbers = [number for number in (signal.SIGINT, *ENDING) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, hold) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        _act(held[0], None)


def _act(number: int, frame: FrameType | None) -> None:
    if number in ENDING:
        _terminate(number, frame)
    signal.default_int_handler(number, frame)
