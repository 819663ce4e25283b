"""A Mach-O file that carries an archive: all of it inside __LINKEDIT, an ad-hoc signature over everything at the end.

macOS on Apple silicon runs signed programs only, and `codesign` refuses files with bytes that belong to no segment. So
the archive counts as the end of the string table, which is the last part of __LINKEDIT, as PyInstaller does it, and
the signature has the form that Apple's and LLVM's linkers write. Layouts: <mach-o/loader.h> and <kern/cs_blobs.h>.

    [ load commands, __TEXT, __DATA ...                   the stub        ]
    [ __LINKEDIT: symbols, strings, archive as more strings, padding, signature ]

Nothing of this has run on a Mac yet; tests read it back with an independent parser. For `platforms.macos`.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bundler.positioned import pread, pwrite

HEADER_ROOM = 32 * 1024  # bytes; load commands of a small program take far less

_MAGIC_64 = 0xFEEDFACF
_HEADER = struct.Struct("<8I")
_SEGMENT, _SYMTAB, _SIGNATURE = 0x19, 0x2, 0x1D  # LC_SEGMENT_64, LC_SYMTAB, LC_CODE_SIGNATURE
_SIGNATURE_COMMAND = struct.Struct("<4I")
_PAGE = 4096  # of the signature's hashes
_MEMORY_PAGE = 16 * 1024

# SuperBlob with one entry, then a CodeDirectory of version 0x20400; big-endian, unlike the rest.
_SUPER_BLOB = struct.Struct(">5I")
_CODE_DIRECTORY = struct.Struct(">9I4B4I4Q")
_IDENTIFIER = b"qwenfile\0"
_ADHOC_LINKER_SIGNED = 0x20002
_SHA256 = 2
_MAIN_BINARY = 1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the fields are that grow with the file, and what limits them; offsets in the file, in bytes."""

    linkedit: int  # of the load command
    symtab: int
    signature: int
    linkedit_start: int  # of the segment's content
    strings: int
    text_start: int
    text_size: int

    @property
    def fields(self) -> tuple[tuple[int, int], ...]:
        """(offset, bytes) of all that `finish` rewrites."""
        return (self.linkedit + 32, 8), (self.linkedit + 48, 8), (self.symtab + 20, 4), (self.signature + 8, 8)


def read_layout(head: bytes) -> Layout:
    """Read the load commands at the start of a stub. Raises ValueError if it is no program made by `prepare`."""
    commands = {kind: position for kind, position in _commands(head) if kind != _SEGMENT}
    segments = {head[at + 8 : at + 24].rstrip(b"\0"): at for kind, at in _commands(head) if kind == _SEGMENT}
    if not {_SYMTAB, _SIGNATURE} <= set(commands) or not {b"__TEXT", b"__LINKEDIT"} <= set(segments):
        raise ValueError("a load command is missing")
    text, linkedit = segments[b"__TEXT"], segments[b"__LINKEDIT"]
    return Layout(
        linkedit=linkedit,
        symtab=commands[_SYMTAB],
        signature=commands[_SIGNATURE],
        linkedit_start=_number(head, linkedit + 40, 8),
        strings=_number(head, commands[_SYMTAB] + 16, 4),
        text_start=_number(head, text + 40, 8),
        text_size=_number(head, text + 48, 8),
    )


def prepare(program: bytes) -> bytes:
    """A linked program made ready to carry an archive: without signature, but with room for one in its commands.

    Raises ValueError if something else than the string table comes last."""
    image = bytearray(program)
    end = len(image)
    commands = dict(_commands(program))
    if _SIGNATURE in commands:
        end = _number(program, commands[_SIGNATURE] + 8, 4)
    else:
        _add_signature_command(image)
    del image[end:]
    layout = read_layout(bytes(image))
    strings_end = layout.strings + _number(program, layout.symtab + 20, 4)
    if not strings_end <= end < strings_end + 16:
        raise ValueError(f"the string table ends at {strings_end}, the program at {end}")
    _set_sizes(image, layout, end, end)
    return bytes(image)


def identity(stub: bytes) -> bytes:
    """The stub with zeros for all that `finish`, or signing, writes into it."""
    image = bytearray(stub)
    for position, size in read_layout(stub).fields:
        image[position : position + size] = bytes(size)
    return bytes(image)


