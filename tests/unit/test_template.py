"""qwenfile's own chat template says exactly what Qwen3's says."""

import json
import os
from typing import Any

import jinja2
import pytest

from bundler.model import OUR_TEMPLATE
from runtime.paths import build_cache

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello!"}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one": [HELLO],
    "system": [SYSTEM, HELLO],
    "history": [SYSTEM, HELLO, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHi."}, HELLO],
    "reasoning": [HELLO, {"role": "assistant", "content": "Hi.", "reasoning_content": "hm"}, HELLO],
    "ends with the assistant": [HELLO, {"role": "assistant", "content": "Hi."}],
    "tools": [
        SYSTEM,
        HELLO,
        {"role": "assistant", "content": "Let me look.", "reasoning_content": "hm", "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "sunny"},
        {"role": "tool", "content": "dry"},
        {"role": "assistant", "content": "Sunny.", "reasoning_content": "so"},
    ],
    "tool response of a user": [HELLO, {"role": "user", "content": "<tool_response>\nx\n</tool_response>"}],
    "text arguments": [
        HELLO,
        {"role": "assistant", "content": "", "tool_calls": [{"name": "weather", "arguments": '{"city": "Rome"}'}]},
        {"role": "tool", "content": "sunny"},
    ],
    "second system": [HELLO, SYSTEM, HELLO],
}


def theirs() -> str:
    found = sorted(build_cache(os.environ).glob("source-*/vendor/llama.cpp/models/templates/Qwen-Qwen3-0.6B.jinja"))
    if not found:
        pytest.skip("the engine's source is not unpacked")
    return found[0].read_text(encoding="utf-8")


def render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(template).render(**values)


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("tools", [None, [TOOL, TOOL]])
@pytest.mark.parametrize("thinking", [{}, {"enable_thinking": False}, {"enable_thinking": True}])
def test_the_same_words(name: str, tools: list[dict[str, Any]] | None, thinking: dict[str, bool]) -> None:
    values = {"messages": CONVERSATIONS[name], "tools": tools, "add_generation_prompt": True, **thinking}
    ours = render(OUR_TEMPLATE.read_text(encoding="utf-8"), **values)
    assert ours == render(theirs(), **values)
