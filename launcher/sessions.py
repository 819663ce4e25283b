"""Conversations on disk: one append-only file of JSON lines each, in the user's state folder. Imported by the launcher
only.

Lines of a file, in their order:
  {"qwenfile": 1, "model": NAME, "created": SECONDS}     the first line; without it the file is none of ours
  {"system": TEXT}                                       the system prompt from here on
  {"role": ROLE, "content": TEXT, ...}                   a turn; "interrupted" and "file" as in `Turn`
  {"piece": TEXT}                                        of an answer under way; the turn that follows replaces them
  {"cut": [START, STOP]}                                 these turns are gone
A program that was killed leaves a line cut short at worst: it is left out, and pieces without a turn are the answer.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from launcher.conversation import ASSISTANT, Conversation, Turn
from runtime.errors import UsageError
from runtime.locks import OPEN_FILES_MOVE, take

VERSION = 1
SUFFIX = ".jsonl"
_NAME = re.compile(r"[\w][\w .-]{0,79}")
# A longer file is no conversation: 131,072 tokens are about half a megabyte of text.
_LARGEST = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A conversation on disk."""

    path: Path
    modified: float
    turns: int
    title: str

    @property
    def name(self) -> str:
        return self.path.stem


class Journal:
    """Writes one conversation down; a `Keeper`. Makes its file with the first turn, so that empty chats leave none.

    When writing fails, `failed(reason)` is called, once, and nothing is written any more.
    """

    def __init__(self, folder: Path, model: str, failed: Callable[[str], None], path: Path | None = None) -> None:
        self.path = path
        self._folder = folder
        self._model = model
        self._failed = failed
        self._file: IO[bytes] | None = None
        self._system = ""
        self._broken = False

    @property
    def name(self) -> str:
        return self.path.stem if self.path else ""

    def system(self, text: str) -> None:
        self._system = text
        if self._file:
            self._write({"system": text})

    def turn(self, turn: Turn) -> None:
        facts: dict[str, Any] = {"role": turn.role, "content": turn.content}
        facts |= {"interrupted": True} if turn.interrupted else {}
        facts |= {"file": turn.file} if turn.file else {}
        self._write(facts)

    def piece(self, text: str) -> None:
        self._write({"piece": text})

    def cut(self, start: int, stop: int) -> None:
        if self._file:
            self._write({"cut": [start, stop]})

    def close(self) -> None:
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def resume(self, conversation: Conversation) -> bool:
        """Go on in the file at `path`, from which `conversation` was read; False if that cannot be: another chat writes
        it right now, or it may not be written."""
        assert self.path is not None
        try:
            self._file = self._open(self.path, exclusive=False)
            if self._file is None:
                return False
            lines = self.path.read_bytes().split(b"\n")
            if lines[-1]:  # cut short
                os.truncate(self.path, self.path.stat().st_size - len(lines[-1]))
        except OSError:
            self.close()
            return False
        self._system = conversation.system
        whole = [line for line in lines[:-1] if line.strip()]
        if conversation.turns and whole and "piece" in json.loads(whole[-1]):
            self.turn(conversation.turns[-1])
        return True

    def rename(self, name: str) -> None:
        """Give the conversation a name. Raises UsageError if it is taken or no file can have it."""
        if self.path is None or self._file is None:
            raise UsageError("there is nothing to save yet" if not self._broken else "conversations cannot be saved")
        target = self._folder / (checked_name(name) + SUFFIX)
        if target == self.path:
            return
        if target.exists():
            raise UsageError(f"there is a conversation named {name} already", "choose another name")
        try:
            self._move(target)
        except OSError as error:
            raise UsageError(f"cannot save as {name}: {(error.strerror or str(error)).lower()}") from None

    def _move(self, target: Path) -> None:
        assert self.path is not None
        if not OPEN_FILES_MOVE:
            self.close()
        try:
            self.path = self.path.rename(target)
        finally:
            if not OPEN_FILES_MOVE:
                self._file = self._open(self.path, exclusive=False)

    def _write(self, record: dict[str, Any]) -> None:
        if self._broken:
            return
        try:
            if self._file is None:
                self._begin()
            assert self._file is not None
            self._file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._file.flush()
        except OSError as error:
            self._broken = True
            self._failed((error.strerror or str(error)).lower())

    def _begin(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        stamp = time.strftime("%Y-%m-%d-%H%M%S")
        for count in range(1, 1000):
            path = self._folder / f"{stamp}{f'-{count}' if count > 1 else ''}{SUFFIX}"
            with contextlib.suppress(FileExistsError):
                self._file = self._open(path, exclusive=True)
                self.path = path
                break
        if self._file is None:
            raise OSError("too many conversations at once")
        head = {"qwenfile": VERSION, "model": self._model, "created": round(time.time())}
        self._file.write(json.dumps(head, ensure_ascii=False).encode() + b"\n")
        if self._system:
            self._file.write(json.dumps({"system": self._system}, ensure_ascii=False).encode() + b"\n")

    def _open(self, path: Path, *, exclusive: bool) -> IO[bytes] | None:
        """The file, locked as long as it is open; None if another chat holds it."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (os.O_EXCL if exclusive else 0)
        file = os.fdopen(os.open(path, flags, 0o600), "ab")
        if take(file.fileno()) is False:
            file.close()
            return None
        return file


def checked_name(name: str) -> str:
    """A name that can be a file's on every system. Raises UsageError."""
    if not _NAME.fullmatch(name) or name.endswith((".", " ")):
        raise UsageError(f"{name!r} cannot be a conversation's name", "use letters, digits, spaces, -, _ and .")
    return name.removesuffix(SUFFIX)


def read(path: Path) -> Conversation:
    """The conversation in a file. Raises UsageError saying what is wrong with it."""
    conversation = Conversation()
    pieces: list[str] = []
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        try:
            _replay(json.loads(line), number, conversation, pieces)
        except (ValueError, KeyError, TypeError, RecursionError):
            if number == 1:
                raise UsageError(f"{path} is no conversation of qwenfile") from None
            if number == len(lines):
                break  # cut short when the program was killed
            raise UsageError(f"{path} is damaged in line {number}") from None
    if pieces and conversation.turns and conversation.turns[-1].role != ASSISTANT:
        conversation.turns.append(Turn(role=ASSISTANT, content="".join(pieces), interrupted=True))
    return conversation


def _lines(path: Path) -> list[bytes]:
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is no conversation of qwenfile: it is larger than {_LARGEST:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    if not data.strip():
        raise UsageError(f"{path} is empty")
    return [line for line in data.split(b"\n") if line.strip()]


def _replay(record: Any, number: int, conversation: Conversation, pieces: list[str]) -> None:
    """Do to the conversation what one line says. Raises ValueError, KeyError or TypeError for a line of no sense."""
    if number == 1:
        if record["qwenfile"] != VERSION:
            raise ValueError
    elif "system" in record:
        conversation.system = _text(record["system"])
    elif "piece" in record:
        pieces.append(_text(record["piece"]))
    elif "cut" in record:
        start, stop = record["cut"]
        if not 0 <= start <= stop <= len(conversation.turns):
            raise ValueError
        conversation.cut(start, stop)
        pieces.clear()
    else:
        if record["role"] not in ("user", "assistant"):
            raise ValueError
        pieces.clear()
        content, file = _text(record["content"]), _text(record.get("file", ""))
        interrupted = bool(record.get("interrupted"))
        conversation.turns.append(Turn(role=record["role"], content=content, interrupted=interrupted, file=file))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def saved(folder: Path) -> list[Saved]:
    """The conversations in a folder, newest first; those that cannot be read are left out."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError, UsageError):
            conversation = read(path)
            words = next((turn.content for turn in conversation.turns if turn.role == "user"), "")
            title = " ".join(words[:200].split())
            found.append(Saved(path=path, modified=path.stat().st_mtime, turns=conversation.exchanges(), title=title))
    return sorted(found, key=lambda each: (each.modified, each.path.name), reverse=True)
