"""A conversation: what both sides said, and each change of it told to whoever keeps it. Launcher only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

USER, ASSISTANT = "user", "assistant"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one side said, without thinking. `interrupted`: the person stopped the answer here, or the program ended.
    `file`: the text is that file's, put before what the person says next."""

    role: str
    content: str
    interrupted: bool = False
    file: str = ""


class Keeper(Protocol):
    """Whoever writes a conversation down as it grows."""

    def system(self, text: str) -> None:
        """The system prompt is this from now on."""

    def turn(self, turn: Turn) -> None:
        """A turn came after the others."""

    def piece(self, text: str) -> None:
        """A piece of an answer that is not complete yet."""

    def cut(self, start: int, stop: int) -> None:
        """The turns from `start` to `stop` are gone."""


class _Nobody:
    """Keeps nothing."""

    def system(self, text: str) -> None: ...

    def turn(self, turn: Turn) -> None: ...

    def piece(self, text: str) -> None: ...

    def cut(self, start: int, stop: int) -> None: ...


NOBODY: Keeper = _Nobody()


@dataclass(kw_only=True)
class Conversation:
    """Turns in their order, and the system prompt. `marks`: positions that /push put down, in numbers of turns."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    keeper: Keeper = NOBODY

    def set_system(self, text: str) -> None:
        self.system = text
        self.keeper.system(text)

    def add(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.keeper.turn(turn)

    def cut(self, start: int, stop: int) -> list[Turn]:
        """Remove turns and return them; marks move along, those inside are dropped."""
        gone = self.turns[start:stop]
        if gone:
            del self.turns[start:stop]
            self.keeper.cut(start, start + len(gone))
            stop = start + len(gone)
            last = not self.turns[start:]  # a mark at the end of what was taken back is gone, too
            kept = [mark for mark in self.marks if mark <= start or (mark >= stop and not last)]
            self.marks = [mark if mark <= start else mark - len(gone) for mark in kept]
        return gone

    def last_exchange(self) -> int:
        """Where the last exchange begins: the person's last words and what came after; -1 if there is none."""
        return next((at for at in range(len(self.turns) - 1, -1, -1) if is_words(self.turns[at])), -1)

    def oldest_exchange(self) -> tuple[int, int]:
        """The oldest words of the person and all up to the next ones, as a range; files stay out of it unless there is
        nothing else. Empty if there are no turns."""
        start = next((at for at, turn in enumerate(self.turns) if not turn.file), 0)
        stop = start + 1
        while stop < len(self.turns) and self.turns[stop].role == ASSISTANT:
            stop += 1
        return (start, stop) if self.turns else (0, 0)

    def exchanges(self) -> int:
        return sum(is_words(turn) for turn in self.turns)

    def messages(self) -> list[Mapping[str, Any]]:
        """As the engine wants it. Files and words of the person that follow each other are one message."""
        out: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            content = f"File {turn.file}:\n\n{turn.content}" if turn.file else turn.content
            if out and out[-1]["role"] == turn.role == USER:
                out[-1]["content"] += "\n\n" + content
            else:
                out.append({"role": turn.role, "content": content})
        return [*out]


def is_words(turn: Turn) -> bool:
    """Whether the person said this, other than by a file."""
    return turn.role == USER and not turn.file
