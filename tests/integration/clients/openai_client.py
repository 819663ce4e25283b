"""The openai package against a server: `openai_client.py URL MODEL` prints one JSON object of what it saw."""

import json
import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
MODEL = sys.argv[2]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
DIRECT = {"chat_template_kwargs": {"enable_thinking": False}}
TOOL = {
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "Rome"]},
        "rivers": {"type": "array", "items": {"const": "Seine"}, "maxItems": 2},
    },
    "required": ["city", "rivers"],
    "additionalProperties": False,
}


def ask(**more):
    return client.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "temperature": 0, **more})


def message(**more):
    found = ask(**more).choices[0].message
    return {"content": found.content, "reasoning": getattr(found, "reasoning_content", None)}


def chat_stream():
    seen = {"content": "", "reasoning": "", "usage": None, "pieces": 0}
    for chunk in ask(stream=True, stream_options={"include_usage": True}):
        if chunk.usage:
            seen["usage"] = {"prompt": chunk.usage.prompt_tokens, "completion": chunk.usage.completion_tokens}
        for choice in chunk.choices:
            seen["content"] += choice.delta.content or ""
            seen["reasoning"] += getattr(choice.delta, "reasoning_content", None) or ""
            seen["pieces"] += 1
    return seen


def tools():
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    offered = [{"type": "function", "function": TOOL}]
    choice = ask(messages=messages, tools=offered).choices[0]
    call = choice.message.tool_calls[0]
    messages.append(choice.message.model_dump(exclude_none=True))
    messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 18, "condition": "sunny"}'})
    answer = ask(messages=messages, tools=offered).choices[0].message.content
    called = {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
    return {"finish": choice.finish_reason, "call": called, "answer": answer}


def tools_stream():
    name, arguments = "", ""
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    for chunk in ask(messages=messages, tools=[{"type": "function", "function": TOOL}], stream=True):
        for call in (chunk.choices and chunk.choices[0].delta.tool_calls) or ():
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    return {"name": name, "arguments": json.loads(arguments)}


def schema():
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    return json.loads(ask(response_format=wanted, extra_body=DIRECT).choices[0].message.content)


def logprobs():
    found = ask(logprobs=True, top_logprobs=3, max_tokens=4, extra_body=DIRECT).choices[0].logprobs.content
    return [{"token": at.token, "logprob": at.logprob, "top": len(at.top_logprobs)} for at in found]


def seeds():
    wild = {**DIRECT, "top_k": 0, "min_p": 0}
    return [
        ask(temperature=2, top_p=1, presence_penalty=0, seed=seed, max_tokens=12, extra_body=wild)
        .choices[0]
        .message.content
        for seed in (1, 1, 2, 3)
    ]


def responses():
    found = client.responses.create(model=MODEL, input=QUESTION[0]["content"], temperature=0)
    return {
        "text": found.output_text,
        "kinds": [item.type for item in found.output],
        "tokens": found.usage.output_tokens,
    }


def responses_stream():
    events, text = [], ""
    for event in client.responses.create(model=MODEL, input=QUESTION[0]["content"], temperature=0, stream=True):
        events.append(event.type)
        text += event.delta if event.type == "response.output_text.delta" else ""
    return {"text": text, "first": events[0], "last": events[-1]}


def responses_tools():
    offered = [{"type": "function", **TOOL}]
    first = client.responses.create(model=MODEL, input="What is the weather in Paris?", temperature=0, tools=offered)
    call = next(item for item in first.output if item.type == "function_call")
    return {"name": call.name, "arguments": json.loads(call.arguments)}


def error(**more):
    try:
        ask(**more)
    except openai.APIStatusError as found:
        return {"class": type(found).__name__, "status": found.status_code, "body": found.body}
    return None


print(
    json.dumps(
        {
            "version": openai.__version__,
            "chat": message(),
            "direct": message(extra_body=DIRECT),
            "effort_none": message(reasoning_effort="none"),
            "soft_off": message(messages=[{"role": "user", "content": QUESTION[0]["content"] + " /no_think"}]),
            "hard_off_soft_on": message(
                messages=[{"role": "user", "content": QUESTION[0]["content"] + " /think"}], extra_body=DIRECT
            ),
            "stream": chat_stream(),
            "tools": tools(),
            "tools_stream": tools_stream(),
            "schema": schema(),
            "logprobs": logprobs(),
            "stop": message(stop=[" of"], extra_body=DIRECT),
            "seeds": seeds(),
            "n": [choice.message.content for choice in ask(n=3, extra_body=DIRECT).choices],
            "limit": ask(max_tokens=3, extra_body=DIRECT).choices[0].finish_reason,
            "completion": client.completions.create(model=MODEL, prompt="The capital", max_tokens=4, temperature=0)
            .choices[0]
            .text,
            "completion_stream": "".join(
                part.choices[0].text
                for part in client.completions.create(
                    model=MODEL, prompt="The capital", max_tokens=4, temperature=0, stream=True
                )
            ),
            "models": [model.id for model in client.models.list()],
            "responses": responses(),
            "responses_stream": responses_stream(),
            "responses_tools": responses_tools(),
            "too_long": error(messages=[{"role": "user", "content": "word " * 9000}]),
            "bad_request": error(messages="none"),
        }
    )
)
