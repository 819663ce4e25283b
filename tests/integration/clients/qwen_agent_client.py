"""qwen-agent with `model_server` at a server: `qwen_agent_client.py URL MODEL LOG`; tools note their calls in LOG."""

import importlib.metadata
import json
import sys
from pathlib import Path

from qwen_agent.agents import Assistant
from qwen_agent.tools.base import BaseTool, register_tool

URL, MODEL, LOG = sys.argv[1:]


@register_tool("get_weather")
class GetWeather(BaseTool):
    description = "Get the current weather in a city"
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

    def call(self, params, **_):
        with Path(LOG).open("a") as log:
            log.write(f"function {json.loads(params)['city']}\n")
        return '{"temperature": 18, "condition": "sunny"}'


def ask(question, tools, **settings):
    model = {
        "model": MODEL,
        "model_server": URL + "/v1",
        "api_key": "EMPTY",
        "generate_cfg": {"temperature": 0, **settings},
    }
    *_, last = Assistant(llm=model, function_list=tools).run(messages=[{"role": "user", "content": question}])
    return [{key: part.get(key) for key in ("role", "content", "reasoning_content", "function_call")} for part in last]


weather = "What is the weather in Paris?"
mcp = {
    "mcpServers": {
        "weather": {"command": sys.executable, "args": [str(Path(__file__).with_name("weather_mcp.py")), LOG]}
    }
}
print(
    json.dumps(
        {
            "version": importlib.metadata.version("qwen-agent"),
            "plain": ask("What is the capital of France?", []),
            "function": ask(weather, ["get_weather"]),
            "function_raw": ask(weather, ["get_weather"], use_raw_api=True),
            "mcp_raw": ask(weather, [mcp], use_raw_api=True),
        }
    )
)
