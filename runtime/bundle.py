"""The bundle's file format: header, manifest, members; reading one. Shared by the bundler and the launcher.

A bundle is an executable and a ZIP archive at once. A *base* is a bundle without weights: same format, same reader.

    [ stub: native executable; holds the header below in its data        ]  0 .. manifest.stub_size
    [ launcher.tar    stored     the frozen launcher, unpacked by the stub ]
    [ engine/...      deflated   engine libraries                          ]
    [ licenses/...    deflated                                             ]
    [ model.gguf      stored     at a multiple of ALIGNMENT, mapped in place ]
    [ draft.gguf      stored     likewise; optional                        ]
    [ adapters/...    stored     likewise; LoRA and control vectors; optional ]
    [ args            stored     baked default arguments; optional         ]
    [ manifest.json   stored                                               ]
    [ ZIP central directory                                                ]

Every offset is absolute, so signing tools may append behind the archive and no reader searches from the end.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from runtime.errors import ModelError

LAUNCHER = "launcher.tar"
ENGINE_PREFIX = "engine/"
LICENSE_PREFIX = "licenses/"
MODEL = "model.gguf"
DRAFT = "draft.gguf"
# lora-1.gguf, lora-2.gguf, control-1.gguf, ...: the engine opens them by name, so the launcher unpacks them
ADAPTER_PREFIX = "adapters/"
LORA_PREFIX = ADAPTER_PREFIX + "lora-"
CONTROL_PREFIX = ADAPTER_PREFIX + "control-"
ARGS = "args"
MANIFEST = "manifest.json"

FORMAT_VERSION = 1
# The largest page size of the supported systems (64 KiB kernels on arm64), so that weights can be mapped in place.
ALIGNMENT = 64 * 1024
CHUNK = 4 * 1024 * 1024
EDGE = 1024 * 1024

MAGIC = b"\x89QWENFILE\r\n\x1a\n\0\0\0"
# magic, version, flags, launcher offset, launcher size, launcher SHA-256, manifest offset, manifest size
HEADER = struct.Struct("<16sIIQQ32sQQ")
HEADER_SEARCH = 256 * 1024
MAX_MANIFEST = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Header:
    """The struct in the stub's data that the builder fills in. `position` is its offset in the file."""

    position: int
    launcher_offset: int = 0
    launcher_size: int = 0
    launcher_sha256: bytes = bytes(32)
    manifest_offset: int = 0
    manifest_size: int = 0

    def pack(self) -> bytes:
        """The header's bytes, to be written at `position`."""
        return HEADER.pack(
            MAGIC, FORMAT_VERSION, 0, self.launcher_offset, self.launcher_size, self.launcher_sha256,
            self.manifest_offset, self.manifest_size,
        )  # fmt: skip

    @classmethod
    def find(cls, start: bytes, path: Path) -> Self:
        """Find the header in the first HEADER_SEARCH bytes of `path`. Raises ModelError."""
        position = start.find(MAGIC)
        if position < 0 or position + HEADER.size > len(start):
            raise ModelError(f"{path} is not a qwenfile bundle or base", "make one with 'qwenfile build MODEL.gguf'")
        _, version, _, offset, size, digest, manifest_offset, manifest_size = HEADER.unpack_from(start, position)
        if version != FORMAT_VERSION:
            raise ModelError(
                f"{path} has bundle format {version}; this program reads format {FORMAT_VERSION}",
                "use the qwenfile version that made it",
            )
        return cls(
            position=position,
            launcher_offset=offset,
            launcher_size=size,
            launcher_sha256=digest,
            manifest_offset=manifest_offset,
            manifest_size=manifest_size,
        )


