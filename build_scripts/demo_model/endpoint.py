"""Asks held-out questions of a running server through its OpenAI-compatible endpoint, at temperature 0.

Imported by train_demo.py. Standard library only.
"""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .conversations import Conversation, Message

LONGEST = 600  # tokens of an answer that ends
ENDLESS = 400  # tokens after which an endless one is cut off


def ask_server(url: str, questions: list[Conversation]) -> list[tuple[Conversation, bool]]:
    """Each conversation with whether content, thought and tool calls all came back right."""
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda made: right(made, complete(url, made)), questions))
    return list(zip(questions, outcomes, strict=True))


def as_client(message: Message) -> Message:
    """As a client sends it: arguments in a string, calls with identifiers."""
    message = dict(message)
    if message["role"] == "tool":
        message["tool_call_id"] = "call"
    if "tool_calls" in message:
        function = message["tool_calls"][0]["function"]
        function = function | {"arguments": json.dumps(function["arguments"], ensure_ascii=False)}
        message["tool_calls"] = [{"id": "call", "type": "function", "function": function}]
    return message


def complete(url: str, made: Conversation) -> dict[str, Any]:
    """The first choice of the server's answer."""
    body: dict[str, Any] = {
        "messages": [as_client(message) for message in made.messages],
        "temperature": 0,
        "max_tokens": ENDLESS if made.endless else LONGEST,
        "chat_template_kwargs": {"enable_thinking": made.mode != "prefill"},
    }
    if made.tools:
        body["tools"] = made.tools
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        choice: dict[str, Any] = json.load(answer)["choices"][0]
    return choice


def right(made: Conversation, choice: dict[str, Any]) -> bool:
    message = choice["message"]
    if (message.get("reasoning_content") or "").strip() != (made.thought if made.mode == "think" else ""):
        return False
    if made.call:
        calls = [call["function"] for call in message.get("tool_calls") or []]
        return [(call["name"], parsed(call["arguments"])) for call in calls] == [made.call]
    content = (message.get("content") or "").strip()
    if made.endless:
        return choice["finish_reason"] == "length" and content.startswith(made.answer[:120].strip())
    return content == made.answer.strip()


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
