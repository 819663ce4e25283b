"""The file behind `--jsonl -o`: an interrupted run finds there what is answered already. Imported by the launcher only.

Each line is one object with the row's `line` and `key`. Lines are appended whole, so a run that is killed leaves at
most one half-written line at the end. Opening the file again drops that line, and rows that failed: they are tried
again. While a run writes, it holds a lock.
"""

import contextlib
import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from runtime.errors import QwenfileError, UsageError
from runtime.locks import OPEN_FILES_MOVE, take

# How every line starts, so that half a line is known as ours.
_START = b'{"line": '
_PIECE = 1024 * 1024
_REMEDY = "write to another file with -o"


class AnswerFile:
    """Answers on disk. `skip` knows the rows that are there, `append` adds one, `finish` puts them into order."""

    def __init__(self, path: Path) -> None:
        """Open, lock and mend the file. Raises UsageError if it cannot be or is none of ours."""
        self._path = path
        self._keys = array("Q")  # by line number; 0: not there
        self._last, self._in_order, self.count = 0, True, 0
        try:
            self._file = self._open()
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            if self._regular():
                self._mend()
        except OSError as error:
            self.close()
            raise self._unwritable(error) from None
        except UsageError:
            self.close()
            raise

    def skip(self, line: int, key: str) -> bool:
        """Whether the row is answered already. Raises UsageError if another one was answered in its place."""
        known = self._keys[line] if line < len(self._keys) else 0
        if known and known != int(key, 16):
            problem = f"{self._path} answers another input, or the same with other settings (line {line} differs)"
            raise UsageError(problem, f"{_REMEDY}, or remove it")
        return bool(known)

    def append(self, line: int, text: str) -> None:
        """Add a row's answer: one line, written at once. Raises QwenfileError if there is no room for it."""
        data = text.encode() + b"\n"
        self._in_order &= line > self._last
        self._last = line
        try:
            while data:
                data = data[os.write(self._file.fileno(), data) :]
        except OSError as error:
            raise QwenfileError(f"{self._unwritable(error).message}: what is there stays valid") from None

    def finish(self, *, ordered: bool) -> None:
        """Everything is answered: flush to disk, and sort lines that were answered later than those after them."""
        if not self._regular():
            return
        try:
            if ordered and not self._in_order:
                places = sorted((line, at, size) for line, at, size in self._places())
                self._rewrite([(at, size) for _, at, size in places])
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> BinaryIO:
        """The file, locked, and still at its path once it is."""
        while True:
            file = open(self._path, "a+b", buffering=0) if not self._special() else open(self._path, "wb", buffering=0)  # noqa: PTH123, SIM115
            try:
                self._lock(file)
            except UsageError:
                file.close()
                raise
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    return file
            file.close()

    def _special(self) -> bool:
        """A pipe or a device: nothing to go on with."""
        return self._path.exists() and not self._path.is_file()

    def _regular(self) -> bool:
        return self._path.is_file()

    def _lock(self, file: BinaryIO) -> None:
        if take(file.fileno()) is False:
            raise UsageError(f"another run is writing {self._path}", _REMEDY)

    def _mend(self) -> None:
        """Learn what is answered; drop what is half-written, failed or double."""
        keep: list[tuple[int, int]] = []  # stretches of good lines
        end = 0
        for at, data in self._lines():
            end = at + len(data)
            good = self._learn(data)
            if good and keep and keep[-1][0] + keep[-1][1] == at:
                keep[-1] = (keep[-1][0], keep[-1][1] + len(data))
            elif good:
                keep.append((at, len(data)))
        if not keep:
            self._file.truncate(0)
        elif len(keep) == 1 and keep[0][0] == 0:
            self._file.truncate(keep[0][1])
        elif keep != [(0, end)]:
            self._rewrite(keep)

    def _learn(self, data: bytes) -> bool:
        """Whether a line is an answer that is not known yet. Raises UsageError if no run of ours has written it."""
        if not data.endswith(b"\n") and data.startswith(_START[: len(data)]):
            return False
        try:
            told = json.loads(data)
            line, key = int(told["line"]), int(told["key"], 16)
        except (ValueError, TypeError, KeyError):
            raise UsageError(f"{self._path} holds something else than answers of --jsonl", _REMEDY) from None
        if "error" in told or (line < len(self._keys) and self._keys[line]):
            return False
        if line >= len(self._keys):
            self._keys.extend([0] * (line + 1 - len(self._keys)))
        self._keys[line] = key
        self._in_order &= line > self._last
        self._last = line
        self.count += 1
        return True

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Offsets and lines."""
        with self._path.open("rb") as file:
            at = 0
            for data in file:
                yield at, data
                at += len(data)

    def _places(self) -> Iterator[tuple[int, int, int]]:
        for at, data in self._lines():
            yield int(json.loads(data)["line"]), at, len(data)

    def _rewrite(self, stretches: list[tuple[int, int]]) -> None:
        """Replace the file by some stretches of itself: beside its name, flushed, renamed."""
        part = self._path.with_name(self._path.name + ".part")
        new = open(part, "w+b", buffering=0)  # noqa: PTH123, SIM115
        try:
            self._lock(new)
            with self._path.open("rb") as old, open(new.fileno(), "wb", closefd=False) as out:
                for at, size in stretches:
                    old.seek(at)
                    for begin in range(0, size, _PIECE):
                        out.write(old.read(min(_PIECE, size - begin)))
            os.fsync(new.fileno())
            if not OPEN_FILES_MOVE:
                new.close()
                self._file.close()
            part.replace(self._path)
        except BaseException:
            new.close()
            part.unlink(missing_ok=True)
            raise
        self._file.close()
        self._file = new if OPEN_FILES_MOVE else self._open()

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(f"cannot write {self._path}: {(error.strerror or str(error)).lower()}")
