"""The anthropic package against a server's /v1/messages: `anthropic_client.py URL MODEL`."""

import json
import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none", max_retries=0)
MODEL = sys.argv[2]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
EXACT = {"temperature": 0}
TOOL = {
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def ask(messages, **more):
    return client.messages.create(model=MODEL, max_tokens=200, messages=messages, extra_body=EXACT, **more)


def blocks(message):
    return [
        {"type": block.type, "text": getattr(block, "text", getattr(block, "thinking", ""))}
        for block in message.content
    ]


def stream():
    kinds = set()
    with client.messages.stream(model=MODEL, max_tokens=200, messages=QUESTION, extra_body=EXACT) as events:
        for event in events:
            kinds.add(event.type)
        return {"text": events.get_final_text(), "kinds": sorted(kinds)}


def tools():
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = ask(messages, tools=[TOOL])
    call = next(block for block in first.content if block.type == "tool_use")
    messages.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": '{"temperature": 18, "condition": "sunny"}'}
    messages.append({"role": "user", "content": [result]})
    return {
        "stop": first.stop_reason,
        "name": call.name,
        "input": call.input,
        "answer": blocks(ask(messages, tools=[TOOL]))[-1]["text"],
    }


def too_long():
    try:
        ask([{"role": "user", "content": "word " * 9000}])
    except anthropic.APIStatusError as found:
        return {"class": type(found).__name__, "status": found.status_code}
    return None


first = ask(QUESTION)
print(
    json.dumps(
        {
            "version": anthropic.__version__,
            "blocks": blocks(first),
            "stop": first.stop_reason,
            "usage": first.usage.output_tokens,
            "direct": blocks(ask(QUESTION, thinking={"type": "disabled"})),
            "stream": stream(),
            "tools": tools(),
            "counted": client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens,
            "too_long": too_long(),
        }
    )
)
