"""Windows: a program's file has less than 4 GiB, and signing tools write into its headers and behind its end."""

import os
import struct

TARGETS: tuple[str, ...] = ("windows-x86_64",)
SUFFIX: str = ".exe"
# Windows starts no file of 4 GiB (wine does); a signature with its certificates comes behind, some 10 KB.
MAX_BUNDLE: int | None = 2**32 - 1024 * 1024

# Offsets from the PE signature (Microsoft's PE Format, "Optional Header" of PE32+ images).
_CHECKSUM, _CERTIFICATES = 24 + 64, 24 + 112 + 4 * 8


def stub_identity(stub: bytes) -> bytes:
    """Without the checksum and the place of the certificates, both of which signing writes. Raises ValueError."""
    plain = bytearray(stub)
    for position, size in _written_by_signing(stub):
        plain[position : position + size] = bytes(size)
    return bytes(plain)


def _written_by_signing(start: bytes) -> tuple[tuple[int, int], ...]:
    """Positions and sizes of the two fields in a file that begins with `start`."""
    if start[:2] != b"MZ" or len(start) < 64:
        raise ValueError("no program for Windows")
    (header,) = struct.unpack_from("<I", start, 60)
    if start[header : header + 4] != b"PE\0\0" or len(start) < header + _CERTIFICATES + 8:
        raise ValueError("no program for Windows")
    return (header + _CHECKSUM, 4), (header + _CERTIFICATES, 8)


def finish(fd: int, end: int) -> None:
    """What was changed is no longer signed."""
    for position, size in _written_by_signing(os.pread(fd, 4096, 0)):
        os.pwrite(fd, bytes(size), position)


def is_intact(fd: int) -> bool:
    """A signature is for Windows to judge."""
    return True
