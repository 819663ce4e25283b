"""A chat with a scripted engine, and a UI that writes everything down."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.chat import Chat
from launcher.client import ChatEvent, Finished, Message, Progress, Timings
from launcher.options import LaunchOptions
from launcher.turn_settings import TurnSettings
from tests.unit.manifests import manifest


@dataclass
class Script:
    """An engine that says what it was given: a list of events or errors a turn."""

    turns: list[list[ChatEvent | BaseException]]
    requests: list[tuple[list[Message], Mapping[str, Any]]] = field(default_factory=list)
    closed: int = 0
    prepared: list[list[Message]] = field(default_factory=list)
    token: int = 10  # how many tokens a message has

    def chat(self, messages: Sequence[Message], request: Mapping[str, Any]) -> Generator[ChatEvent, None, None]:
        self.requests.append((list(messages), request))
        try:
            for event in self.turns.pop(0):
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.closed += 1

    def count(self, messages: Sequence[Message], request: Mapping[str, Any]) -> int:
        return self.token * len(messages)

    def tokens(self, text: str) -> int:
        return len(text.split())

    def beginning(self, text: str, tokens: int) -> str:
        return " ".join(text.split()[:tokens])

    def render(self, messages: Sequence[Message], request: Mapping[str, Any]) -> str:
        return "".join(f"<{message['role']}>{message['content']}" for message in messages)

    def prepare(self, messages: Sequence[Message], request: Mapping[str, Any]) -> None:
        self.prepared.append(list(messages))


@dataclass
class Paper:
    """A UI that writes everything down."""

    lines: list[str] = field(default_factory=list)
    written: str | None = None  # what comes out of the editor

    def thinking(self, text: str) -> None:
        self.lines.append(f"thinks {text}")

    def answer(self, text: str) -> None:
        self.lines.append(f"says {text}")

    def reading(self, progress: Progress) -> None:
        self.lines.append(f"reads {progress.done} of {progress.total}")

    def thinking_view(self, view: str) -> None:
        self.lines.append(f"view {view}")

    def edit(self, text: str) -> str | None:
        self.lines.append(f"edits {text}")
        return self.written

    def copy(self, text: str) -> None:
        self.lines.append(f"copies {text}")

    def turn_over(self, *, interrupted: bool) -> None:
        self.lines.append("interrupted" if interrupted else "over")

    def show(self, text: str) -> None:
        self.lines.append(f"shows {text}")

    def exact(self, text: str) -> None:
        self.lines.append(f"tells {text}")

    def notice(self, text: str) -> None:
        self.lines.append(f"notice {text}")


def end(reason: str = "stop", **counts: int) -> Finished:
    timings = Timings(prompt=4, cached=2, prompt_ms=2.0, generated=3, generated_ms=10.0)
    return Finished(reason=reason, timings=timings, **counts)


def chat_with(*turns: list[ChatEvent | BaseException], size: int = 4096, **options: Any) -> tuple[Chat, Script, Paper]:
    script, paper = Script(list(turns)), Paper()
    settings = TurnSettings(options=LaunchOptions(**options), manifest=manifest())
    return Chat(script, paper, settings, size), script, paper