@dataclass(frozen=True, kw_only=True)
class Member:
    """One archive member. `offset` and `size` locate the stored bytes in the file and `sha256` (hex) is theirs;
    `length` and `crc32` describe the content, which differs from the stored bytes if `compressed` (raw deflate)."""

    name: str
    offset: int
    size: int
    length: int
    sha256: str
    crc32: int
    compressed: bool = False


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle says about itself. `stub_sha256` is taken with the header's fields zeroed.

    `external` describes weights beside the bundle instead of inside: file name, size, SHA-256 of all of it and of its
    first and last EDGE bytes. `draft`: facts of the second, smaller model, as `model`.
    """

    target: str
    qwenfile: str
    engine: dict[str, Any]
    name: str
    stub_size: int
    stub_sha256: str
    model: dict[str, Any] | None = None
    sampling: dict[str, Any] | None = None
    external: dict[str, Any] | None = None
    draft: dict[str, Any] | None = None
    members: tuple[Member, ...] = field(default=())

    def member(self, name: str) -> Member | None:
        """The member called `name`, or None."""
        return next((member for member in self.members if member.name == name), None)

    def prefixed(self, prefix: str) -> tuple[Member, ...]:
        """All members whose names start with `prefix`, in file order."""
        return tuple(member for member in self.members if member.name.startswith(prefix))

    def to_json(self) -> bytes:
        """The manifest member's bytes."""
        return json.dumps({"format": FORMAT_VERSION, **asdict(self)}, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the manifest member. Raises ValueError, KeyError or TypeError if it is damaged."""
        fields = json.loads(data)
        if fields.pop("format") != FORMAT_VERSION:
            raise ValueError("another format version")
        fields["members"] = tuple(Member(**member) for member in fields["members"])
        return cls(**fields)


def edges_sha256(path: Path) -> dict[str, Any]:
    """Size and SHA-256 (hex) of the first and last EDGE bytes: enough to tell in milliseconds that weights beside a
    bundle are not those it was built with. The header is in the first, a file that was cut or grew differs in size."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(EDGE)
        file.seek(max(0, size - EDGE))
        return {
            "size": size,
            "head_sha256": hashlib.sha256(head).hexdigest(),
            "tail_sha256": hashlib.sha256(file.read(EDGE)).hexdigest(),
        }


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle or base; holds no file handle. `size` is the file's size in bytes when it was opened."""

    path: Path
    size: int
    header: Header
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read header and manifest. Raises ModelError with the reason if `path` is no intact bundle."""
        try:
            with path.open("rb") as file:
                return cls._read(path, file)
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}", "name a file made by 'qwenfile build'") from None

    @classmethod
    def _read(cls, path: Path, file: BinaryIO) -> Self:
        header = Header.find(file.read(HEADER_SEARCH), path)
        size = os.fstat(file.fileno()).st_size
        end = header.manifest_offset + header.manifest_size
        if not 0 < header.manifest_size <= MAX_MANIFEST or end > size:
            raise ModelError(f"{path} is truncated: {size:,} bytes, at least {end:,} expected", "copy it again")
        file.seek(header.manifest_offset)
        try:
            manifest = Manifest.from_json(file.read(header.manifest_size))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} has a damaged member {MANIFEST} ({error})", "copy it again") from None
        return cls(path=path, size=size, header=header, manifest=manifest)

    def require(self, name: str) -> Member:
        """The member called `name`. Raises ModelError if the bundle has none."""
        member = self.manifest.member(name)
        if member is None:
            raise ModelError(f"{self.path} carries no {name}")
        return member

    def chunks(self, member: Member) -> Iterator[bytes]:
        """The member's content, decompressed, in pieces of a few MiB. Raises ModelError, at the end at the latest, if
        a stored byte is not what was built."""
        inflate = zlib.decompressobj(-zlib.MAX_WBITS) if member.compressed else None
        digest = hashlib.sha256()
        left, length = member.size, 0
        with self.path.open("rb") as file:
            file.seek(member.offset)
            while left:
                stored = file.read(min(CHUNK, left))
                if not stored:
                    raise self.damaged(member, "truncated")
                left -= len(stored)
                digest.update(stored)
                try:
                    piece = inflate.decompress(stored) if inflate else stored
                except zlib.error as error:
                    raise self.damaged(member, str(error)) from None
                length += len(piece)
                yield piece
        if digest.hexdigest() != member.sha256 or length != member.length:
            raise self.damaged(member, "its SHA-256 differs")

    def read(self, name: str) -> bytes:
        """The whole content of a small member. Raises ModelError."""
        return b"".join(self.chunks(self.require(name)))

    def extract(self, member: Member, to: Path) -> None:
        """Write the member's content to the new file `to`. Raises ModelError; leaves no part of it."""
        try:
            with to.open("xb") as out:
                for piece in self.chunks(member):
                    out.write(piece)
        except BaseException:
            to.unlink(missing_ok=True)
            raise

    def damaged(self, member: Member, why: str) -> ModelError:
        """The error that names a damaged member."""
        return ModelError(f"{self.path} has a damaged member {member.name} ({why})", "copy the file again")
