"""Engine libraries of the bundle -> a folder of the run cache, once; adapters likewise. Imported by the launcher only.

<run cache>/engine-<16 hex>/     the libraries, flat; the name is a hash over their hashes
<run cache>/engine-<16 hex>.lock held while unpacking
<run cache>/engine-<16 hex>.work filled, flushed to disk, then renamed to the final name
<run cache>/file-<16 hex>.gguf   a single file; the name is from its own hash; .lock and .work as above

What earlier versions left there goes when this one unpacks (launcher.tidy).
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from launcher.tidy import hold, sweep
from runtime.bundle import ENGINE_PREFIX, Bundle, Member
from runtime.errors import CacheError, ModelError
from runtime.locks import take


def unpack_engine(bundle: Bundle, root: Path) -> Path:
    """The folder with the engine's libraries; unpacked from the bundle unless it is there already.

    Every file's SHA-256 is checked when it is written. Later starts compare names and sizes only (one look at the
    folder), which notices a file that a cleaner of temporary folders took. Raises CacheError, ModelError.
    """
    members = bundle.manifest.prefixed(ENGINE_PREFIX)
    if not members:
        raise ModelError(f"{bundle.path} carries no engine", "build it again")
    folder = root / f"engine-{_key(members)}"
    if _complete(folder, members) and hold(folder):
        return folder
    try:
        with _lock(folder.with_suffix(".lock")):
            if not (_complete(folder, members) and hold(folder)):
                _unpack(bundle, members, folder)
                hold(folder)
                sweep(root)
    except OSError as error:
        problem = f"cannot unpack the engine to {folder}: {(error.strerror or str(error)).lower()}"
        raise CacheError(problem, "set QWENFILE_CACHE to a folder of your own with 100 MB free") from error
    return folder


def unpack_file(bundle: Bundle, member: Member, root: Path) -> Path:
    """A stored member as a file of the run cache, unpacked unless it is there. Raises CacheError, ModelError."""
    path = root / f"file-{member.sha256[:16]}{Path(member.name).suffix}"
    try:
        if path.is_file() and path.stat().st_size == member.length and hold(path):
            return path
        with _lock(path.with_suffix(".lock")):
            work = path.with_suffix(_work_suffix())
            work.unlink(missing_ok=True)  # of a process that was killed: we hold the lock
            bundle.extract(member, work)
            _seal(work, 0o400)
            work.replace(path)
            hold(path)
    except OSError as error:
        problem = f"cannot unpack {member.name} to {path}: {(error.strerror or str(error)).lower()}"
        room = f"{member.length // 2**20 + 1} MB"
        raise CacheError(problem, f"set QWENFILE_CACHE to a folder of your own with {room} free") from error
    return path


def _key(members: tuple[Member, ...]) -> str:
    lines = "".join(f"{member.sha256} {member.name}\n" for member in sorted(members, key=lambda member: member.name))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _file_name(member: Member) -> str:
    """The library's name in the folder; the manifest must not be able to point anywhere else."""
    name = member.name.removeprefix(ENGINE_PREFIX)
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise ModelError(f"the bundle names an engine file {member.name!r}", "do not trust it; build it again")
    return name


def _complete(folder: Path, members: tuple[Member, ...]) -> bool:
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}
    except OSError:
        return False
    return all(found.get(_file_name(member)) == member.length for member in members)


def _unpack(bundle: Bundle, members: tuple[Member, ...], folder: Path) -> None:
    work = folder.with_suffix(_work_suffix())
    _remove(work)  # of a process that was killed: we hold the lock
    work.mkdir(mode=0o700)
    try:
        for member in members:
            to = work / _file_name(member)
            bundle.extract(member, to)
            _seal(to, 0o500)
        _seal(work, 0o700)
        if folder.exists() and _complete(folder, members):  # without a lock another may have been faster
            _remove(work)
            return
        if folder.exists():  # damaged; move it away first, for a folder that isn't empty cannot be replaced
            damaged = folder.with_suffix(".damaged")
            _remove(damaged)
            folder.rename(damaged)
            _remove(damaged)
        work.rename(folder)
    except BaseException as error:
        _remove(work)
        if not isinstance(error, OSError) or not _complete(folder, members):
            raise


def _work_suffix() -> str:
    """One for whoever holds the lock; on Windows, where scanners may hold what was left, one for each process."""
    return f".work-{os.getpid()}" if os.name == "nt" else ".work"


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait for and hold the lock file; where the system or filesystem has no such locks, the rename decides."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        take(handle, wait=True)
        yield
    finally:
        os.close(handle)


def _seal(path: Path, mode: int) -> None:
    """Closed to writing, and on the disk. On Windows nobody could then flush or remove it."""
    if os.name == "nt":
        return
    path.chmod(mode)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Remove a flat folder, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        for entry in folder.iterdir():
            entry.unlink()
        folder.rmdir()
