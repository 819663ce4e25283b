"""langchain-openai against a server: `langchain_client.py URL MODEL`."""

import asyncio
import importlib.metadata
import json
import sys

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

QUESTION = "What is the capital of France?"


@tool
def get_weather(city: str) -> str:
    """Get the current weather in a city"""
    return '{"temperature": 18, "condition": "sunny"}'


model = ChatOpenAI(base_url=sys.argv[1] + "/v1", api_key="none", model=sys.argv[2], temperature=0)
with_tools = model.bind_tools([get_weather])
messages = [HumanMessage("What is the weather in Paris?")]
messages.append(with_tools.invoke(messages))
calls = [{"name": call["name"], "args": call["args"]} for call in messages[-1].tool_calls]
messages += [get_weather.invoke(call) for call in messages[-1].tool_calls]
pieces = [piece.content for piece in model.stream(QUESTION)]
print(
    json.dumps(
        {
            "version": importlib.metadata.version("langchain-openai"),
            "invoke": model.invoke(QUESTION).content,
            "ainvoke": asyncio.run(model.ainvoke(QUESTION)).content,
            "stream": "".join(pieces),
            "pieces": len(pieces),
            "batch": [answer.content for answer in model.batch([QUESTION, "What is the capital of Japan?"])],
            "calls": calls,
            "answer": with_tools.invoke(messages).content,
        }
    )
)
