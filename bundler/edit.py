"""Change or take apart a finished bundle: its baked arguments, its base, its members."""

import os
import shlex
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from bundler.archive import header_size, local_header
from bundler.platforms import platform_of
from bundler.positioned import pwrite
from bundler.writer import Progress, Source, create, write_tail
from runtime.bundle import ADAPTER_PREFIX, ALIGNMENT, ARGS, DRAFT, MANIFEST, MODEL, Bundle, Header, Manifest, Member
from runtime.errors import QwenfileError, UsageError


def encode_args(text: str) -> bytes:
    """Baked arguments as stored: the text as the user wrote it, checked to split as a shell would split it."""
    try:
        shlex.split(text)
    except ValueError as error:
        raise UsageError(f"cannot split the arguments {text!r}: {error}", "close the quote") from None
    return text.strip().encode() + b"\n"


def read_args(bundle: Bundle) -> str:
    """The baked arguments, empty if there are none."""
    return bundle.read(ARGS).decode().strip() if bundle.manifest.member(ARGS) else ""


def set_args(bundle: Bundle, text: str) -> None:
    """Replace the baked arguments in place; the weights stay where they are.

    The new tail is written behind the old one and the header turned to it, then once more at the old one's place and
    the file cut: at every moment the header points to a whole tail, and the result is what a fresh build would give.
    """
    import hashlib
    import zlib

    content = encode_args(text) if text.strip() else b""
    kept = [member for member in bundle.manifest.members if member.name != ARGS]
    start = max((member.offset + member.size for member in kept), default=bundle.manifest.stub_size)

    def tail(fd: int, position: int, header: Header) -> tuple[int, Header]:
        members = list(kept)
        if content:
            args = Member(
                name=ARGS,
                offset=position + header_size(ARGS, len(content)),
                size=len(content),
                length=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                crc32=zlib.crc32(content),
            )
            pwrite(fd, local_header(args) + content, position)
            members.append(args)
            position = args.offset + args.size
        return write_tail(fd, position, header, replace(bundle.manifest, members=tuple(members)))

    try:
        with bundle.path.open("r+b", buffering=0) as file:
            fd = file.fileno()
            # The first copy must not reach into the place of the second, which is at most this long.
            length = bundle.size - start + len(content) + bundle.header.manifest_size + 4096
            header = bundle.header
            for position in (start + 2 * length, start):
                end, header = tail(fd, position, header)
                os.fsync(fd)
                pwrite(fd, header.pack(), header.position)
                os.fsync(fd)
            os.ftruncate(fd, end)
            platform_of(bundle.manifest.target).finish(fd, end)
    except OSError as error:
        raise QwenfileError(f"cannot change {bundle.path}: {error.strerror}", "is it open for writing?") from None


def upgrade(bundle: Bundle, base: Bundle, out: Path, *, force: bool, progress: Progress) -> None:
    """Write `out`: the newer `base` with the weights, arguments and facts of `bundle`."""
    if base.manifest.target != bundle.manifest.target:
        raise UsageError(
            f"{base.path} is a base for {base.manifest.target}, {bundle.path} is for {bundle.manifest.target}",
            "name a base for the same target",
        )
    carried = [m for m in bundle.manifest.members if m.name in (MODEL, DRAFT) or m.name.startswith(ADAPTER_PREFIX)]
    limit = platform_of(base.manifest.target).MAX_BUNDLE
    size = base.size + bundle.header.manifest_size + sum(member.size + ALIGNMENT for member in carried)
    if limit is not None and size > limit:
        raise UsageError(
            f"{base.manifest.target} starts no file of {size:,} bytes; its limit is {limit:,}",
            "build it from its GGUF again, which then lies beside it",
        )
    with create(out, force=force) as writer:
        writer.copy_base(base)
        for member in carried:
            source = Source.of(bundle.path, member.size, member.offset)
            copied = writer.add_weights(member.name, source, progress)
            if copied.sha256 != member.sha256:
                raise bundle.damaged(member, "its SHA-256 differs")
        if bundle.manifest.member(ARGS):
            writer.add(ARGS, bundle.read(ARGS))
        writer.finish(carry(base.manifest, bundle.manifest))


def carry(base: Manifest, bundle: Manifest) -> Manifest:
    """The manifest of `base` with what `bundle` says about its model."""
    kept = {name: getattr(bundle, name) for name in ("name", "model", "sampling", "external", "draft")}
    return replace(base, **kept, members=())


def unpack(bundle: Bundle, folder: Path, progress: Progress) -> int:
    """Write every member into the new or empty `folder`, which appears when all is there; returns their number."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty directory", "name a new one")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise QwenfileError(f"cannot write in {folder.parent}: {error.strerror}", "name another folder") from None
    try:
        work.chmod(0o755)
        for member in bundle.manifest.members:
            target = work / member.name
            if not target.resolve().is_relative_to(work.resolve()):
                raise bundle.damaged(member, "its name leaves the folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            bundle.extract(member, target)
            progress(member.size)
        (work / MANIFEST).write_bytes(bundle.manifest.to_json())
        work.replace(folder)
    except OSError as error:
        raise QwenfileError(f"cannot write {folder}: {error.strerror}", "free some room, or name another") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len(bundle.manifest.members) + 1
