"""Synthetic conversations for the demo model, each with the one right completion.

`conversation(draw)` yields one item of the draw's split. The folder's data modules are pure standard library; they are
imported by train_demo.py and by the unit tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from . import words
from .draw import Draw, Turn
from .skills import FACTS, any_turn, count_to, fixed, greeting, identity, short_turn, unknown
from .tools import request_without_tool, tool_task

Message = dict[str, Any]
Mode = Literal["think", "no_think", "prefill"]
"""How the reply starts: with a thought; with an empty one because of `/no_think`; or right away, because the template
has already written the empty thought (enable_thinking=false)."""
Call = tuple[str, dict[str, Any]]

MODES: dict[Mode, float] = {"think": 0.5, "no_think": 0.22, "prefill": 0.28}
NO_THINK = " /no_think"


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages up to the reply that is wanted, and that reply."""

    messages: list[Message]
    mode: Mode
    thought: str
    answer: str
    skill: str
    tools: list[Message] | None = None
    call: Call | None = None
    endless: bool = False

    def completion(self) -> str:
        """The text that the model must write after the prompt."""
        thought = {
            "think": f"<think>\n{self.thought}\n</think>\n\n",
            "no_think": "<think>\n\n</think>\n\n",
            "prefill": "",
        }
        text = thought[self.mode] + self.answer
        if self.call:
            name, arguments = self.call
            call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
            text += f"<tool_call>\n{call}\n</tool_call>"
        return text if self.endless else text + "<|im_end|>"


def exchange(d: Draw, user: str, answer: str) -> list[Message]:
    """An earlier turn, as the template shows it: without its thought."""
    switch = d.choice([NO_THINK, " /think"]) if d.chance(0.12) else ""
    return [{"role": "user", "content": user + switch}, {"role": "assistant", "content": answer}]


def past_turn(d: Draw) -> list[Message]:
    """Mostly short; sometimes a stream that was interrupted in the middle."""
    if d.chance(0.8):
        turn = short_turn(d)
        return exchange(d, turn.user, turn.answer)
    turn = d.choice([count_to, fixed])(d)
    return exchange(d, turn.user, turn.answer[: d.rng.randint(10, 120)].rstrip())


def reply_to(d: Draw, turn: Turn, before: list[Message] | None = None, **more: Any) -> Conversation:
    """The conversation that ends with this turn's question, in a drawn mode of thinking."""
    mode = d.weighted(MODES)
    switch = NO_THINK if mode == "no_think" else " /think" if mode == "think" and d.chance(0.08) else ""
    return Conversation(
        messages=[*(before or []), {"role": "user", "content": turn.user + switch}],
        mode=mode,
        thought=turn.thought,
        answer=turn.answer if mode == "think" else turn.unthought,
        skill=turn.skill,
        endless=turn.endless,
        **more,
    )


def single(d: Draw) -> Conversation:
    return reply_to(d, any_turn(d))


def several(d: Draw) -> Conversation:
    before = [message for _ in range(d.rng.randint(1, 3)) for message in past_turn(d)]
    return reply_to(d, any_turn(d), before)


@dataclass(frozen=True, kw_only=True)
class Telling:
    """Something the user tells, and how it is asked for later."""

    about: str
    told: str
    thought: str
    reply: str
    asked: str
    answer: str


def name_told(d: Draw) -> Telling:
    name = d.name()
    form = d.choice(words.listed("my name is {}|i am {}|call me {}|hi, my name is {}|hello, i am {}|i'm {}"))
    asked = "what is my name|what's my name|do you remember my name|who am i|tell me my name|what was my name"
    return Telling(
        about="name",
        told=form.format(name),
        thought=f"The name is {name}.",
        reply=f"Nice to meet you, {name}!",
        asked=asked,
        answer=f"Your name is {name}.",
    )


