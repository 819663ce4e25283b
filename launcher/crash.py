"""One line and exit code 1 when the engine's C code fails so badly that the system ends the process. Launcher only.

Python's own signal handlers run in the main thread, later; after such a signal there is no later. So the C library is
given a handler that runs where the fault happened, takes the interpreter's lock, says why, and ends the process.
"""

import ctypes
import os
import signal
from collections.abc import Callable

from runtime.errors import ExitCode

_REASONS = {
    "SIGBUS": "the model's file was changed, cut short or became unreadable while in use",
    "SIGSEGV": "the engine crashed (a fault in its memory)",
    "SIGILL": "the engine crashed (a processor instruction that is not there)",
    "SIGFPE": "the engine crashed (an impossible sum)",
    "SIGABRT": "the engine gave up, perhaps because memory ran out",
}
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_kept: list[object] = []  # what C code still points to


def tell_crashes(tell: Callable[[str], None]) -> None:
    """From now on `tell(reason)` is called before the process ends by a fault; then it ends with exit code 1.

    Does nothing on systems without such signals.
    """
    names = {int(getattr(signal, name)): name for name in _REASONS if hasattr(signal, name)}

    def handle(number: int) -> None:
        try:
            tell(_REASONS[names[number]])
        finally:
            os._exit(ExitCode.FAILURE)

    handler = _Handler(handle)
    try:
        library = ctypes.CDLL(None)
        install = library.signal
    except (OSError, AttributeError, TypeError):
        return
    install.argtypes, install.restype = [ctypes.c_int, _Handler], ctypes.c_void_p
    _kept.append(handler)
    for number in names:
        install(number, handler)
