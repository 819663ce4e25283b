"""Write a bundle or base: members into a part file beside the final name, then header, fsync and rename.

Nothing stands at the final name before it is whole, and the part file goes when the writer fails or is interrupted.
For `base`, `assemble` and `rewrite`.
"""

import errno
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bundler.archive import central_directory, header_size, local_header
from bundler.platforms import platform_of
from bundler.positioned import pread, pread_into, pwrite
from runtime.bundle import ALIGNMENT, CHUNK, HEADER, HEADER_SEARCH, LAUNCHER, MANIFEST, Bundle, Header, Manifest, Member
from runtime.errors import ModelError, QwenfileError, UsageError

Progress = Callable[[int], None]
"""Called with the number of bytes that have been copied and hashed since the last call."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """`length` bytes of `path` from `start`."""

    path: Path
    start: int = 0
    length: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """Bytes to copy: ranges of files and bytes from memory, one after another."""

    pieces: tuple[Range | bytes, ...]

    @classmethod
    def of(cls, path: Path, length: int, start: int = 0) -> Self:
        """One range of one file."""
        return cls(pieces=(Range(path=path, start=start, length=length),))

    @property
    def length(self) -> int:
        """Bytes altogether."""
        return sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in self.pieces)


class BundleWriter:
    """An open part file that members are added to. Made by `create`."""

    def __init__(self, fd: int, out: Path) -> None:
        self._fd = fd
        self._out = out
        self._position = 0
        self.members: list[Member] = []
        self._header: Header | None = None

    def add_stub(self, stub: bytes, target: str) -> tuple[int, str]:
        """Write the stub; returns its size and the SHA-256 of it with nothing filled in, for the manifest.

        Raises UsageError if it is for another system."""
        self._header = Header.find(stub[:HEADER_SEARCH], self._out)
        try:
            digest = stub_sha256(stub, self._header, target)
        except ValueError as error:
            raise UsageError(f"the stub is not for {target}: {error}", "name the right one with --stub") from None
        self._write(stub)
        return len(stub), digest

    def add(self, name: str, content: bytes, *, compress: bool = False) -> None:
        """Add a small member. Raises ValueError if the name is taken."""
        if any(member.name == name for member in self.members):
            raise ValueError(f"two members named {name}")
        stored = content
        if compress:
            deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
            stored = deflate.compress(content) + deflate.flush()
        member = Member(
            name=name,
            offset=self._position + header_size(name, len(content)),
            size=len(stored),
            length=len(content),
            sha256=hashlib.sha256(stored).hexdigest(),
            crc32=zlib.crc32(content),
            compressed=compress,
        )
        self._write(local_header(member) + stored)
        self.members.append(member)

    def add_weights(self, name: str, source: Source, progress: Progress) -> Member:
        """Add a stored member at a multiple of ALIGNMENT, copied by the fastest road the filesystem has."""
        length = source.length
        head = header_size(name, length)
        offset = -(-(self._position + head) // ALIGNMENT) * ALIGNMENT
        sha256, crc32 = self._copy_hashed(source, offset, progress)
        member = Member(name=name, offset=offset, size=length, length=length, sha256=sha256, crc32=crc32)
        pwrite(self._fd, local_header(member), offset - head)
        self._position = offset + length
        self.members.append(member)
        return member

    def add_plain(self, source: Source, progress: Progress) -> tuple[int, str]:
        """Make the whole file a hashed copy of `source`, no archive; returns its size and SHA-256."""
        sha256, _ = self._copy_hashed(source, 0, progress)
        return source.length, sha256

    def copy_base(self, base: Bundle, without: frozenset[str] = frozenset()) -> None:
        """Copy stub and members of `base`, everything before its manifest, as they are; but those in `without`."""
        left_out = [member for member in base.manifest.members if member.name in without]
        end = base.header.manifest_offset - header_size(MANIFEST, base.header.manifest_size)
        end = min([end, *(member.offset - header_size(member.name, member.length) for member in left_out)])
        with base.path.open("rb") as file:
            for _ in _copy_range(file.fileno(), self._fd, 0, 0, end):
                pass
        self._position = end
        self._header = base.header
        self.members = [member for member in base.manifest.members if member.offset < end]
        for member in base.manifest.members:
            if member.offset >= end and member not in left_out:
                self._copy_member(base, member)

    def _copy_member(self, base: Bundle, member: Member) -> None:
        """Add a small member of `base` with its stored bytes as they are."""
        moved = replace(member, offset=self._position + header_size(member.name, member.length))
        with base.path.open("rb") as file:
            file.seek(member.offset)
            self._write(local_header(moved) + file.read(member.size))
        self.members.append(moved)

    def finish(self, manifest: Manifest) -> None:
        """Write manifest, central directory and header. `manifest.members` is filled in here."""
        if self._header is None:
            raise ValueError("a bundle starts with a stub")
        self._position, self._header = write_tail(
            self._fd, self._position, self._header, replace(manifest, members=tuple(self.members))
        )
        pwrite(self._fd, self._header.pack(), self._header.position)
        platform = platform_of(manifest.target)
        platform.describe(self._fd, manifest)
        platform.finish(self._fd, self._position)

    def _write(self, data: bytes) -> None:
        self._write_at(data, self._position)
        self._position += len(data)

    def _write_at(self, data: bytes, position: int) -> None:
        view = memoryview(data)
        while view:
            written = pwrite(self._fd, view, position)
            position += written
            view = view[written:]

    def _copy(self, source: Source, offset: int) -> Iterator[tuple[int, int]]:
        """Copy the pieces to `offset` and on. Yields (bytes copied before, bytes copied now)."""
        before = 0
        for piece in source.pieces:
            if isinstance(piece, bytes):
                self._write_at(piece, offset + before)
                yield before, len(piece)
                before += len(piece)
                continue
            with piece.path.open("rb") as file:
                for start, size in _copy_range(file.fileno(), self._fd, piece.start, offset + before, piece.length):
                    yield before + start, size
            before += piece.length

    def _copy_hashed(self, source: Source, offset: int, progress: Progress) -> tuple[str, int]:
        """Copy `source` to `offset` while two threads hash what has arrived; returns SHA-256 and CRC-32."""
        sha256 = hashlib.sha256()
        crc32 = 0

        def hash_sha256(start: int, size: int) -> None:
            for piece in _pieces(self._fd, start, size):
                sha256.update(piece)
            progress(size)

        def hash_crc32(start: int, size: int) -> None:
            nonlocal crc32
            for piece in _pieces(self._fd, start, size):
                crc32 = zlib.crc32(piece, crc32)

        with ExitStack() as stack:
            hashers = [(stack.enter_context(ThreadPoolExecutor(1)), work) for work in (hash_sha256, hash_crc32)]
            for pool, _ in hashers:
                stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            pending = [
                pool.submit(work, offset + start, size)
                for start, size in self._copy(source, offset)
                for pool, work in hashers
            ]
            # What is copied goes to the disk while the rest is hashed; the fsync at the end then finds little to do.
            pending.append(stack.enter_context(ThreadPoolExecutor(1)).submit(os.fsync, self._fd))
            for future in pending:
                future.result()
        return sha256.hexdigest(), crc32


def stub_sha256(stub: bytes, header: Header, target: str) -> str:
    """SHA-256 (hex) of a stub with nothing filled in, whatever builders and signing tools have written into it."""
    unfilled = Header(position=header.position).pack()
    stub = stub[: header.position] + unfilled + stub[header.position + HEADER.size :]
    return hashlib.sha256(platform_of(target).stub_identity(stub)).hexdigest()


def write_tail(fd: int, position: int, header: Header, manifest: Manifest) -> tuple[int, Header]:
    """Write manifest and central directory at `position`; returns the file's end and the header that points there.

    The header is not written: a bundle changes from one tail to the other when its 88 bytes are.
    """
    content = manifest.to_json()
    offset = position + header_size(MANIFEST, len(content))
    record = Member(
        name=MANIFEST,
        offset=offset,
        size=len(content),
        length=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        crc32=zlib.crc32(content),
    )
    directory = offset + len(content)
    tail = local_header(record) + content + central_directory([*manifest.members, record], directory)
    pwrite(fd, tail, position)
    launcher = manifest.member(LAUNCHER)
    if launcher is None:
        raise ValueError(f"a bundle without {LAUNCHER}")
    filled = replace(
        header,
        launcher_offset=launcher.offset,
        launcher_size=launcher.size,
        launcher_sha256=bytes.fromhex(launcher.sha256),
        manifest_offset=offset,
        manifest_size=len(content),
    )
    return position + len(tail), filled


def _pieces(fd: int, start: int, size: int) -> Iterator[memoryview]:
    """The bytes [start, start + size) of `fd` through one buffer; each piece is valid until the next."""
    buffer = memoryview(bytearray(min(size, CHUNK)))
    while size:
        got = pread_into(fd, buffer[: min(size, CHUNK)], start)
        if not got:
            raise QwenfileError("the part file shrank while it was hashed", "look for another program writing to it")
        yield buffer[:got]
        start, size = start + got, size - got


def _copy_range(source: int, target: int, start: int, to: int, length: int) -> Iterator[tuple[int, int]]:
    """Copy `length` bytes by copy_file_range, which shares blocks where the filesystem can; by reading where it
    cannot. Yields (bytes copied before, bytes copied now). Raises ModelError if the source ends early."""
    by_kernel = hasattr(os, "copy_file_range")
    done = 0
    while done < length:
        want = min(length - done, 16 * CHUNK)
        if by_kernel:
            try:
                got = os.copy_file_range(source, target, want, start + done, to + done)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                    raise
                by_kernel = False
                continue
        else:
            got = pwrite(target, pread(source, min(want, CHUNK), start + done), to + done)
        if not got:
            raise ModelError(f"the source ended after {done:,} of {length:,} bytes", "is another program writing it?")
        yield done, got
        done += got


def hash_file(path: Path, progress: Progress) -> tuple[int, str]:
    """Size and SHA-256 of a file, read in pieces. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            size += len(piece)
            progress(len(piece))
    return size, digest.hexdigest()


@contextmanager
def create(out: Path, *, force: bool = False) -> Iterator[BundleWriter]:
    """A writer whose file appears as `out`, executable, when the block ends without an exception.

    Raises UsageError if `out` exists and `force` is not given; QwenfileError for what the system refuses."""
    check_output(out, force=force)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o777)
    except OSError as error:
        raise QwenfileError(f"cannot write in {out.parent}: {error.strerror}", "choose another -o") from None
    try:
        try:
            yield BundleWriter(fd, out)
            os.fsync(fd)
        finally:
            os.close(fd)
        part.replace(out)
    except OSError as error:
        raise QwenfileError(f"cannot write {out}: {error.strerror}", _remedy(error)) from None
    finally:
        part.unlink(missing_ok=True)


def check_output(out: Path, *, force: bool) -> None:
    """Raises UsageError unless a file can be made as `out`."""
    if out.is_dir():
        raise UsageError(f"{out} is a directory", "name a file with -o")
    if out.exists() and not force:
        raise UsageError(f"{out} exists", "choose another -o, or --force to replace it")
    if not out.parent.is_dir():
        raise UsageError(f"there is no directory {out.parent}", "make it first")


def _remedy(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "free some room, or choose another -o" if full else "choose another -o"
