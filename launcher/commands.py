"""The slash commands of the chat: one table that feeds dispatch, help and completion. Imported by the launcher only."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import UsageError

if TYPE_CHECKING:
    from launcher.chat import Chat
    from launcher.client import Timings

Handler = Callable[["Chat", str], bool]

GO_ON, LEAVE = True, False


@dataclass(frozen=True, kw_only=True)
class Command:
    """One row. `hint` shows the arguments, `choices` are all that there are if the command takes words of a few;
    `run(chat, argument)` returns whether the chat goes on, and raises UsageError for arguments it can't take."""

    name: str
    help: str
    run: Handler
    aliases: tuple[str, ...] = ()
    hint: str = ""
    choices: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        return f"{self.name} {self.hint}".rstrip()


def find(text: str) -> Callable[["Chat"], bool] | None:
    """What an input means: a command with its argument, or None for text to the model.

    Raises UsageError for a `/word` that is no command, naming those that are near.

    Text that starts with a slash is for the model if its first word is no command name: a path (`/etc/hosts is …`)
    or one of Qwen3's switches before other text (`/no_think what is …`).
    """
    if not text.startswith("/"):
        return None
    word, _, argument = text.partition(" ")
    argument = argument.strip()
    if "\n" in word or not re.fullmatch(r"/[A-Za-z][\w-]*|/\?", word):
        return None
    if word == "/no_think":
        return None if argument else lambda chat: _think(chat, "off")
    command = NAMES.get(word.lower())
    if command is None:
        import difflib

        near = difflib.get_close_matches(word.lower(), NAMES, n=3, cutoff=0.5)
        remedy = f"did you mean {' or '.join(near)}?" if near else "/help lists them"
        raise UsageError(f"there is no command {word}", remedy)
    if command.name == "/think" and argument and argument not in command.choices:
        return None  # Qwen3's switch, then text
    return lambda chat: command.run(chat, argument)


def _help(chat: "Chat", argument: str) -> bool:
    if argument:
        command = NAMES.get("/" + argument.lstrip("/").lower())
        if command is None:
            raise UsageError(f"there is no command {argument}", "/help lists them")
        names = "".join(f"\n  also {alias}" for alias in command.aliases)
        chat.ui.show(f"{command.usage}\n  {command.help}{names}")
        return GO_ON
    width = max(len(command.usage) for command in COMMANDS) + 3
    lines = [f"  {command.usage:<{width}}{command.help}" for command in COMMANDS]
    keys = ['  """                 text of several lines, until the next """', "  Ctrl-C              stop the answer"]
    chat.ui.show("\n".join([*lines, *keys]))
    return GO_ON


def _stats(chat: "Chat", argument: str) -> bool:
    _no_argument("/stats", argument)
    last = chat.statistics.last
    if last is None:
        chat.ui.show("no turn so far")
        return GO_ON
    lines = ["last turn", *_costs(last.timings)]
    if chat.statistics.turns > 1:
        lines += [f"session, {chat.statistics.turns} turns", *_costs(chat.statistics.session)]
    chat.ui.show("\n".join(lines))
    return GO_ON


def _costs(timings: "Timings") -> list[str]:
    """Rows for prompt and generation, with rates; for a draft model, how often it was right."""
    rows = [
        f"  prompt      {timings.prompt:>7,} tokens {_rate(timings.prompt, timings.prompt_ms)}, "
        f"{timings.cached:,} more from the cache",
        f"  generation  {timings.generated:>7,} tokens {_rate(timings.generated, timings.generated_ms)}",
    ]
    if timings.guessed:
        share = 100 * timings.accepted / timings.guessed
        rows.append(f"  draft       {timings.accepted:>7,} of {timings.guessed:,} guesses were right ({share:.0f} %)")
    return rows


def _rate(tokens: int, milliseconds: float) -> str:
    rate = f"{tokens * 1000 / milliseconds:,.1f}" if milliseconds > 0 else "-"
    return f"in {milliseconds / 1000:.2f} s, {rate} tokens/s"


def _context(chat: "Chat", argument: str) -> bool:
    _no_argument("/context", argument)
    used, size = chat.used(), chat.context_size
    turns = sum(turn.role == "user" for turn in chat.turns)
    filled = min(40, round(40 * used / size)) if size else 0
    chat.ui.show(
        f"[{'#' * filled}{'.' * (40 - filled)}]\n"
        f"  used  {used:>7,} of {size:,} tokens ({turns} turn{'s' * (turns != 1)})\n"
        f"  free  {max(0, size - used):>7,}"
    )
    return GO_ON


def _clear(chat: "Chat", argument: str) -> bool:
    _no_argument("/clear", argument)
    chat.clear()
    chat.ui.show("conversation cleared" + (", system prompt kept" if chat.system else ""))
    return GO_ON


def _system(chat: "Chat", argument: str) -> bool:
    if argument:
        chat.system = argument
        chat.ui.show("system prompt set" + (" for the turns to come" if chat.turns else ""))
    else:
        chat.ui.show(chat.system or "no system prompt")
    return GO_ON


def _think(chat: "Chat", argument: str) -> bool:
    if argument:
        chat.thinking = argument == "on"
    chat.ui.show("thinking is " + ("on" if chat.thinking else "off"))
    return GO_ON


def _exit(chat: "Chat", argument: str) -> bool:
    _no_argument("/exit", argument)
    return LEAVE


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise UsageError(f"{name} takes no argument")


COMMANDS: tuple[Command, ...] = (
    Command(name="/help", aliases=("/?",), hint="[COMMAND]", help="what can be done here", run=_help),
    Command(name="/stats", help="tokens and tokens per second, last turn and session", run=_stats),
    Command(name="/context", help="how much of the context is used", run=_context),
    Command(name="/clear", help="start the conversation anew", run=_clear),
    Command(name="/system", hint="[TEXT]", help="set or show the system prompt", run=_system),
    Command(name="/think", hint="[on|off]", choices=("on", "off"), help="think before answering", run=_think),
    Command(name="/exit", aliases=("/bye", "/quit"), help="leave; so does Ctrl-D", run=_exit),
)

NAMES: dict[str, Command] = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
