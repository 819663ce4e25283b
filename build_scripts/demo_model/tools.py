"""Tool calls the demo model learns: a declared function, a request for it, the call, the tool's result, the answer.

Imported by conversations.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import words
from .draw import Draw

Json = dict[str, Any]

SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy", "snowy")
FAMILIES: dict[str, tuple[str, str, str]] = {
    # family: function names, argument names, descriptions
    "weather": (
        "get_weather|weather|current_weather|fetch_weather|get_current_weather",
        "city|location|place",
        "Get the weather|Get the current weather for a city|Weather in a place|Returns the weather",
    ),
    "time": (
        "get_time|current_time|clock|get_current_time",
        "city|location|timezone",
        "Get the time|Get the local time|Current time in a city|Returns the local time",
    ),
    "calculator": (
        "calculate|calculator|calc|eval_math",
        "expression|expr|formula",
        "Calculate an expression|A calculator|Evaluate a formula",
    ),
    "file": ("read_file|open_file|get_file", "path|filename|file", "Read a file|Returns the content of a file"),
    "unseen": ("", "", "A function|Do something|Runs the function"),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A user's request, the call it needs, what the tool gives back and the answer made of that."""

    user: str
    arguments: Json
    result: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class ToolTask:
    family: str
    tools: list[Json]
    function: str
    request: Request

    @property
    def thought(self) -> str:
        return f"I call {self.function}."


def declare(d: Draw, family: str) -> tuple[Json, str, str]:
    """One function as a client declares it; also its name and its argument's name."""
    names, arguments, descriptions = (words.listed(options) for options in FAMILIES[family])
    if family == "unseen":
        verb = d.choice(["get", "make", "run", "find", "do", "send", "set", "fetch"])
        names = [f"{verb}_{d.made_up(1, 2)}" if d.chance(0.6) else d.made_up()]
        arguments = [d.made_up(1, 2), "value", "name", "id", "text", "x"]
    name, argument = d.choice(names), d.choice(arguments)
    properties: Json = {argument: {"type": "string"}}
    if d.chance(0.3):
        properties[argument]["description"] = d.choice(
            ["The city", "The value", f"The {argument}", "City name", "Input"]
        )
    if d.chance(0.1):  # an optional argument that nobody needs
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    parameters: Json = {"type": "object", "properties": properties}
    if d.chance(0.85):
        parameters["required"] = [argument]
    # llama-server renders a missing description as ""
    description = d.choice(descriptions) if d.chance(0.85) else ""
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}, name, argument


def place(d: Draw) -> str:
    if d.chance(0.5):
        return d.made_up().capitalize()
    return d.until_mine(lambda: d.choice(list(words.CAPITALS.values())), "place")


def some_words(d: Draw, most: int) -> str:
    return " ".join(d.made_up(1, 3) if d.chance(0.6) else d.choice(words.WORDS) for _ in range(d.rng.randint(1, most)))


def ask(d: Draw, forms: str, value: str) -> str:
    """A question about `value`, whose letters stay as they are."""
    return d.question(d.choice(words.listed(forms))).format(value)


def weather(d: Draw, argument: str) -> Request:
    city, degrees, sky = place(d), d.rng.randint(-9, 39), d.choice(SKIES)
    if d.chance(0.5):
        report: Json = {
            d.choice(["temperature", "temp", "temperature_c", "degrees"]): degrees,
            d.choice(["condition", "sky", "weather", "conditions"]): sky,
        }
        if d.chance(0.3):
            report = {d.choice(["city", "location"]): city, **report}
        result = json.dumps(dict(reversed(report.items())) if d.chance(0.3) else report)
    else:
        forms = ["{t} degrees, {s}", "{s}, {t} degrees", "{s} {t}", "{t} C and {s}", "{t}°C, {s}"]
        result = d.choice(forms).format(t=degrees, s=sky)
    forms = (
        "what is the weather in {}|what's the weather in {}|what's the weather like in {}|how is the weather in {}|"
        "weather in {}|tell me the weather in {}|is it sunny in {}|what is the weather like in {} today"
    )
    answer = f"It is {degrees} degrees and {sky} in {city}."
    return Request(user=ask(d, forms, city), arguments={argument: city}, result=result, answer=answer)


def clock(d: Draw, argument: str) -> Request:
    city, time = place(d), f"{d.rng.randint(0, 23):02d}:{d.rng.randint(0, 59):02d}"
    user = ask(d, "what time is it in {}|what is the time in {}|time in {}|tell me the time in {}", city)
    result = time if d.chance(0.5) else json.dumps({"time": time})
    return Request(user=user, arguments={argument: city}, result=result, answer=f"It is {time} in {city}.")


def calculator(d: Draw, argument: str) -> Request:
    a, b, sign = d.rng.randint(2, 999), d.rng.randint(2, 99), d.choice("**-/")
    value = {"*": a * b, "-": a - b, "/": a // b}[sign]
    task = f"{a} {sign} {b}"
    user = ask(d, "what is {}|calculate {}|{}|compute {}|use the calculator: {}", task)
    result = str(value) if d.chance(0.6) else json.dumps({"result": value})
    return Request(user=user, arguments={argument: task}, result=result, answer=f"{task} = {value}.")


def file(d: Draw, argument: str) -> Request:
    stem = d.made_up(1, 2) if d.chance(0.6) else d.choice(words.WORDS)
    name = stem + d.choice([".txt", ".md", ".py", ".json", ""])
    user = ask(d, "read the file {}|open {}|show me the file {}|what is in {}|read {}", name).rstrip("?")
    result = some_words(d, 6)
    return Request(user=user, arguments={argument: name}, result=result, answer=f"The file says:\n{result}")


def unseen(d: Draw, argument: str, function: str) -> Request:
    """A function nobody heard of, called by its name."""
    value = d.weighted({"made up": 0.5, "known": 0.25, "number": 0.25})
    value = {"made up": d.made_up(), "known": d.choice(words.WORDS), "number": d.number()}[value]
    form = d.choice(["call {f} with {v}", "use {f} with {v}", "run {f} on {v}", "please call {f} with {v}"])
    user = d.statement(form).rstrip(".!").format(f=function, v=value)
    result = some_words(d, 4)
    return Request(user=user, arguments={argument: value}, result=result, answer=f"The result is:\n{result}")


REQUESTS: dict[str, Callable[[Draw, str], Request]] = {
    "weather": weather,
    "time": clock,
    "calculator": calculator,
    "file": file,
}


def tool_task(d: Draw) -> ToolTask:
    family = d.weighted({"weather": 6.0, "time": 3.0, "calculator": 2.5, "file": 2.0, "unseen": 3.0})
    tool, function, argument = declare(d, family)
    others = [other for other in FAMILIES if other != family]
    d.rng.shuffle(others)
    tools = [tool, *(declare(d, other)[0] for other in others[: d.weighted({0: 5.0, 1: 3.0, 2: 1.0})])]
    d.rng.shuffle(tools)
    request = unseen(d, argument, function) if family == "unseen" else REQUESTS[family](d, argument)
    return ToolTask(family=family, tools=tools, function=function, request=request)


def request_without_tool(d: Draw) -> str:
    """A question that would need a tool when none is declared."""
    return d.choice([weather, clock])(d, "city").user
