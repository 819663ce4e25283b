"""The engine as the chat knows it: a client that lets the engine read ahead while the person types. Imported by the
launcher only.

Qwen3's template leaves thinking out of earlier turns, so an answer stands differently in the history than it was
generated, and the engine's cache ends before it. Reading the answer again the moment it is complete, and files the
moment they are added, makes the next turn cost nothing but its own tokens.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from launcher.client import ChatEvent, Client, Message
from runtime.errors import QwenfileError

# Stands where the next turn will; the prompt up to it is what will not change. Nobody types this.
_NEXT = "\x02next turn\x03"


class Reader:
    """A client for one conversation."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stop: Callable[[], None] = lambda: None

    def chat(self, messages: Sequence[Message], request: Mapping[str, Any]) -> Generator[ChatEvent, None, None]:
        """Stream the answer; see `Client.chat`. What was read ahead so far is used."""
        self._stop()
        return self._client.chat(messages, request)

    def count(self, messages: Sequence[Message], request: Mapping[str, Any]) -> int:
        """Tokens of the prompt of these messages."""
        return self._client.count(messages, request)

    def tokens(self, text: str) -> int:
        """Tokens of a text."""
        return self._client.tokens(text)

    def beginning(self, text: str, tokens: int) -> str:
        """The first tokens of a text, without a character cut in two at the end."""
        found = self._client.post("/tokenize", {"content": text})["tokens"][:tokens]
        return str(self._client.post("/detokenize", {"tokens": found})["content"]).rstrip("\ufffd")

    def render(self, messages: Sequence[Message], request: Mapping[str, Any]) -> str:
        """The exact prompt that the engine would read."""
        return str(self._client.post("/apply-template", {**request, "messages": list(messages)})["prompt"])

    def prepare(self, messages: Sequence[Message], request: Mapping[str, Any]) -> None:
        """Begin to read what the next prompt will start with. Never fails: the next turn would tell."""
        self._stop()
        with contextlib.suppress(QwenfileError):
            last = messages[-1]
            if last["role"] == "user":  # a file: the person's words will follow in the same message
                trial = [*messages[:-1], {**last, "content": f"{last['content']}\n\n{_NEXT}"}]
            else:
                trial = [*messages, {"role": "user", "content": _NEXT}]
            known, found, _ = self.render(trial, request).rpartition(_NEXT)
            if found:
                self._stop = self._client.read_ahead(known)

    def stop(self) -> None:
        """Stop reading."""
        self._stop()
