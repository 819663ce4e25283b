"""The ZIP records around a bundle's members, as pure functions of the member list. For `base`, `assemble`, `verify`.

The standard library's zipfile cannot place a member's data at an aligned offset, nor take bytes that the kernel
copied; so the records are packed here, and `verify` packs them again and compares. Record layouts: PKWARE APPNOTE
6.3.9, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (end records), 4.5.3 (ZIP64).
"""

import struct
from collections.abc import Sequence

from runtime.bundle import Member

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")

_LIMIT = 0xFFFFFFFF
_VERSION = 45  # the first that knows ZIP64
_UNIX = 3 << 8
_UTF8_NAMES = 1 << 11
_DATE = (1980 - 1980) << 9 | 1 << 5 | 1  # 1 January 1980, the earliest: the same inputs give the same bytes
_MODE = 0o100644 << 16


def _method(member: Member) -> int:
    return 8 if member.compressed else 0


def _zip64(*values: int) -> tuple[list[int], bytes]:
    """The 32-bit fields for `values`, and the ZIP64 extra field holding those that do not fit."""
    large = [value for value in values if value >= _LIMIT]
    extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    return [min(value, _LIMIT) for value in values], extra


def local_header(member: Member) -> bytes:
    """The record that stands right before the member's data."""
    name = member.name.encode()
    # A local ZIP64 field must hold both sizes (APPNOTE 4.5.3); stored members have equal sizes anyway.
    (length, size), extra = _zip64(member.length, member.size)
    if extra and len(extra) != 20:
        extra = struct.pack("<HHQQ", 1, 16, member.length, member.size)
        length = size = _LIMIT
    fields = (b"PK\3\4", _VERSION, _UTF8_NAMES, _method(member), 0, _DATE, member.crc32, size, length)
    return _LOCAL.pack(*fields, len(name), len(extra)) + name + extra


def header_size(name: str, length: int) -> int:
    """Bytes of the local header of a stored member of `length` bytes."""
    return _LOCAL.size + len(name.encode()) + (20 if length >= _LIMIT else 0)


def _central_record(member: Member) -> bytes:
    name = member.name.encode()
    start = member.offset - len(local_header(member))
    (length, size, offset), extra = _zip64(member.length, member.size, start)
    return b"".join(
        (
            _CENTRAL.pack(
                b"PK\1\2", _UNIX | _VERSION, _VERSION, _UTF8_NAMES, _method(member), 0, _DATE, member.crc32, size,
                length, len(name), len(extra), 0, 0, 0, _MODE, offset,
            ),
            name,
            extra,
        )
    )  # fmt: skip


def central_directory(members: Sequence[Member], position: int) -> bytes:
    """Central directory and end records of an archive whose directory starts at file offset `position`."""
    records = b"".join(_central_record(member) for member in members)
    end = position + len(records)
    count = len(members)
    (size, offset), extra = _zip64(len(records), position)
    tail = b""
    if extra:
        tail = _END64.pack(
            b"PK\6\6", _END64.size - 12, _UNIX | _VERSION, _VERSION, 0, 0, count, count, len(records), position
        ) + _LOCATOR64.pack(b"PK\6\7", 0, end, 1)
    return records + tail + _END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0)
