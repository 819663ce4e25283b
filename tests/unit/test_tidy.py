"""What goes from the run cache and what stays."""

import os
import time
from pathlib import Path

import pytest

from launcher import tidy

fcntl = pytest.importorskip("fcntl", reason="Windows keeps what is in use by itself")

DAY = 24 * 3600
KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests hold nothing beyond their end."""
    monkeypatch.setattr(tidy, "_held", [])


def made(root: Path, name: str, days: float) -> Path:
    """A folder with a nested file, or a file if its name ends so, used so many days ago."""
    path = root / name
    if name.endswith((".gguf", ".lock")):
        path.write_bytes(b"x")
    else:
        (path / "_internal").mkdir(parents=True)
        (path / "_internal/file").write_bytes(b"x")
        (path / "_internal/file").chmod(0o500)
        (path / "link").symlink_to(root / "outside")
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


@pytest.mark.parametrize(
    ("name", "days", "goes"),
    [
        (f"launcher-{KEY}", 31, True),
        (f"engine-{KEY}", 31, True),
        (f"file-{KEY}.gguf", 31, True),
        (f"engine-{KEY}.work", 31, True),
        (f"launcher-{KEY}.work-77-0", 31, True),
        (f"launcher-{KEY}", 29, False),
        (f"engine-{KEY}.lock", 99, False),
        ("launcher-0123", 99, False),
        ("build", 99, False),
        ("my-engine-0123456789abcdef", 99, False),
        (f"engine-{KEY}-mine", 99, False),
    ],
)
def test_what_a_month_without_use_takes(tmp_path: Path, name: str, days: float, goes: bool) -> None:
    path = made(tmp_path, name, days)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    tidy.sweep(tmp_path)
    assert path.exists() is not goes
    assert (tmp_path / "outside/kept").exists()
    assert len(list(tmp_path.iterdir())) == 2 - goes


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = made(tmp_path, "elsewhere", 99)
    link = tmp_path / f"engine-{KEY}"
    link.symlink_to(target)
    os.utime(link, (0, 0), follow_symlinks=False)
    tidy.sweep(tmp_path)
    assert (target / "_internal/file").exists()


def test_what_somebody_holds_stays(tmp_path: Path) -> None:
    path = made(tmp_path, f"engine-{KEY}", 99)
    handle = os.open(path, os.O_RDONLY)  # as another process would: locks belong to the opened file
    fcntl.flock(handle, fcntl.LOCK_SH)
    tidy.sweep(tmp_path)
    assert path.exists()
    os.close(handle)
    tidy.sweep(tmp_path)
    assert not path.exists()


def test_two_hold_the_same_and_holding_marks_it_as_used(tmp_path: Path) -> None:
    path = made(tmp_path, f"launcher-{KEY}", 40)
    assert tidy.hold(path)
    assert tidy.hold(path)
    assert time.time() - path.stat().st_mtime < DAY
    os.utime(path, (0, 0))
    tidy.sweep(tmp_path)
    assert path.exists()
    assert not tidy.hold(tmp_path / "gone")


def test_a_second_use_on_the_same_day_writes_nothing(tmp_path: Path) -> None:
    path = made(tmp_path, f"engine-{KEY}", 0.9)
    before = path.stat().st_mtime_ns
    assert tidy.hold(path)
    assert path.stat().st_mtime_ns == before


def test_a_cache_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    tidy.sweep(tmp_path / "nowhere")
