"""The slash commands that change the conversation or what the model is told. Imported by `launcher.commands` only."""

from typing import TYPE_CHECKING

from launcher.conversation import Turn, is_words
from runtime.errors import UsageError

if TYPE_CHECKING:
    from launcher.chat import Chat

MODES, VIEWS = ("on", "off", "auto"), ("show", "fold", "hide")
THINK_WORDS = MODES + VIEWS
# The sampling values of the engine's API that can be set, with their ranges; seed and top_k are whole numbers.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, 2**31 - 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repeat_penalty": (0, 10),
    "seed": (-1, 2**32 - 1),
}
_WHOLE = ("top_k", "seed")
_TITLE = 60


def clear(chat: "Chat", _argument: str) -> None:
    chat.begin_anew()
    chat.ui.show("conversation cleared" + (", system prompt kept" if chat.system else ""))


def undo(chat: "Chat", _argument: str) -> None:
    if chat.pending:
        chat.ui.show(f"will not be sent: {title(chat.pending)}")
        chat.pending = None
        return
    start = chat.conversation.last_exchange()
    if start < 0:
        raise UsageError("there is nothing to take back")
    gone = chat.conversation.cut(start, len(chat.turns))
    chat.ui.show(f"taken back: {title(gone[0])}")


def retry(chat: "Chat", _argument: str) -> None:
    if chat.pending:
        chat.say(chat.pending.content)
        return
    start = chat.conversation.last_exchange()
    if start < 0:
        raise UsageError("there is nothing to answer again")
    chat.conversation.cut(start + 1, len(chat.turns))
    chat.pending = chat.turns[start]
    import random

    if "seed" not in chat.settings.chosen and chat.request().get("temperature") == 0:
        chat.ui.notice("at temperature 0 a new seed changes nothing: /set temperature 0.7")
    chat.answer(seed=random.SystemRandom().randrange(2**32 - 1))


def forget(chat: "Chat", _argument: str) -> None:
    gone = chat.conversation.cut(*chat.conversation.oldest_exchange())
    if not gone:
        raise UsageError("there is nothing to forget")
    used = chat.used()
    chat.ui.show(f"forgotten: {title(gone[0])}\n{used:,} of {chat.context_size:,} tokens used")
    chat.prepare()


def edit(chat: "Chat", argument: str) -> None:
    text = chat.ui.edit(argument)
    if text is None or not text.strip():
        chat.ui.show("nothing written, nothing sent")
        return
    chat.ui.exact(text.rstrip("\n"))
    chat.say(text.rstrip("\n"))


def system(chat: "Chat", argument: str) -> None:
    if argument:
        chat.conversation.set_system(argument)
        chat.ui.show("system prompt set" + (" for the turns to come" if chat.turns else ""))
        chat.prepare()
    else:
        chat.ui.exact(chat.system or "no system prompt")


def think(chat: "Chat", argument: str) -> None:
    if argument in VIEWS:
        chat.ui.thinking_view(argument)
        shown = {"show": "shown", "fold": "folded to one line", "hide": "hidden"}
        chat.ui.show(f"thinking is {shown[argument]}")
        return
    if argument:
        chat.settings.mode = argument
    told = {"on": "on", "off": "off", "auto": "on unless the text says /no_think"}
    chat.ui.show(f"thinking is {told[chat.settings.mode]}")


def set_value(chat: "Chat", argument: str) -> None:
    name, _, text = argument.replace("=", " ").partition(" ")
    name = {"temp": "temperature"}.get(name, name).replace("-", "_")
    text = text.strip()
    if name not in RANGES:
        raise UsageError(f"there is no sampling value {name}", f"there are {', '.join(RANGES)}")
    if text in ("", "default"):
        chat.settings.chosen.pop(name, None)
        chat.ui.show(f"{name} is {_shown(chat.settings.request(chat.next_turn()).get(name))}")
        return
    least, most = RANGES[name]
    try:
        value: float | int = int(text) if name in _WHOLE else float(text)
    except ValueError:
        kind = "a whole number" if name in _WHOLE else "a number"
        raise UsageError(f"{name} needs {kind}, not {text!r}") from None
    if not least <= value <= most:
        raise UsageError(f"{name} {text} is out of range", f"use {least:g} to {most:g}")
    chat.settings.chosen[name] = value
    chat.ui.show(f"{name} is {_shown(value)}")


def _shown(value: float | int | None) -> str:
    return "the engine's default" if value is None else f"{value:.10g}"


def add_files(chat: "Chat", argument: str) -> None:
    from launcher.files import add, names

    for path in names(argument):
        add(chat, path)
    chat.prepare()


def push(chat: "Chat", _argument: str) -> None:
    chat.conversation.marks.append(len(chat.turns))
    chat.ui.show(f"position {len(chat.conversation.marks)}: {_place(chat, len(chat.turns))}")


def pop(chat: "Chat", _argument: str) -> None:
    if not chat.conversation.marks:
        raise UsageError("no position is remembered", "/push remembers one")
    mark = chat.conversation.marks.pop()
    chat.conversation.cut(mark, len(chat.turns))
    chat.ui.show(f"back {_place(chat, mark)}")
    chat.prepare()


def stack(chat: "Chat", _argument: str) -> None:
    rows = [f"  {number}  {_place(chat, mark)}" for number, mark in enumerate(chat.conversation.marks, 1)]
    chat.ui.show("\n".join(rows) or "no position is remembered (/push)")


def _place(chat: "Chat", mark: int) -> str:
    words = [turn for turn in chat.turns[:mark] if is_words(turn)]
    return f"after {len(words)} turn{'s' * (len(words) != 1)}, {title(words[-1])}" if words else "at the beginning"


def title(turn: Turn) -> str:
    """The first words of a turn."""
    words = turn.file or " ".join(turn.content[: 2 * _TITLE].split())
    return words if len(words) <= _TITLE else words[: _TITLE - 1] + "…"