def finish(fd: int, end: int) -> None:
    """Make the file, whose archive ends at `end`, one that macOS accepts: sizes in the load commands, a signature.

    May be done again after a change. The file is cut behind the signature. Raises ValueError if it is no Mach-O."""
    start = -(-end // 16) * 16
    head = bytearray(pread(fd, HEADER_ROOM, 0))
    layout = read_layout(bytes(head))
    length = signature_size(start)
    _set_sizes(head, layout, start, start + length)
    pwrite(fd, head[: max(position + size for position, size in layout.fields)], 0)
    os.ftruncate(fd, end)
    os.ftruncate(fd, start + length)
    pwrite(fd, _sign(fd, layout, start), start)


def is_intact(fd: int) -> bool:
    """Whether sizes and ad-hoc signature are those that `finish` writes. Another's signature is its tool's to check."""
    head = pread(fd, HEADER_ROOM, 0)
    layout = read_layout(head)
    start, length = (_number(head, layout.signature + 8 + at, 4) for at in (0, 4))
    expected = bytearray(head)
    _set_sizes(expected, layout, start, start + length)
    if expected != head or start + length != os.fstat(fd).st_size:
        return False
    found = pread(fd, length, start)
    own = found[_SUPER_BLOB.size + _CODE_DIRECTORY.size :].startswith(_IDENTIFIER)
    return not own or found == _sign(fd, layout, start)


def _commands(head: bytes) -> Iterator[tuple[int, int]]:
    """(kind, offset) of every load command."""
    if len(head) < _HEADER.size or _number(head, 0, 4) != _MAGIC_64:
        raise ValueError("no 64-bit Mach-O")
    count, position = _number(head, 16, 4), _HEADER.size
    for _ in range(count):
        kind, size = _number(head, position, 4), _number(head, position + 4, 4)
        if size < 8 or position + size > len(head):
            raise ValueError("a damaged load command")
        yield kind, position
        position += size


def _add_signature_command(image: bytearray) -> None:
    count, size = _number(image, 16, 4), _number(image, 20, 4)
    at = _HEADER.size + size
    if any(image[at : at + _SIGNATURE_COMMAND.size]):
        raise ValueError("no room for another load command; link with -headerpad")
    _SIGNATURE_COMMAND.pack_into(image, at, _SIGNATURE, _SIGNATURE_COMMAND.size, len(image), 0)
    struct.pack_into("<2I", image, 16, count + 1, size + _SIGNATURE_COMMAND.size)


def _set_sizes(image: bytearray, layout: Layout, start: int, end: int) -> None:
    """Write the sizes of a file of `end` bytes whose signature begins at `start`."""
    size = end - layout.linkedit_start
    struct.pack_into("<Q", image, layout.linkedit + 32, -(-size // _MEMORY_PAGE) * _MEMORY_PAGE)
    struct.pack_into("<Q", image, layout.linkedit + 48, size)
    struct.pack_into("<I", image, layout.symtab + 20, start - layout.strings)
    struct.pack_into("<2I", image, layout.signature + 8, start, end - start)


def signature_size(limit: int) -> int:
    """Bytes of the signature over the first `limit` bytes of a file."""
    pages = -(-limit // _PAGE)
    return _SUPER_BLOB.size + _CODE_DIRECTORY.size + len(_IDENTIFIER) + 32 * pages


def _sign(fd: int, layout: Layout, limit: int) -> bytes:
    """An ad-hoc signature over the first `limit` bytes."""
    hashes = b"".join(_page_hashes(fd, limit))
    identifier_at = _CODE_DIRECTORY.size
    hashes_at = identifier_at + len(_IDENTIFIER)
    length = hashes_at + len(hashes)
    directory = _CODE_DIRECTORY.pack(
        0xFADE0C02, length, 0x20400, _ADHOC_LINKER_SIGNED, hashes_at, identifier_at, 0, len(hashes) // 32, limit,
        32, _SHA256, 0, _PAGE.bit_length() - 1,
        0, 0, 0, 0,
        0, layout.text_start, layout.text_size, _MAIN_BINARY,
    )  # fmt: skip
    blob = _SUPER_BLOB.pack(0xFADE0CC0, _SUPER_BLOB.size + length, 1, 0, _SUPER_BLOB.size)
    return blob + directory + _IDENTIFIER + hashes


def _page_hashes(fd: int, limit: int) -> Iterator[bytes]:
    chunk = 1024 * _PAGE
    for start in range(0, limit, chunk):
        data = memoryview(pread(fd, min(chunk, limit - start), start))
        for at in range(0, len(data), _PAGE):
            yield hashlib.sha256(data[at : at + _PAGE]).digest()


def _number(data: bytes | bytearray, position: int, size: int) -> int:
    return int.from_bytes(data[position : position + size], "little")
