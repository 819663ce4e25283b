"""What Windows wants of a console program: its terminal made to understand control sequences. Launcher only.

Imported where `os.name` is "nt" alone.
"""

import ctypes
from collections.abc import Mapping

_STDOUT, _STDERR = -11, -12
_SEQUENCES = 4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING, Windows 10 and later


def terminal_environment(env: Mapping[str, str]) -> Mapping[str, str]:
    """Switch control sequences on, and say in the environment, as other systems do, whether the terminal has them."""
    kernel: ctypes.CDLL = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    kernel.GetStdHandle.restype = ctypes.c_void_p
    understood = False
    for stream in (_STDERR, _STDOUT):
        handle, mode = ctypes.c_void_p(kernel.GetStdHandle(stream)), ctypes.c_uint32()
        if kernel.GetConsoleMode(handle, ctypes.byref(mode)):
            understood = bool(kernel.SetConsoleMode(handle, mode.value | _SEQUENCES))
    return {"TERM": "xterm-256color" if understood else "dumb", **env}