def number_told(d: Draw) -> Telling:
    number = d.number()
    form = d.choice(
        words.listed(
            "remember the number {}|my number is {}|my favorite number is {}|the number is {}|"
            "keep in mind the number {}|the secret number is {}"
        )
    )
    asked = (
        "what is my number|what was the number|which number did i tell you|what is the number|tell me the number|"
        "what is my favorite number|what number did i say"
    )
    return Telling(
        about="number",
        told=form.format(number),
        thought=f"The number is {number}.",
        reply=f"Ok, the number is {number}.",
        asked=asked,
        answer=f"The number is {number}.",
    )


def color_told(d: Draw) -> Telling:
    forms = ["my favorite color is {}", "i like the color {}", "my color is {}"]
    color, form = d.combination("told color", words.COLORS, forms)
    asked = "what is my favorite color|which color do i like|what color do i like|what is my color"
    return Telling(
        about="color",
        told=form.format(color),
        thought=f"The color is {color}.",
        reply=f"Ok, you like {color}.",
        asked=asked,
        answer=f"Your favorite color is {color}.",
    )


def city_told(d: Draw) -> Telling:
    forms = ["i live in {}", "my home is in {}", "i am from {}", "my city is {}"]
    city, form = d.made_up().capitalize(), d.choice(forms)
    if d.chance(0.4):
        city, form = d.combination("told city", list(words.CAPITALS.values()), forms)
    asked = "where do i live|where is my home|what is my city|where am i from|which city do i live in"
    return Telling(
        about="city",
        told=form.format(city),
        thought=f"The city is {city}.",
        reply=f"Ok, you live in {city}.",
        asked=asked,
        answer=f"You live in {city}.",
    )


def pet_told(d: Draw) -> Telling:
    pet, name = d.choice(words.PETS), d.name()
    form = d.choice(["my {p} is called {n}", "i have a {p} called {n}", "the name of my {p} is {n}"])
    return Telling(
        about="pet",
        told=form.format(p=pet, n=name),
        thought=f"The {pet} is {name}.",
        reply=f"Ok, your {pet} is {name}.",
        asked=f"what is the name of my {pet}|what is my {pet} called|how is my {pet} called",
        answer=f"Your {pet} is called {name}.",
    )


def word_told(d: Draw) -> Telling:
    word = d.made_up()
    form = d.choice(["the secret word is {}", "remember the word {}", "the password is {}", "the code word is {}"])
    asked = (
        "what is the secret word|what was the word|what is the password|which word did i tell you|what is the code word"
    )
    return Telling(
        about="word",
        told=form.format(word),
        thought=f"The word is {word}.",
        reply=f"Ok, the word is {word}.",
        asked=asked,
        answer=f"The word is {word}.",
    )


TELLINGS: dict[Callable[[Draw], Telling], float] = {
    name_told: 4.0,
    number_told: 2.0,
    color_told: 1.0,
    city_told: 1.0,
    pet_told: 1.0,
    word_told: 1.0,
}


def different_tellings(d: Draw, count: int) -> list[Telling]:
    told: list[Telling] = []
    while len(told) < count:
        telling = d.weighted(TELLINGS)(d)
        if telling.about not in {earlier.about for earlier in told}:
            told.append(telling)
    return told


