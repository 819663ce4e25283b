"""Windows: a program's file has less than 4 GiB, and signing tools write into its headers and behind its end."""

import struct

TARGETS: tuple[str, ...] = ("windows-x86_64",)
SUFFIX: str = ".exe"
# Windows starts no file of 4 GiB (wine does); a signature with its certificates comes behind, some 10 KB.
MAX_BUNDLE: int | None = 2**32 - 1024 * 1024

# Offsets from the PE signature (Microsoft's PE Format, "Optional Header" of PE32+ images).
_CHECKSUM, _CERTIFICATES = 24 + 64, 24 + 112 + 4 * 8


def stub_identity(stub: bytes) -> bytes:
    """Without the checksum and the place of the certificates, both of which signing writes. Raises ValueError."""
    if stub[:2] != b"MZ" or len(stub) < 64:
        raise ValueError("no program for Windows")
    (start,) = struct.unpack_from("<I", stub, 60)
    if stub[start : start + 4] != b"PE\0\0" or len(stub) < start + _CERTIFICATES + 8:
        raise ValueError("no program for Windows")
    plain = bytearray(stub)
    plain[start + _CHECKSUM : start + _CHECKSUM + 4] = bytes(4)
    plain[start + _CERTIFICATES : start + _CERTIFICATES + 8] = bytes(8)
    return bytes(plain)


def finish(fd: int, end: int) -> None:
    """A program for Windows needs nothing more."""


def is_intact(fd: int) -> bool:
    """A signature is for Windows to judge."""
    return True
