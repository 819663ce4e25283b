"""Reading and writing at a place in an open file, for the bundler's writers and checkers, on every system.

Windows has no pread and pwrite. There a lock makes one step of going to the place and reading: several threads use one
descriptor, and none of them counts on where it stands.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def _at(fd: int, position: int) -> Iterator[None]:
    with _lock:
        os.lseek(fd, position, os.SEEK_SET)
        yield


def _pread(fd: int, size: int, position: int) -> bytes:
    with _at(fd, position):
        return os.read(fd, size)


def _pwrite(fd: int, data: bytes | bytearray | memoryview, position: int) -> int:
    with _at(fd, position):
        return os.write(fd, data)


def _pread_into(fd: int, buffer: memoryview, position: int) -> int:
    data = _pread(fd, len(buffer), position)
    buffer[: len(data)] = data
    return len(data)


def _preadv_into(fd: int, buffer: memoryview, position: int) -> int:
    return os.preadv(fd, [buffer], position)


pread = getattr(os, "pread", _pread)
"""Up to `size` bytes from `position`; fewer at the file's end."""
pwrite = getattr(os, "pwrite", _pwrite)
"""Write at `position`; returns the number of bytes that were written."""
pread_into = _preadv_into if hasattr(os, "preadv") else _pread_into
"""Fill a buffer from `position`; returns the number of bytes."""
