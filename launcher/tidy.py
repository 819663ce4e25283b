"""Old versions leave the run cache: what no bundle has used for a month goes when another is unpacked. Launcher only.

A folder's own time of change says when it was last used, to the day: a second start writes nothing. Whoever uses one
holds a shared lock on it, which ends with the process.
"""

import contextlib
import os
import re
import time
from pathlib import Path

from runtime.locks import take

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
        take(handle, shared=True)
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
    # Windows neither renames nor removes what is in use, by us here either
    handle = -1 if os.name == "nt" else os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if time.time() - path.stat().st_mtime < _MONTH or (handle >= 0 and not take(handle)):  # no locks: who knows
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
