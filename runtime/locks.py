"""Locks on open files, which end with the process that holds them, whatever ends it. Everybody may import it.

On Windows a lock keeps others from reading what it covers; ours lies beyond the end of every file.
"""

import os

# Windows renames no file that is open; who holds one lets go of it before.
OPEN_FILES_MOVE = os.name != "nt"
# Beyond every file's end, and where no system's signed 64-bit offsets overflow.
_BEYOND = 2**62
# Microsoft's fileapi.h and winerror.h
_FAIL_IMMEDIATELY, _EXCLUSIVE = 1, 2
_ERROR_LOCK_VIOLATION = 33


def take(handle: int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock the file of this descriptor, for others too if `shared`, and wait for it if asked to.

    True: it is held until the descriptor is closed. False: another holds it. None: this filesystem has no locks.
    """
    try:
        import fcntl
    except ImportError:
        return _take_on_windows(handle, shared=shared, wait=wait)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _take_on_windows(handle: int, *, shared: bool, wait: bool) -> bool | None:
    import ctypes
    import msvcrt

    lock = ctypes.WinDLL("kernel32", use_last_error=True).LockFileEx  # type: ignore[attr-defined,unused-ignore]
    lock.argtypes = (ctypes.c_void_p, *[ctypes.c_uint32] * 4, ctypes.c_void_p)
    place = (ctypes.c_uint64 * 4)(0, 0, _BEYOND, 0)  # OVERLAPPED: the third is the offset
    flags = (0 if shared else _EXCLUSIVE) | (0 if wait else _FAIL_IMMEDIATELY)
    file = msvcrt.get_osfhandle(handle)  # type: ignore[attr-defined,unused-ignore]
    if lock(file, flags, 0, 1, 0, place):
        return True
    error: int = ctypes.get_last_error()  # type: ignore[attr-defined,unused-ignore]
    return False if error == _ERROR_LOCK_VIOLATION else None
