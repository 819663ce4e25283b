"""Locks on open files, as two processes see them; two descriptors of one process see the same."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from runtime import locks


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    with path.open("r+b") as one, path.open("r+b") as other:
        yield one, other


def test_one_holds_it_until_it_closes(files: tuple[IO[bytes], IO[bytes]]) -> None:
    one, other = files
    assert locks.take(one.fileno()) is True
    assert locks.take(other.fileno()) is False
    assert locks.take(other.fileno(), shared=True) is False
    assert other.read() == b"text"  # it keeps nobody from reading
    one.close()
    assert locks.take(other.fileno(), wait=True) is True


def test_several_share_it(files: tuple[IO[bytes], IO[bytes]]) -> None:
    one, other = files
    assert locks.take(one.fileno(), shared=True) is True
    assert locks.take(other.fileno(), shared=True) is True
    assert locks.take(other.fileno()) is False


def test_a_filesystem_without_locks_is_told(
    files: tuple[IO[bytes], IO[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="for Windows' own locks")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert locks.take(files[0].fileno()) is None
