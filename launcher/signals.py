"""SIGINT and SIGTERM belong to Python, whatever the engine does to them. Imported by the launcher only."""

import signal
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
