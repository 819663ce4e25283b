"""One line and exit code 1 when the engine's C code fails so badly that the system ends the process. Launcher only.

Python's own signal handlers run in the main thread, later; after such a signal there is no later. So the C library is
given a handler that runs where the fault happened, takes the interpreter's lock, says why, and ends the process.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable

from launcher.console import between_words, give_back_keys, harmless
from runtime.errors import ExitCode

_REASONS = {
    "SIGBUS": "the model's file was changed, cut short or became unreadable while in use",
    "SIGSEGV": "the engine crashed (a fault in its memory)",
    "SIGILL": "the engine crashed (a processor instruction that is not there)",
    "SIGFPE": "the engine crashed (an impossible sum)",
    "SIGABRT": "the engine gave up, perhaps because memory ran out",
}
_STDOUT, _STDERR = 1, 2
_AS_IT_WAS = b"\x1b[?2004l\x1b[?25h\x1b[0m"  # pastes unmarked, the cursor seen, no colours
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_kept: list[object] = []  # what C code still points to


def tell_crashes(program: str, last_words: Callable[[], str]) -> None:
    """From now on a fault is told on standard error, under the program's name, before it ends the process; then the
    exit code is 1. `last_words`: what the engine said before it gave up, if anything.

    Does nothing on systems without such signals.
    """
    names = {int(getattr(signal, name)): name for name in _REASONS if hasattr(signal, name)}

    def handle(number: int) -> None:
        try:
            said = last_words() if names[number] == "SIGABRT" else ""
            _tell(f"{program}: " + (f"the engine gave up: {said}" if said else _REASONS[names[number]]))
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


def _tell(line: str) -> None:
    """Straight to the system: the streams may be in use right now, and what was said until now is on its way."""
    if give_back_keys() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        with contextlib.suppress(OSError):
            os.write(_STDOUT, _AS_IT_WAS)
    line = " ".join(harmless(line).split())
    with contextlib.suppress(OSError):
        line = between_words(line, os.get_terminal_size(_STDERR).columns)
        if os.isatty(_STDOUT):  # maybe in the middle of a line
            line = "\n" + line
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"{line}\n".encode())
