"""Windows: a program's file has less than 4 GiB, says in its resources what it is, and signing tools write into its
headers and behind its end."""

import struct
from collections.abc import Iterator

from bundler.positioned import pread, pwrite
from runtime.bundle import Manifest

TARGETS: tuple[str, ...] = ("windows-x86_64", "windows-arm64")
SUFFIX: str = ".exe"
# Windows starts no file of 4 GiB (wine does); a signature with its certificates comes behind, some 10 KB.
MAX_BUNDLE: int | None = 2**32 - 1024 * 1024

# Offsets from the PE signature (Microsoft's PE Format, "Optional Header" of PE32+ images).
_CHECKSUM, _CERTIFICATES = 24 + 64, 24 + 112 + 4 * 8
# What the Explorer shows of a program. The stub has room for each (build_scripts/windows_resources.py).
_TEXTS = ("FileDescription", "ProductName", "ProductVersion")


def stub_identity(stub: bytes) -> bytes:
    """Without the checksum and the place of the certificates, both of which signing writes, and without the texts.
    Raises ValueError."""
    plain = bytearray(stub)
    texts = ((place, size) for key in _TEXTS for start, value, end in _text_places(stub, key)
             for place, size in ((start + 2, 2), (value, end - value)))  # fmt: skip
    for position, size in (*_written_by_signing(stub), *texts):
        plain[position : position + size] = bytes(size)
    return bytes(plain)


def _text_places(stub: bytes, key: str) -> Iterator[tuple[int, int, int]]:
    """Where the record of a text starts, its value, and where it ends (String of the Windows SDK's VS_VERSIONINFO)."""
    name = key.encode("utf-16-le") + b"\0\0"
    start = stub.find(name) - 6
    if start >= 0:
        value = start + (6 + len(name) + 3) // 4 * 4
        yield start, value, start + int.from_bytes(stub[start : start + 2], "little")


def describe(fd: int, manifest: Manifest) -> None:
    """The bundle's name, its model and version for whoever asks for the file's properties."""
    model = manifest.model or {}
    product = f"{model['name']} ({model['quantization']}), made with qwenfile" if model else "qwenfile"
    texts = {"FileDescription": manifest.name, "ProductName": product, "ProductVersion": manifest.qwenfile}
    stub = pread(fd, manifest.stub_size, 0)
    for key, text in texts.items():
        for start, value, end in _text_places(stub, key):
            room = (end - value) // 2 - 1
            units = text.encode("utf-16-le")[: 2 * room]
            units = units.decode("utf-16-le", "ignore").encode("utf-16-le")  # no half of a character at the end
            pwrite(fd, (len(units) // 2 + 1).to_bytes(2, "little"), start + 2)
            pwrite(fd, units.ljust(end - value, b"\0"), value)


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
    for position, size in _written_by_signing(pread(fd, 4096, 0)):
        pwrite(fd, bytes(size), position)


def is_intact(fd: int) -> bool:
    """A signature is for Windows to judge."""
    return True
