"""Old versions leave the run cache: what no bundle has used for a month goes when another is unpacked. Launcher only.

A folder's own time of change says when it was last used, to the day: a second start writes nothing. Whoever uses one
holds a shared lock on it, which ends with the process.
"""

import contextlib
import os
import re
import time
from pathlib import Path

_DAY = 24 * 3600.0
_MONTH = 30 * _DAY
# What the stub, launcher.unpack and launcher.verdict make, and what a killed process left half made; nothing else in
# the cache is ours.
_OURS = re.compile(
    r"(launcher|engine)-[0-9a-f]{16}(\.work.*|\.damaged)?|file-[0-9a-f]{16}\.(gguf|work)|gpu-\w+-[0-9a-f]{16}\.json"
)

_held: list[int] = []  # open as long as the process lives


def hold(path: Path) -> bool:
    """Keep `path` from being tidied away while this process lives, and mark it as used today. False: it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:  # Windows opens no folders; nor does it let go of one with an open file
        handle = -1
    if handle >= 0:
        _held.append(handle)
        _lock(handle, shared=True)
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > _DAY:
            os.utime(path)
    return path.exists()


def sweep(root: Path) -> None:
    """Remove what nothing has used for a month and nobody holds."""
    with contextlib.suppress(OSError):
        for path in [Path(entry) for entry in os.scandir(root) if _OURS.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _retire(path)


def _retire(path: Path) -> None:
    handle = -1
    with contextlib.suppress(PermissionError):  # Windows again
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        if time.time() - path.stat().st_mtime < _MONTH or (handle >= 0 and not _lock(handle, shared=False)):
            return
        if path.is_file():
            path.unlink()
            return
        import shutil

        # Nobody must find half a folder under its name. What is left of it when this process is killed goes next time.
        away = path.with_name(f"{path.name}.work-{os.getpid()}-0")
        path.rename(away)
        shutil.rmtree(away)
    finally:
        if handle >= 0:
            os.close(handle)


def _lock(handle: int, *, shared: bool) -> bool:
    """Take the lock. False if others hold it, or the filesystem has none: who knows then whether anybody would."""
    try:
        import fcntl
    except ImportError:  # Windows: what is in use cannot be renamed
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
