"""Symbol versions read off ELF files: off one made by hand here, and off a library of this Python."""

import _ctypes
import struct
from pathlib import Path

import pytest

from bundler.elf import needed_libraries, needed_versions, newest
from runtime.paths import host_target

STRINGS = b"\0GLIBC_2.4\0GLIBC_2.31\0GLIBCXX_3.4.28\0"


def elf_file(versions: tuple[bytes, ...], address: int = 0x400000) -> bytes:
    """A shared library that needs `versions` of one library: program headers, dynamic segment, tables; no sections."""
    dynamic_at, need_at = 0x100, 0x180
    strings_at = need_at + 16 + 16 * len(versions)
    need = struct.pack("<HHIII", 1, len(versions), 1, 16, 0)
    for number, name in enumerate(versions):
        following = 16 if number + 1 < len(versions) else 0
        need += struct.pack("<IHHII", 0, 0, number + 2, STRINGS.index(b"\0" + name + b"\0") + 1, following)
    entries = ((5, address + strings_at), (0x6FFFFFFE, address + need_at), (0x6FFFFFFF, 1), (0, 0))
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    size = strings_at + len(STRINGS)
    header = struct.pack("<16sHHIQQQIHHH", b"\x7fELF\x02\x01\x01", 3, 183, 1, 0, 64, 0, 0, 64, 56, 2)
    segments = struct.pack("<IIQQQQQQ", 1, 4, 0, address, address, size, size, 1)
    segments += struct.pack("<IIQQQQQQ", 2, 4, dynamic_at, address + dynamic_at, 0, len(dynamic), len(dynamic), 8)
    content = bytearray(size)
    for at, part in ((0, header), (64, segments), (dynamic_at, dynamic), (need_at, need), (strings_at, STRINGS)):
        content[at : at + len(part)] = part
    return bytes(content)


def test_versions_are_read_by_address_and_by_offset() -> None:
    assert needed_versions(elf_file((b"GLIBC_2.4", b"GLIBCXX_3.4.28"))) == {"GLIBC_2.4", "GLIBCXX_3.4.28"}


def test_versions_are_numbers_not_texts() -> None:
    assert newest(["GLIBC_2.4", "GLIBC_2.31", "GLIBC_2.9", "GLIBC_PRIVATE", "GLIBCXX_3.4.9", "GLIBCXX_3.4.28"]) == {
        "GLIBC": "2.31",
        "GLIBCXX": "3.4.28",
    }


@pytest.mark.parametrize("cut", [20, 70, 0x110, 0x190])
def test_a_cut_file_is_an_error_not_an_endless_search(cut: int) -> None:
    with pytest.raises((struct.error, ValueError)):
        needed_versions(elf_file((b"GLIBC_2.31",))[:cut])


@pytest.mark.skipif(not host_target().startswith("linux"), reason="ELF files of this machine")
def test_a_real_library_needs_the_c_library() -> None:
    content = Path(_ctypes.__file__).read_bytes()
    assert "GLIBC" in newest(needed_versions(content))
    assert "libc.so.6" in needed_libraries(content)
