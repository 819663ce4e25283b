"""The chat: what a person says, what the model answers, thinking, sampling and room in the context. Knows no terminal
and no face.

Imported by the launcher only. It speaks verbs to a small `UI`; the commands are the rows of `launcher.commands`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.client import ChatEvent, Content, Finished, Message, Progress, Reasoning, Timings
from launcher.conversation import ASSISTANT, USER, Conversation, Turn
from launcher.protocols import UI, Door, Model
from launcher.turn_settings import TurnSettings
from runtime.errors import ContextError, UsageError

if TYPE_CHECKING:
    from launcher.archive import Archive

# What the template puts around a turn, in tokens, generously.
_AROUND = 16
# From this part of the context on the person is told that it fills up.
_NEARLY_FULL = 0.85


@dataclass(kw_only=True)
class Statistics:
    """What the last turn and the whole session cost. `first_token_ms`: from Enter to the first token, milliseconds;
    `computing`: what computes, in words."""

    computing: str = ""
    last: Finished | None = None
    session: Timings = field(default_factory=Timings)
    turns: int = 0
    first_token_ms: list[float] = field(default_factory=list)

    def add(self, finished: Finished) -> None:
        self.last = finished
        self.session += finished.timings
        self.turns += 1


class Chat:
    """A conversation with the model."""

    def __init__(
        self,
        model: Model,
        ui: UI,
        settings: TurnSettings,
        context_size: int,
        *,
        archive: "Archive | None" = None,
        door: Door | None = None,
    ) -> None:
        self.model = model
        self.ui = ui
        self.settings = settings
        self.context_size = context_size
        self.archive = archive
        self.door = door
        self.conversation = Conversation(system=settings.options.system or "")
        self.statistics = Statistics()
        self.pending: Turn | None = None
        self._measured: tuple[list[Message], int] = [], 0  # a beginning of the conversation, and its tokens at most
        self._warned_greedy = False
        self._warned_full = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Leave the conversation as it is, on disk at least, and begin another with the same system prompt."""
        self.conversation = Conversation(system=self.system)
        if self.archive:
            self.archive.keep(self.conversation)

    @property
    def turns(self) -> list[Turn]:
        return self.conversation.turns

    @property
    def system(self) -> str:
        return self.conversation.system

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

        Raises ContextError if it doesn't fit: the turn then waits for /retry. Raises UsageError if the engine refuses,
        and QwenfileError if it fails.
        """
        turn = Turn(role=USER, content=text.encode(errors="replace").decode())
        self.pending = turn
        self._make_room(turn)
        self.conversation.add(turn)
        self.answer()

    def answer(self, *, seed: int | None = None) -> None:
        """Let the model answer the last turn; see `say`."""
        self._warn_greedy()
        body = self.request() | ({} if seed is None else {"seed": seed})
        said: list[str] = []
        start = time.monotonic()
        waiting = True
        events = self.model.chat(self.messages(), {**body, "return_progress": True})
        interrupted = False
        try:
            for event in events:
                if waiting and isinstance(event, Reasoning | Content):
                    waiting = False
                    self.statistics.first_token_ms.append((time.monotonic() - start) * 1000)
                self._show(event, said)
        except KeyboardInterrupt:
            interrupted = True
        except (UsageError, ContextError):
            self._take_back()
            raise
        except BaseException:
            self._keep(said, interrupted=True)
            raise
        finally:
            events.close()  # closes the connection, so the engine stops
        if said or not interrupted:
            self._keep(said, interrupted=interrupted)
            self.pending = None
            if not interrupted and (last := self.statistics.last) and last.prompt_tokens:
                self._measured = self.messages(), last.prompt_tokens + last.completion_tokens
        else:
            self._take_back()  # stopped before a word: as if never asked, but /retry asks again
        self.ui.turn_over(interrupted=interrupted)
        if not interrupted:
            self._explain_limit()
        self.prepare()

    def _take_back(self) -> None:
        turns = self.conversation.turns
        self.pending = turns[-1] if turns else None
        self.conversation.cut(len(turns) - 1, len(turns))

    def _keep(self, said: list[str], *, interrupted: bool) -> None:
        if said or not interrupted:
            self.conversation.add(Turn(role=ASSISTANT, content="".join(said), interrupted=interrupted))

    def _show(self, event: ChatEvent, said: list[str]) -> None:
        match event:
            case Reasoning(text):
                self.ui.thinking(text)
            case Content(text):
                text = text if said else text.lstrip("\n")
                if text:
                    said.append(text)
                    self.ui.answer(text)
                    self.conversation.keeper.piece(text)
            case Progress():
                self.ui.reading(event)
            case Finished():
                self.statistics.add(event)

    def prepare(self) -> None:
        """Let the engine read ahead while the person types."""
        if self.turns:
            self.model.prepare(self.messages(), self.request())

    def _make_room(self, turn: Turn) -> None:
        """See that the turn fits, dropping the oldest exchanges if the person asked for that. Raises ContextError."""
        options = self.settings.options
        reserve = min(options.predict or 512, self.context_size // 4)
        if self._at_most(turn) + (reserve if options.auto_forget else 0) < self.context_size:
            return  # without asking the engine, which takes its time for a long conversation
        count = self._count_with(turn)
        while options.auto_forget and count + reserve > self.context_size and self.turns:
            dropped = self.conversation.cut(*self.conversation.oldest_exchange())
            count = self._count_with(turn)
            self.ui.notice(f"forgot the oldest exchange, {tokens_of(dropped, self)}; {self._fill(count)}")
        if count < self.context_size:
            return
        wanted = -(-(count + reserve) // 1024) * 1024
        problem = f"this turn makes {count:,} tokens of conversation, the context holds {self.context_size:,}"
        choices = "/forget the oldest exchange or /clear all, then /retry sends it"
        raise ContextError(problem, f"{choices}; or start with -c {wanted} or more")

    def _at_most(self, turn: Turn) -> int:
        """Tokens that the conversation cannot exceed with this turn: what was measured, and a token per byte since."""
        messages = self._with(turn).messages()
        known, tokens = self._measured
        if messages[: len(known)] != known:
            known, tokens = [], 0
        return tokens + sum(len(each["content"].encode()) + _AROUND for each in messages[len(known) :])

    def _with(self, turn: Turn) -> Conversation:
        return Conversation(system=self.system, turns=[*self.turns, turn])

    def _count_with(self, turn: Turn) -> int:
        return self.model.count(self._with(turn).messages(), self.request())

    def _fill(self, count: int) -> str:
        return f"{count:,} of {self.context_size:,} tokens used"

    def _explain_limit(self) -> None:
        last = self.statistics.last
        if last is None:
            return
        used = last.prompt_tokens + last.completion_tokens
        if last.reason == "length" and used >= self.context_size:
            self.ui.notice(
                f"the answer was cut: the context of {self.context_size:,} tokens is full. /forget the oldest "
                f"exchange, /clear all, or start with -c {2 * self.context_size}"
            )
        elif last.reason == "length":
            self.ui.notice(f"the answer ended at the limit of {last.completion_tokens:,} tokens (-n)")
        elif used < self.context_size * _NEARLY_FULL:
            self._warned_full = False
        elif not self._warned_full and not self.settings.options.auto_forget:
            self._warned_full = True
            self.ui.notice(f"the context fills up: {self._fill(used)}. /forget the oldest exchange, or /clear all")

    def _warn_greedy(self) -> None:
        if not self._warned_greedy and self.thinks() and self.request().get("temperature") == 0:
            self._warned_greedy = True
            self.ui.notice("thinking at temperature 0 can repeat itself without end; Qwen3's authors advise 0.6")

    def messages(self) -> list[Message]:
        """The conversation as the engine wants it; thinking of earlier turns is not in it."""
        return self.conversation.messages()

    def thinks(self) -> bool:
        """Whether the turn at hand thinks."""
        return self.settings.thinks(self.turns)

    def request(self) -> dict[str, Any]:
        """What the turn at hand says to the engine beside the messages."""
        return self.settings.request(self.turns)

    def next_turn(self) -> list[Turn]:
        """The turns with one more, of which nobody knows what it says."""
        return [*self.turns, Turn(role=USER, content="")]

    def used(self) -> int:
        """Tokens that the conversation takes, counted by the engine."""
        return self.model.count(self.messages(), self.request()) if self.messages() else 0


def tokens_of(turns: Sequence[Turn], chat: Chat) -> str:
    """How long these turns are."""
    count = sum(chat.model.tokens(turn.content) for turn in turns)
    return f"{count:,} token{'s' * (count != 1)}"
