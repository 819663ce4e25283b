import json
from typing import Any

import pytest

from launcher import client
from launcher.client import Content, Finished, Reasoning, Timings, ToolCalls
from runtime.errors import ContextError, QwenfileError, UsageError


class Wire:
    """A response that arrives in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read1(self, _size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def events(*pieces: bytes) -> list[Any]:
    return list(client._server_events(Wire(*pieces)))  # type: ignore[arg-type]


def chunk(delta: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta or {}, "finish_reason": more.pop("reason", None)}], **more}


def test_a_character_cut_in_two_comes_together() -> None:
    wire = f"data: {json.dumps({'text': '你好'}, ensure_ascii=False)}\n\ndata: [DONE]\n\n".encode()
    for cut in range(1, len(wire)):
        assert events(wire[:cut], wire[cut:]) == [{"text": "你好"}]


def test_comments_and_carriage_returns_are_no_events() -> None:
    assert events(b": ping\r\n\r\n", b'data: {"a": 1}\r\n\r\n', b"event: x\n") == [{"a": 1}]


def test_an_error_in_the_stream_is_raised() -> None:
    with pytest.raises(QwenfileError, match="the engine failed: boom"):
        events(b'data: {"error": {"code": 500, "message": "boom"}}\n\n')
    with pytest.raises(UsageError, match="refuses: bad"):
        events(b'error: {"code": 400, "message": "bad"}\n\n')


def test_chat_events() -> None:
    timings = {"prompt_n": 3, "cache_n": 1, "prompt_ms": 1.5, "predicted_n": 2, "predicted_ms": 4.0}
    stream = [
        chunk({"role": "assistant", "content": None}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "Hi"}),
        chunk(reason="stop"),
        {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}, "timings": timings},
    ]
    assert list(client._chat_events(iter(stream))) == [
        Reasoning("hm"),
        Content("Hi"),
        Finished(
            reason="stop",
            prompt_tokens=4,
            completion_tokens=2,
            timings=Timings(prompt=3, cached=1, prompt_ms=1.5, generated=2, generated_ms=4.0),
        ),
    ]


def test_tool_calls_come_together_from_pieces() -> None:
    stream = [
        chunk({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "add", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
        chunk(reason="tool_calls"),
    ]
    calls, finished = client._chat_events(iter(stream))
    assert calls == ToolCalls(({"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},))
    assert isinstance(finished, Finished)
    assert finished.reason == "tool_calls"


def test_a_stream_that_breaks_off_is_an_error() -> None:
    with pytest.raises(QwenfileError, match="broke off"):
        list(client._chat_events(iter([chunk({"content": "Hi"})])))
    with pytest.raises(QwenfileError, match="broke off"):
        list(client._completion_events(iter([{"content": "Hi"}])))


def test_completion_events() -> None:
    stream = [
        {"content": "a", "stop": False},
        {"content": "", "stop": True, "stop_type": "limit", "tokens_evaluated": 5, "tokens_predicted": 1},
    ]
    assert list(client._completion_events(iter(stream))) == [
        Content("a"),
        Finished(reason="length", prompt_tokens=5, completion_tokens=1),
    ]


def test_a_prompt_that_does_not_fit_names_both_numbers() -> None:
    body = {"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 5013, "n_ctx": 4096}}
    error = client._refusal(400, json.dumps(body).encode())
    assert isinstance(error, ContextError)
    assert error.message == "the input has 5,013 tokens, the context holds 4,096"
    assert "-c 5120" in error.remedy


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 3}'])
def test_answers_that_are_no_error_objects(body: bytes) -> None:
    assert "the engine failed" in str(client._refusal(502, body))


def test_timings_add_up() -> None:
    one = Timings(prompt=1, cached=2, prompt_ms=3.0, generated=4, generated_ms=5.0, guessed=6, accepted=7)
    assert one + one == Timings(
        prompt=2, cached=4, prompt_ms=6.0, generated=8, generated_ms=10.0, guessed=12, accepted=14
    )
