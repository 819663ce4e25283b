"""A real MCP server over standard input and output, with one tool; `weather_mcp.py LOG` notes its calls there."""

import sys
from pathlib import Path

from mcp.server.fastmcp import FastMCP

server = FastMCP("weather")


@server.tool()
def get_weather(city: str) -> str:
    """Get the current weather in a city"""
    with Path(sys.argv[1]).open("a") as log:
        log.write(city + "\n")
    return '{"temperature": 18, "condition": "sunny"}'


server.run()
