"""What Linux programs ask of the system they run on: its libraries and their versions, read off the ELF files.

System V ABI and the LSB's "Symbol Versioning": the dynamic segment points to a table of the versions that a file needs
of each library (GLIBC_2.31 of libc.so.6). The libraries of a system have all versions up to their own.
"""

import io
import re
import struct
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from runtime.bundle import ENGINE_PREFIX, LAUNCHER, Bundle
from runtime.errors import ModelError

_HEADER = struct.Struct("<16sHHIQQQIHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<QQ")
_NEED = struct.Struct("<HHIII")
_VERSION = struct.Struct("<IHHII")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_VERNEED, _DT_VERNEEDNUM = 0, 1, 5, 0x6FFFFFFE, 0x6FFFFFFF
_NAME = re.compile(r"([A-Z]+)_(\d+(?:\.\d+)*)")
_GLIBC = re.compile(r"(lib(c|m|dl|pthread|rt|util)\.so\.\d+|ld-linux[\w-]*\.so\.\d+)")
_OPTIONAL = re.compile(r"engine/libggml-(?!base|cpu)")  # a GPU's backend stays unloaded where its libraries are missing


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a bundle needs of its system. `versions`: the newest of each set of symbols, {"GLIBC": "2.31"};
    `libraries`: files beside glibc's own that the bundle does not carry. Both are empty where nothing is ELF."""

    versions: Mapping[str, str]
    libraries: tuple[str, ...]


def needs(bundle: Bundle) -> Needs:
    """Look at every program and library in a bundle. Raises ModelError for damaged members."""
    versions: set[str] = set()
    libraries: set[str] = set()
    loader: set[str] = set()  # those of the launcher's own program, which starts before the carried ones can be found
    carried: set[str] = set()
    for name, content in _files(bundle):
        if content[:4] != b"\x7fELF":
            continue
        carried.add(name.rpartition("/")[2])
        try:
            versions.update(needed_versions(content))
            if not _OPTIONAL.match(name):
                (loader if name == "launcher" else libraries).update(needed_libraries(content))
        except (struct.error, IndexError, ValueError) as error:
            raise ModelError(f"{bundle.path} holds {name}, an ELF file that cannot be read ({error})") from None
    missing = sorted(library for library in libraries - carried | loader if not _GLIBC.fullmatch(library))
    return Needs(versions=newest(versions), libraries=tuple(missing))


def newest(names: Iterable[str]) -> dict[str, str]:
    """The highest version of each set among names like GLIBC_2.17; other names say nothing about a version."""
    best: dict[str, tuple[int, ...]] = {}
    for name in names:
        if match := _NAME.fullmatch(name):
            version = tuple(map(int, match[2].split(".")))
            best[match[1]] = max(version, best.get(match[1], ()))
    return {kind: ".".join(map(str, best[kind])) for kind in sorted(best)}


def needed_versions(content: bytes) -> set[str]:
    """Names of all symbol versions that one 64-bit ELF file needs of its libraries."""
    image = _Image.read(content)
    entries = dict(image.dynamic())
    if _DT_VERNEED not in entries:
        return set()
    names = set()
    at = image.offset(entries[_DT_VERNEED])
    strings = image.offset(entries[_DT_STRTAB])
    for _ in range(entries[_DT_VERNEEDNUM]):
        _, count, _, first, following = _NEED.unpack_from(content, at)
        version_at = at + first
        for _ in range(count):
            _, _, _, name, next_version = _VERSION.unpack_from(content, version_at)
            names.add(image.text(strings + name))
            version_at += next_version
        at += following
    return names


def needed_libraries(content: bytes) -> set[str]:
    """Names of the libraries that one 64-bit ELF file is linked to."""
    image = _Image.read(content)
    entries = image.dynamic()
    names = [value for tag, value in entries if tag == _DT_NEEDED]
    if not names:
        return set()
    strings = image.offset(dict(entries)[_DT_STRTAB])
    return {image.text(strings + name) for name in names}


@dataclass(frozen=True, kw_only=True)
class _Image:
    """An ELF file as the loader sees it: segments of (type, offset in the file, address, bytes in the file)."""

    content: bytes
    segments: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def read(cls, content: bytes) -> "_Image":
        identity, _, _, _, _, table, _, _, _, size, count = _HEADER.unpack_from(content)
        if identity[4:6] != b"\x02\x01":
            raise ValueError("not 64-bit and little-endian")
        segments = []
        for number in range(count):
            kind, _, offset, address, _, in_file, _, _ = _SEGMENT.unpack_from(content, table + number * size)
            segments.append((kind, offset, address, in_file))
        return cls(content=content, segments=tuple(segments))

    def offset(self, address: int) -> int:
        """Where in the file the byte lies that is loaded to `address`."""
        for kind, offset, start, size in self.segments:
            if kind == _PT_LOAD and start <= address < start + size:
                return offset + address - start
        raise ValueError(f"no segment holds address {address:#x}")

    def text(self, offset: int) -> str:
        """The string that starts there."""
        return self.content[offset : self.content.index(b"\0", offset)].decode("ascii")

    def dynamic(self) -> list[tuple[int, int]]:
        """The dynamic segment's entries, tag and value; none for a static program."""
        entries = []
        for kind, offset, _, size in self.segments:
            if kind == _PT_DYNAMIC:
                for at in range(offset, offset + size, _DYNAMIC.size):
                    tag, value = _DYNAMIC.unpack_from(self.content, at)
                    if tag == _DT_NULL:
                        break
                    entries.append((tag, value))
        return entries


def _files(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the engine's files and of the launcher's."""
    for member in bundle.manifest.prefixed(ENGINE_PREFIX):
        yield member.name, bundle.read(member.name)
    try:
        with tarfile.open(fileobj=io.BytesIO(bundle.read(LAUNCHER))) as tar:
            for entry in tar:
                if (file := tar.extractfile(entry)) is not None:
                    yield entry.name, file.read()
    except tarfile.TarError as error:
        raise ModelError(f"{bundle.path} has a damaged member {LAUNCHER} ({error})", "copy the file again") from None
