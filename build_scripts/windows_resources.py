"""The resources of the stub for Windows: an icon, and a version record with room for a bundle's own texts.

Only build scripts may import it. The result is a .res file, as Microsoft's resource compiler writes it (RESOURCEHEADER
and VS_VERSIONINFO of the Windows SDK); bundler/platforms/windows.py fills the texts in.
"""

import math
import struct
import zlib
from collections.abc import Sequence

_ICON, _GROUP_ICON, _VERSION = 3, 14, 16
_SIZES = (16, 32, 48)  # of the icon in pixels, as bitmaps; the largest as PNG
_LARGEST = 128
_SAMPLES = 4  # of a pixel, in each direction
_BLUE, _VIOLET, _WHITE = (0x2F, 0x6B, 0xE0), (0x6E, 0x3C, 0xC8), (0xFF, 0xFF, 0xFF)

TEXTS = ("FileDescription", "ProductName", "ProductVersion")
ROOM = 120  # characters of each, with the final 0


def resources(version: str) -> bytes:
    """The .res file. `version`: qwenfile's, "0.1.0"."""
    images = [_bitmap(size) for size in _SIZES] + [_png(_LARGEST)]
    entries = [_entry(bytes(0), 0, 0)]  # tells a 32-bit .res from the older kind
    group = struct.pack("<3H", 0, 1, len(images))
    for number, (size, image) in enumerate(zip((*_SIZES, _LARGEST), images, strict=True), 1):
        entries.append(_entry(image, _ICON, number))
        group += struct.pack("<4B2HIH", size, size, 0, 0, 1, 32, len(image), number)
    entries += [_entry(group, _GROUP_ICON, 1), _entry(_version_record(version), _VERSION, 1)]
    return b"".join(entries)


def _entry(data: bytes, kind: int, name: int) -> bytes:
    language = 0x409 if kind else 0
    header = struct.pack("<2I4HI2H2I", len(data), 32, 0xFFFF, kind, 0xFFFF, name, 0, 0, language, 0, 0)
    return header + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _record(key: str, value: bytes = b"", *, text: bool = True, length: int = 0, inside: Sequence[bytes] = ()) -> bytes:
    """One record: its size, its value's length, whether that is text, the key, the value, records inside."""
    head = _padded(bytes(6) + key.encode("utf-16-le") + b"\0\0")
    body = b"".join(map(_padded, inside))
    whole = head + (_padded(value) if inside else value) + body
    return struct.pack("<3H", len(whole), length, int(text)) + whole[6:]


def _version_record(version: str) -> bytes:
    numbers = [*(int(part) for part in version.split(".")), 0, 0, 0][:4]
    packed = (numbers[0] << 16 | numbers[1], numbers[2] << 16 | numbers[3])
    # signature, its version, the file's and the product's version, no flags, Windows NT, a program
    fixed = struct.pack("<13I", 0xFEEF04BD, 0x10000, *packed, *packed, 0x3F, 0, 0x40004, 1, 0, 0, 0)
    room = "qwenfile".ljust(ROOM, "\0").encode("utf-16-le")
    strings = [_record(key, room, length=len("qwenfile") + 1) for key in TEXTS]
    tables = _record("StringFileInfo", inside=[_record("040904b0", inside=strings)])
    translation = _record("Translation", struct.pack("<2H", 0x409, 0x4B0), text=False, length=4)
    parts = [tables, _record("VarFileInfo", inside=[translation])]
    return _record("VS_VERSION_INFO", fixed, text=False, length=len(fixed), inside=parts)


def _pixels(size: int) -> list[tuple[int, int, int, int]]:
    """The icon, row by row from the top: red, green, blue, alpha. A round square with a Q that is a speech bubble."""
    pixels = []
    for row in range(size):
        for column in range(size):
            points = [
                _colour((column + (i + 0.5) / _SAMPLES) / size, (row + (j + 0.5) / _SAMPLES) / size)
                for i in range(_SAMPLES)
                for j in range(_SAMPLES)
            ]
            seen = [point for point in points if point]
            mean = [round(sum(channel) / len(seen)) for channel in zip(*seen, strict=True)] if seen else [0, 0, 0]
            pixels.append((mean[0], mean[1], mean[2], round(255 * len(seen) / len(points))))
    return pixels


def _colour(x: float, y: float) -> tuple[int, ...]:
    """The colour at a point of the unit square; nothing outside of the icon."""
    corner = 0.22
    dx, dy = (max(corner - at, at - (1 - corner), 0.0) for at in (x, y))
    if math.hypot(dx, dy) > corner:
        return ()
    distance = math.hypot(x - 0.5, y - 0.48)
    tail = 0.56 < x < 0.8 and abs((y - 0.58) - (x - 0.56)) < 0.075
    if 0.18 < distance < 0.31 or tail:
        return _WHITE
    return tuple(round(a + (b - a) * (x + y) / 2) for a, b in zip(_BLUE, _VIOLET, strict=True))


def _bitmap(size: int) -> bytes:
    """As icons have it: from the bottom up, and twice as high, for a mask that alpha makes superfluous."""
    pixels = _pixels(size)
    rows = (pixels[row * size : (row + 1) * size] for row in reversed(range(size)))
    colours = b"".join(bytes((blue, green, red, alpha)) for row in rows for red, green, blue, alpha in row)
    mask = bytes((size + 31) // 32 * 4 * size)
    return struct.pack("<I2i2H6I", 40, size, 2 * size, 1, 32, 0, len(colours) + len(mask), 0, 0, 0, 0) + colours + mask


def _png(size: int) -> bytes:
    pixels = _pixels(size)
    rows = (b"\0" + bytes(channel for pixel in pixels[row * size : (row + 1) * size] for channel in pixel)
            for row in range(size))  # fmt: skip

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">2I5B", size, size, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"".join(rows), 9)) + chunk(b"IEND", b"")
