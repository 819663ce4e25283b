"""The conversation: turns, history, thinking, and what the person can ask of it. Knows no terminal and no face.

Imported by the launcher only. It speaks verbs to a small `UI`; the commands are the rows of `launcher.commands`.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from launcher.client import ChatEvent, Content, Finished, Message, Reasoning, Timings
from launcher.options import LaunchOptions
from launcher.settings import request
from runtime.bundle import Manifest
from runtime.errors import ContextError

# Qwen3 model card, "Advanced usage": /think and /no_think anywhere in a turn switch its thinking and that of the
# turns after it; the last one counts.
_SWITCH = re.compile(r"(?<!\S)/(no_)?think(?!\S)")


class UI(Protocol):
    """What a conversation says to whoever shows it."""

    def thinking(self, text: str) -> None:
        """A piece of thinking."""

    def answer(self, text: str) -> None:
        """A piece of the answer."""

    def turn_over(self, *, interrupted: bool) -> None:
        """The answer is complete, or was stopped."""

    def show(self, text: str) -> None:
        """What a command has to say; one or more lines."""

    def notice(self, text: str) -> None:
        """One line that the person should know."""


class Model(Protocol):
    """What a conversation needs of the engine; `launcher.client.Client` is one."""

    def chat(self, messages: Sequence[Message], request: Mapping[str, Any]) -> Generator[ChatEvent, None, None]: ...

    def count(self, messages: Sequence[Message], request: Mapping[str, Any]) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one side said, without thinking. `interrupted`: the person stopped the answer here."""

    role: str
    content: str
    interrupted: bool = False


@dataclass(kw_only=True)
class Statistics:
    """What the last turn and the whole session cost."""

    last: Finished | None = None
    session: Timings = field(default_factory=Timings)
    turns: int = 0

    def add(self, finished: Finished) -> None:
        self.last = finished
        self.session += finished.timings
        self.turns += 1


class Chat:
    """A conversation with the model."""

    def __init__(self, model: Model, ui: UI, options: LaunchOptions, manifest: Manifest, context_size: int) -> None:
        self.ui = ui
        self.system = options.system or ""
        self.turns: list[Turn] = []
        self.thinking = options.thinking is not False
        self.statistics = Statistics()
        self.context_size = context_size
        self._model = model
        self._options = options
        self._manifest = manifest

    def handle(self, text: str) -> bool:
        """Do what one input says: a command or a turn. False when the person wants to leave.

        Raises UsageError for a command that isn't one or can't be done, and what `say` raises.
        """
        from launcher.commands import find

        if not text.strip():
            return True
        command = find(text.strip())
        if command is not None:
            return command(self)
        self.say(text)
        return True

    def say(self, text: str) -> None:
        """Send a turn and show the answer. Ctrl-C stops the answer, and what was said stays in the conversation.

        Raises QwenfileError if the engine refuses (ContextError: too long) or fails; the turn is taken back then.
        """
        self.turns.append(Turn(role="user", content=text))
        said: list[str] = []
        events = self._model.chat(self.messages(), self.request())
        interrupted = False
        try:
            for event in events:
                self._show(event, said)
        except KeyboardInterrupt:
            interrupted = True
        except ContextError as error:
            self.turns.pop()
            raise ContextError(error.message, "/clear the conversation, or start with a larger -c") from None
        except BaseException:
            self.turns.pop()
            raise
        finally:
            events.close()  # closes the connection, so the engine stops
        if said or not interrupted:
            self.turns.append(Turn(role="assistant", content="".join(said), interrupted=interrupted))
        else:
            self.turns.pop()  # stopped before a word: as if never asked
        self.ui.turn_over(interrupted=interrupted)
        if not interrupted:
            self._explain_limit()

    def _show(self, event: ChatEvent, said: list[str]) -> None:
        match event:
            case Reasoning(text):
                self.ui.thinking(text)
            case Content(text):
                text = text if said else text.lstrip("\n")
                if text:
                    said.append(text)
                    self.ui.answer(text)
            case Finished():
                self.statistics.add(event)

    def _explain_limit(self) -> None:
        last = self.statistics.last
        if last is None or last.reason != "length":
            return
        if last.prompt_tokens + last.completion_tokens >= self.context_size:
            self.ui.notice(f"the context of {self.context_size:,} tokens is full: /clear it, or start with a larger -c")
        else:
            self.ui.notice(f"the answer ended at the limit of {last.completion_tokens:,} tokens (-n)")

    def messages(self) -> list[Message]:
        """The conversation as the engine wants it; thinking of earlier turns is not in it."""
        head: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return head + [{"role": turn.role, "content": turn.content} for turn in self.turns]

    def thinks(self) -> bool:
        """Whether the turn at hand thinks: /think off is final, else the last switch in the text counts."""
        if not self.thinking:
            return False
        for turn in reversed(self.turns):
            if turn.role == "user" and (switch := soft_switch(turn.content)) is not None:
                return switch
        return True

    def request(self) -> dict[str, Any]:
        """Sampling for the turn's mode. The template's own switch is off only for /think off: soft ones are text."""
        body = request(self._options, self._manifest, thinking=self.thinks())
        body["chat_template_kwargs"] = {"enable_thinking": self.thinking}
        return body

    def used(self) -> int:
        """Tokens that the conversation takes, counted by the engine."""
        return self._model.count(self.messages(), self.request()) if self.messages() else 0

    def clear(self) -> None:
        """Forget all turns; the system prompt stays."""
        self.turns.clear()


def soft_switch(text: str) -> bool | None:
    """The thinking mode that a turn asks for in its text, or None."""
    switches = _SWITCH.findall(text)
    return not switches[-1] if switches else None
