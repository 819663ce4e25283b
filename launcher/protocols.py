"""What a chat asks of others: verbs for whoever shows it, the engine, and a door to the weights. Launcher only."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

from launcher.client import ChatEvent, Message, Progress


class UI(Protocol):
    """What a chat says to whoever shows it."""

    def thinking(self, text: str) -> None:
        """A piece of thinking."""

    def answer(self, text: str) -> None:
        """A piece of the answer."""

    def reading(self, progress: Progress) -> None:
        """How far the prompt has been read."""

    def turn_over(self, *, interrupted: bool) -> None:
        """The answer is complete, or was stopped."""

    def show(self, text: str) -> None:
        """What a command has to say; one or more lines, which may be broken between words."""

    def exact(self, text: str) -> None:
        """A text to the letter."""

    def notice(self, text: str) -> None:
        """One line that the person should know."""

    def thinking_view(self, view: str) -> None:
        """Show thinking as it is (`show`), as one line when it is done (`fold`), or not at all (`hide`)."""

    def edit(self, text: str) -> str | None:
        """Let the person write in an editor; None if nothing came of it. Raises UsageError without one."""

    def copy(self, text: str) -> None:
        """Put a text into the clipboard. Raises UsageError where that cannot be."""


class Model(Protocol):
    """What a chat needs of the engine; `launcher.ahead.Reader` is one."""

    def chat(self, messages: Sequence[Message], request: Mapping[str, Any]) -> Generator[ChatEvent, None, None]:
        """Stream the answer."""

    def count(self, messages: Sequence[Message], request: Mapping[str, Any]) -> int:
        """Tokens of the prompt of these messages."""

    def tokens(self, text: str) -> int:
        """Tokens of a text."""

    def beginning(self, text: str, tokens: int) -> str:
        """The first tokens of a text."""

    def render(self, messages: Sequence[Message], request: Mapping[str, Any]) -> str:
        """The exact prompt of these messages."""

    def prepare(self, messages: Sequence[Message], request: Mapping[str, Any]) -> None:
        """These messages will not change: what the engine doesn't know of them it may read already."""


class Door(Protocol):
    """Opens the web page and the API on the weights already loaded."""

    def open(self, port: int | None) -> str:
        """The page's address. Raises ListenError, UsageError."""
