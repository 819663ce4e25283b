"""The slash commands of the chat: one table that feeds dispatch, help, completion and the README. Imported by the
launcher only. What they do is in `launcher.talk_commands` and `launcher.tell_commands`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import talk_commands as talk
from launcher import tell_commands as tell
from runtime.errors import UsageError

if TYPE_CHECKING:
    from launcher.chat import Chat

GO_ON, LEAVE = True, False
# Where the explanations of /help begin.
_COLUMN = 24

_KEYS = (
    ('"""', "several lines, until one ends with the next"),
    ("Alt-Enter, Ctrl-J", "a new line"),
    ("Ctrl-G", "write in your $EDITOR"),
    ("Ctrl-R", "search in what you wrote before"),
    ("Tab", "complete a command, its words, a file's name"),
    ("Ctrl-C", "stop the answer; clear the line"),
    ("Ctrl-D", "leave"),
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One row. `hint` shows the arguments; without one there are none, in brackets there may be none. `choices` are all
    words that it takes, or `complete` says what they are: commands, values, files, sessions.

    `run(chat, argument)` raises UsageError for arguments it can't take, and whatever it does may raise."""

    name: str
    help: str
    run: Callable[["Chat", str], None]
    aliases: tuple[str, ...] = ()
    hint: str = ""
    choices: tuple[str, ...] = ()
    complete: str = ""

    @property
    def usage(self) -> str:
        return f"{self.name} {self.hint}".rstrip()

    def __call__(self, chat: "Chat", argument: str) -> bool:
        """Do it, and say whether the chat goes on."""
        if argument and not self.hint:
            raise UsageError(f"{self.name} takes no argument")
        if not argument and self.hint and not self.hint.startswith("["):
            raise UsageError(f"{self.name} needs more", self.usage)
        self.run(chat, argument)
        return LEAVE if self.name == "/exit" else GO_ON


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
        return None if argument else lambda chat: NAMES["/think"](chat, "off")
    command = NAMES.get(word.lower())
    if command is None:
        import difflib

        near = difflib.get_close_matches(word.lower(), NAMES, n=3, cutoff=0.5)
        remedy = f"did you mean {' or '.join(near)}?" if near else "/help lists them"
        raise UsageError(f"there is no command {word}", remedy)
    if command.name == "/think" and argument and argument not in command.choices:
        return None  # Qwen3's switch, then text
    return lambda chat: command(chat, argument)


def _help(chat: "Chat", argument: str) -> None:
    if argument:
        command = NAMES.get("/" + argument.lstrip("/").lower())
        if command is None:
            raise UsageError(f"there is no command {argument}", "/help lists them")
        names = "".join(f"\n  also {alias}" for alias in command.aliases)
        chat.ui.show(f"{command.usage}\n  {command.help}{names}")
        return
    rows = [(command.usage, command.help) for command in COMMANDS] + list(_KEYS)
    lines = []
    for usage, text in rows:
        gap = " " * (_COLUMN - len(usage) - 2) if len(usage) < _COLUMN - 3 else "\n" + " " * _COLUMN
        lines.append(f"  {usage}{gap}{text}")
    chat.ui.show("\n".join(lines))


COMMANDS: tuple[Command, ...] = (
    Command(name="/help", aliases=("/?",), hint="[COMMAND]", complete="commands", help="what can be done here",
            run=_help),
    Command(name="/stats", help="tokens, their rate, first token, reuse of the cache",
            run=tell.stats),
    Command(name="/context", help="how much of the context is used, and by what", run=tell.context),
    Command(name="/clear", help="start the conversation anew", run=talk.clear),
    Command(name="/undo", help="take the last exchange back", run=talk.undo),
    Command(name="/retry", help="answer again, with a new seed; send what was not", run=talk.retry),
    Command(name="/forget", help="drop the oldest exchange", run=talk.forget),
    Command(name="/edit", hint="[TEXT]", help="write the next turn in your $EDITOR", run=talk.edit),
    Command(name="/system", hint="[TEXT]", help="set or show the system prompt", run=talk.system),
    Command(name="/think", hint="[on|off|auto|show|fold|hide]", choices=talk.THINK_WORDS,
            help="think before answering; how thinking is shown", run=talk.think),
    Command(name="/set", hint="NAME VALUE", complete="values", help="change a sampling value; 'default' takes it back",
            run=talk.set_value),
    Command(name="/show", help="all sampling values and where each came from", run=tell.show),
    Command(name="/file", aliases=("/upload",), hint="PATH...", complete="files",
            help="put text files into the conversation", run=talk.add_files),
    Command(name="/save", hint="[NAME]", help="name this conversation; it is saved as it grows", run=tell.save),
    Command(name="/load", hint="NAME", complete="sessions", help="go on with another conversation", run=tell.load),
    Command(name="/sessions", help="the conversations that are saved", run=tell.sessions),
    Command(name="/export", hint="FILE.md|.json", complete="files", help="write the conversation into a file",
            run=tell.export),
    Command(name="/copy", help="put the last answer into the clipboard", run=tell.copy),
    Command(name="/push", help="remember this position in the conversation", run=talk.push),
    Command(name="/pop", help="go back to the position remembered last", run=talk.pop),
    Command(name="/stack", help="the positions remembered", run=talk.stack),
    Command(name="/dump", help="the exact prompt text, with special tokens", run=tell.dump),
    Command(name="/serve", hint="[PORT]", help="the web page and the API, on the same weights",
            run=tell.serve),
    Command(name="/exit", aliases=("/bye", "/quit"), help="leave; so does Ctrl-D", run=lambda _chat, _argument: None),
)  # fmt: skip

NAMES: dict[str, Command] = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