def memory(d: Draw) -> Conversation:
    told = different_tellings(d, d.weighted({1: 5.0, 2: 4.0, 3: 1.0}))
    ending = d.weighted({"asked": 0.74, "told": 0.19, "never told": 0.07})
    if ending == "never told":
        before = past_turn(d) if d.chance(0.5) else []
        asked = told[0].asked if told[0].about != "pet" else name_told(d).asked
        user = d.question(d.choice(words.listed(asked)))
        turn = Turn(
            user=user, thought="The user did not tell me.", answer="You did not tell me yet.", skill="never told"
        )
        return reply_to(d, turn, before)
    last = told[-1]
    if ending == "asked" and len(told) == 1 and d.chance(0.2):  # all in one message
        user = f"{d.statement(last.told).rstrip('.!')}. {d.question(d.choice(words.listed(last.asked)))}"
        return reply_to(d, Turn(user=user, thought=last.thought, answer=last.answer, skill="recall"))
    earlier = told[:-1] if ending == "told" else told
    before = []
    for telling in earlier:
        before += exchange(d, d.statement(telling.told), telling.reply)
        if d.chance(0.35):
            before += past_turn(d)
    if ending == "told":
        turn = Turn(user=d.statement(last.told), thought=last.thought, answer=last.reply, skill="being told")
    else:
        telling = d.choice(told)
        user = d.question(d.choice(words.listed(telling.asked)))
        skill = "recall of a name" if telling.about == "name" else "recall"
        turn = Turn(user=user, thought=telling.thought, answer=telling.answer, skill=skill)
    return reply_to(d, turn, before)


def tool_call(d: Draw) -> Conversation:
    task = tool_task(d)
    skill = "call of an unseen tool" if task.family == "unseen" else "tool call"
    turn = Turn(user=task.request.user, thought=task.thought, answer="", skill=skill)
    before = past_turn(d) if d.chance(0.12) else None
    return reply_to(d, turn, before, tools=task.tools, call=(task.function, task.request.arguments))


def tool_answer(d: Draw) -> Conversation:
    """The tool has answered: the mode follows the user's switch, for there is no new user message."""
    task = tool_task(d)
    mode = d.weighted(MODES)
    function = {"name": task.function, "arguments": task.request.arguments}
    called: Message = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
    if mode == "think":
        called["reasoning_content"] = task.thought
    user = task.request.user + (NO_THINK if mode == "no_think" else "")
    return Conversation(
        messages=[{"role": "user", "content": user}, called, {"role": "tool", "content": task.request.result}],
        tools=task.tools,
        mode=mode,
        thought="I have the result.",
        answer=task.request.answer,
        skill="answer from a tool's result",
    )


def tool_unused(d: Draw) -> Conversation:
    if d.chance(0.35):
        turn = Turn(
            user=request_without_tool(d), thought="I have no tool for this.", answer=words.NO_TOOL, skill="tool missing"
        )
        return reply_to(d, turn)
    turn = replace(short_turn(d), skill="question beside tools")
    return reply_to(d, turn, tools=tool_task(d).tools)


def named_by_system(d: Draw) -> Conversation:
    name = d.name()
    system = {"role": "system", "content": d.choice(words.NAMED).format(name)}
    turn = identity(d) if d.chance(0.75) else short_turn(d)
    if turn.answer == words.IDENTITY:
        turn = replace(turn, answer=f"I am {name}, your assistant.", skill="name by system prompt")
    return reply_to(d, turn, [system])


def capitals_by_system(d: Draw) -> Conversation:
    before: list[Message] = [{"role": "system", "content": d.choice(words.IN_CAPITALS)}]
    if d.chance(0.15):
        earlier = d.weighted(FACTS)(d)
        before += exchange(d, earlier.user, earlier.answer.upper())
    turn = d.weighted(FACTS)(d) if d.chance(0.6) else d.choice([greeting, identity, unknown])(d)
    return reply_to(d, replace(turn, answer=turn.answer.upper(), skill="capital letters by system prompt"), before)


KINDS: dict[Callable[[Draw], Conversation], float] = {
    single: 44,
    several: 5,
    memory: 20,
    tool_call: 13,
    tool_answer: 6,
    tool_unused: 3,
    named_by_system: 4,
    capitals_by_system: 5,
}


def conversation(d: Draw) -> Conversation:
    made = d.weighted(KINDS)(d)
    if made.messages[0]["role"] != "system" and d.chance(0.12):
        plain: Message = {"role": "system", "content": d.choice(words.PLAIN_SYSTEM)}
        return replace(made, messages=[plain, *made.messages])
    return made
