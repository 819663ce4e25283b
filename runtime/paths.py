"""Where things are kept: caches, state, the private folder of the engine's socket; each with its fallbacks.

Everybody may import it; it imports the standard library, and platformdirs where the environment does not name a folder
of Windows' (asking it costs 10-25 ms, and it knows no other environment than the process's own). The only Python
module, beside `bundler.platforms`, that asks which operating system this is.

The run cache follows the same order and the same checks as the bundle's stub (runtime/native/stub/cache.c, on Windows
stub/windows/cache.c): change them together. What lives where:

    build cache/   downloads/ source-*/ webui-*/ engine/ stub/ bases/      only on the machine that builds bundles
    run cache/     launcher-<hash>/ (made by the stub)  engine-<hash>/ (made by the launcher)
    state/         history, saved sessions
"""

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import CacheError
from runtime.locks import take

APP = "qwenfile"

# A Unix socket's whole path must fit sun_path: 108 bytes on Linux, 104 on macOS, with the final NUL. What is left
# of 104 after this is for the socket's own name.
MAX_PRIVATE_PATH = 80

# A private folder without a lock file is left alone this long: its owner may be between mkdir and open.
_ABANDONED_AFTER = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """A candidate for a cache. `temporary`: its parent is the system's, perhaps open to all, and its name is known.

    There the parent must exist already, and a link in place of the folder is refused: others may have put it there.
    """

    path: Path
    temporary: bool = False
    home: Path | None = None  # whose it is: with sudo it may be another user's, whom our folders would lock out


def host_target() -> str:
    """The target this machine runs natively, as in the names of bases: `linux-x86_64`, `macos-arm64`, ..."""
    if sys.platform == "win32":
        machine = os.environ.get("PROCESSOR_ARCHITECTURE", "AMD64")
        return "windows-" + {"AMD64": "x86_64", "ARM64": "arm64"}.get(machine.upper(), machine.lower())
    system = "macos" if sys.platform == "darwin" else sys.platform
    return f"{system}-{os.uname().machine}"


def build_cache(env: Mapping[str, str]) -> Path:
    """The folder for everything a build can take again; created. `$QWENFILE_BUILD_CACHE` or the user's cache.

    Raises CacheError when neither can be used. Folders that it makes are 0700, since the run cache may be the parent.
    """
    override = env.get("QWENFILE_BUILD_CACHE")
    user_cache = _user_cache(env)
    if override:
        folder = Path(override).absolute()
    elif user_cache is not None:
        folder = user_cache / "build"
    else:
        raise CacheError("no home folder, so no build cache", "set QWENFILE_BUILD_CACHE to a folder")
    try:
        _make_private(folder)
    except OSError as error:
        problem = f"cannot make the build cache {folder}: {_reason(error)}"
        raise CacheError(problem, "set QWENFILE_BUILD_CACHE to a folder") from error
    return folder


def run_cache(env: Mapping[str, str]) -> Path:
    """The first usable place for what a bundle unpacks; created, 0700. Raises CacheError naming all that were tried.

    Usable: writable, owned by this user, closed to writing by others, on a filesystem that allows execution.
    """
    refused = []
    for place in run_cache_places(env):
        reason = _why_unusable(place)
        if not reason:
            return place.path
        refused.append(f"{place.path}: {reason}")
    raise CacheError(
        "no usable cache folder; tried " + "; ".join(refused),
        "set QWENFILE_CACHE to a folder of your own on a filesystem that allows execution",
    )


def run_cache_places(env: Mapping[str, str]) -> tuple[Place, ...]:
    """The candidates for the run cache, best first."""
    places = []
    if override := env.get("QWENFILE_CACHE"):
        places.append(Place(path=Path(override).absolute()))
    if user_cache := _user_cache(env):
        places.append(Place(path=user_cache, home=_absolute(env, "XDG_CACHE_HOME") or _home(env)))
    if runtime := _absolute(env, "XDG_RUNTIME_DIR"):
        places.append(Place(path=runtime / APP, temporary=True))
    for folder in (_absolute(env, "TMPDIR"), Path("/var/tmp"), Path("/tmp")):
        if sys.platform != "win32" and folder:
            places.append(Place(path=folder / f"{APP}-{os.geteuid()}", temporary=True))
    if sys.platform == "win32" and (folder := _absolute(env, "TEMP")):
        places.append(Place(path=folder / APP, temporary=True))
    unique: dict[Path, Place] = {}
    for place in places:
        unique.setdefault(place.path, place)
    return tuple(unique.values())


def state_dir(env: Mapping[str, str]) -> Path:
    """The folder for history and saved sessions; created, 0700. Raises CacheError when there can be none."""
    folder = _user_state(env)
    if folder is None:
        raise CacheError("no home folder, so no place for history and sessions", "set HOME to a folder of your own")
    try:
        _make_private(folder)
    except OSError as error:
        remedy = "set XDG_STATE_HOME to a folder of your own"
        raise CacheError(f"cannot make {folder} for history and sessions: {_reason(error)}", remedy) from error
    return folder


@contextlib.contextmanager
def private_folder(env: Mapping[str, str]) -> Iterator[Path]:
    """A fresh 0700 folder for a Unix socket, removed at the end; its path is at most MAX_PRIVATE_PATH bytes long.

    In `$XDG_RUNTIME_DIR`, else the run cache, else /tmp. Folders that killed processes left behind are removed on the
    way. Not for Windows, which speaks to the engine through a loopback port. Raises CacheError when nowhere works.
    """
    refused = []
    for parent in _private_parents(env):
        name = f"{APP}-{os.getpid()}-{os.urandom(4).hex()}"
        if len(os.fsencode(parent / name)) > MAX_PRIVATE_PATH:
            refused.append(f"{parent}: its path is too long for a socket")
            continue
        _reap(parent)
        try:
            folder, lock = _make_locked(parent, name)
        except OSError as error:
            refused.append(f"{parent}: {_reason(error)}")
            continue
        try:
            yield folder
        finally:
            _remove(folder)
            os.close(lock)  # last: who sees the folder unlocked may remove it too
        return
    tried = "; ".join(refused)
    raise CacheError(f"no folder for the engine's socket; tried {tried}", "set XDG_RUNTIME_DIR to a short path")


