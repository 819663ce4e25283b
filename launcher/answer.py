"""A whole answer: gathered from a stream, or asked for in one piece; and how it looks as JSON. Launcher only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher.client import ChatEvent, Content, Finished, Message, Reasoning, Timings, ToolCalls, timings_of

if TYPE_CHECKING:
    from launcher.client import Client


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said, why it ended (stop, length, tool_calls), and what it cost."""

    text: str
    reasoning: str | None
    reason: str
    prompt_tokens: int
    completion_tokens: int
    timings: Timings
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The fields of --json and --jsonl, without timings."""
        calls = {"tool_calls": list(self.tool_calls)} if self.tool_calls else {}
        return {
            "text": self.text,
            "reasoning": self.reasoning,
            **calls,
            "finish_reason": self.reason,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }


def timings_json(timings: Timings) -> dict[str, float]:
    """Milliseconds, and the tokens of the prompt that were read and that were known already; a draft's guesses."""
    draft = {"draft_tokens": timings.guessed, "draft_accepted": timings.accepted} if timings.guessed else {}
    return {
        "prompt_ms": timings.prompt_ms,
        "prompt_tokens": timings.prompt,
        "cached_tokens": timings.cached,
        "generation_ms": timings.generated_ms,
        **draft,
    }


def gather(events: Iterable[ChatEvent], *, raw: bool) -> Answer:
    """The answer that a stream of events makes. New lines around it belong to plain completions only."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: tuple[Mapping[str, Any], ...] = ()
    finished = Finished(reason="")
    for event in events:
        match event:
            case Content(text):
                texts.append(text)
            case Reasoning(text):
                thoughts.append(text)
            case ToolCalls():
                calls = event.calls
            case Finished():
                finished = event
    return Answer(
        text=_trim("".join(texts), raw=raw),
        reasoning="".join(thoughts).strip("\n") or None,
        reason=finished.reason,
        prompt_tokens=finished.prompt_tokens,
        completion_tokens=finished.completion_tokens,
        timings=finished.timings,
        tool_calls=calls,
    )


def ask(client: "Client", messages: Sequence[Message], request: Mapping[str, Any]) -> Answer:
    """The answer to a conversation, in one piece. Raises as the client's methods do."""
    told = client.post("/v1/chat/completions", {**request, "messages": list(messages)})
    choice = told["choices"][0]
    message, usage = choice["message"], told.get("usage") or {}
    return Answer(
        text=_trim(message.get("content") or "", raw=False),
        reasoning=(message.get("reasoning_content") or "").strip("\n") or None,
        reason=choice.get("finish_reason") or "stop",
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        timings=timings_of(told.get("timings") or {}),
        tool_calls=tuple(message.get("tool_calls") or ()),
    )


def complete(client: "Client", prompt: str, request: Mapping[str, Any]) -> Answer:
    """The continuation of plain text, in one piece."""
    fields = {name: value for name, value in request.items() if name != "chat_template_kwargs"}
    told = client.post("/completion", {**fields, "prompt": prompt})
    return Answer(
        text=told.get("content") or "",
        reasoning=None,
        reason="length" if told.get("stop_type") == "limit" else "stop",
        prompt_tokens=told.get("tokens_evaluated", 0),
        completion_tokens=told.get("tokens_predicted", 0),
        timings=timings_of(told.get("timings") or {}),
    )


def embed(client: "Client", text: str) -> tuple[list[float], int]:
    """The text's vector and its number of tokens."""
    told = client.post("/v1/embeddings", {"input": text})
    return list(told["data"][0]["embedding"]), int(told["usage"]["prompt_tokens"])


def _trim(text: str, *, raw: bool) -> str:
    return text if raw else text.strip("\n")