def _private_parents(env: Mapping[str, str]) -> Iterator[Path]:
    runtime = _absolute(env, "XDG_RUNTIME_DIR")
    if runtime and runtime.is_dir() and not _why_unusable(Place(path=runtime), execution=False):
        yield runtime
    with contextlib.suppress(CacheError):
        yield run_cache(env)
    yield Path("/tmp")


def _make_locked(parent: Path, name: str) -> tuple[Path, int]:
    """Make the folder with a `lock` inside that is held as long as this process lives."""
    folder = parent / name
    while True:
        folder.mkdir(mode=0o700)
        try:
            lock = os.open(folder / "lock", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except BaseException:
            _remove(folder)
            raise
        take(lock, wait=True)  # on a filesystem without locks nobody can take ours either
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)  # another process reaped it between open and flock


def _reap(parent: Path) -> None:
    """Remove private folders of this user whose owner is gone: nobody holds the lock."""
    for folder in parent.glob(f"{APP}-*-????????"):
        with contextlib.suppress(OSError):
            facts = folder.lstat()
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and _abandoned(folder, facts.st_mtime):
                _remove(folder)


def _abandoned(folder: Path, modified: float) -> bool:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - modified > _ABANDONED_AFTER
    try:
        if not take(lock):
            return False
        (folder / "lock").unlink()  # while we hold it: an owner that comes late sees that the folder is lost
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(folder: Path) -> None:
    for where, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with contextlib.suppress(OSError):
                Path(where, name).unlink()
        for name in folders:
            with contextlib.suppress(OSError):
                Path(where, name).rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _why_unusable(place: Place, *, execution: bool = True) -> str:
    """Why the place cannot be a cache, or "" when it can; makes the folder. Same checks as the stub's."""
    try:
        if place.home and place.home.exists() and sys.platform != "win32":
            owner = place.home.stat().st_uid
            if owner != os.geteuid():
                return f"the home folder belongs to user {owner}"
        if place.temporary:
            with contextlib.suppress(FileExistsError):
                place.path.mkdir(mode=0o700)
        else:
            _make_private(place.path)
        facts = place.path.lstat() if place.temporary else place.path.stat()
        parent = place.path.parent.stat()
    except OSError as error:
        return _reason(error)
    if not stat.S_ISDIR(facts.st_mode):
        return "is a link" if stat.S_ISLNK(facts.st_mode) else "is not a folder"
    if sys.platform != "win32":
        if facts.st_uid != os.geteuid():
            return f"belongs to user {facts.st_uid}"
        if facts.st_mode & 0o022:
            return f"others may write to it (mode {stat.S_IMODE(facts.st_mode):04o})"
        if place.temporary and parent.st_mode & 0o002 and not parent.st_mode & stat.S_ISVTX:
            return f"anybody may rename entries of {place.path.parent}"
        if execution and os.statvfs(place.path).f_flag & getattr(os, "ST_NOEXEC", 0):
            return "the filesystem does not allow execution"
    if not os.access(place.path, os.W_OK | os.X_OK):
        return "not writable"
    return ""


def _make_private(folder: Path) -> None:
    """mkdir -p with 0700 for every level it makes (pathlib gives the mode to the last one only)."""
    if folder.is_dir():
        return
    if folder.exists():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if folder.parent != folder:
        _make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _user_cache(env: Mapping[str, str]) -> Path | None:
    if sys.platform == "win32":
        return _local_app_data(env)
    home = _home(env)
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / APP if home else None
    base = _absolute(env, "XDG_CACHE_HOME") or (home / ".cache" if home else None)
    return base / APP if base else None


def _user_state(env: Mapping[str, str]) -> Path | None:
    if sys.platform == "win32":
        return _local_app_data(env) / "state"
    home = _home(env)
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / APP if home else None
    base = _absolute(env, "XDG_STATE_HOME") or (home / ".local" / "state" if home else None)
    return base / APP if base else None


def data_home(env: Mapping[str, str]) -> Path | None:
    """The user's folder for shared data on Linux, `$XDG_DATA_HOME` or ~/.local/share; not created."""
    home = _home(env)
    return _absolute(env, "XDG_DATA_HOME") or (home / ".local" / "share" if home else None)


def _local_app_data(env: Mapping[str, str]) -> Path:
    """Where Windows keeps what belongs to a user on this machine alone, as the environment or Windows itself says."""
    if base := _absolute(env, "LOCALAPPDATA"):
        return base / APP
    import platformdirs

    return platformdirs.user_data_path(APP, appauthor=False)


def _home(env: Mapping[str, str]) -> Path | None:
    """`$HOME`, or the account's home when the environment is empty (`env -i`)."""
    if home := _absolute(env, "HOME"):
        return home
    if sys.platform == "win32":
        return None
    import pwd

    try:
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None
    return home if home.is_absolute() else None


def _absolute(env: Mapping[str, str], name: str) -> Path | None:
    """The folder a variable names; relative paths are ignored, as the XDG base directory specification asks."""
    value = env.get(name)
    return Path(value) if value and Path(value).is_absolute() else None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
