"""Face 1: the chat in a terminal, with prompt_toolkit. Imported by `launcher.__main__` only.

The engine loads on its thread while prompt_toolkit is imported here.
"""

import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.console import Console, keys_unseen
from launcher.machine import kernels, usable_cores
from launcher.options import LaunchOptions
from launcher.session import Place, Session, find_weights
from launcher.settings import model_facts, model_name, quantization
from launcher.texts import system_prompt
from runtime.bundle import Manifest
from runtime.errors import CacheError, QwenfileError
from runtime.paths import state_dir

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from launcher.chat import Chat

QUOTES = '"""'
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_LEAVE_HINT = "Ctrl-D or /exit leaves"


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Talk until the person leaves. Returns the exit code."""
    place = find_weights(options, place)
    options = replace(options, system=system_prompt(options), system_file=None)
    with Session.start(options, place) as session:
        prompt = _prompt_session(_history(options, place, console))
        from launcher.chat import Chat

        client = session.ready()
        size = client.context_size()
        if options.logo:
            console.say(banner(options, place.bundle.manifest, session, size))
        for notice in session.notices:
            console.say(notice)
        chat = Chat(client, TerminalUI(console), options, place.bundle.manifest, size)
        _talk(chat, prompt, session, console)
    return 0


def _talk(chat: "Chat", prompt: "PromptSession[str]", session: Session, console: Console) -> None:
    """Read and answer until Ctrl-D or /exit. Raises what ended the engine."""
    while True:
        try:
            text = prompt.prompt(">>> ")
        except KeyboardInterrupt:
            console.say(_LEAVE_HINT)
            continue
        except EOFError:
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)  # prompt_toolkit had its own
        try:
            with keys_unseen():
                if not chat.handle(unquote(text)):
                    return
        except KeyboardInterrupt:
            console.say("")
        except QwenfileError as error:
            session.check()
            console.complain(str(error))


class TerminalUI:
    """What the conversation says, on a terminal: thinking dim, the answer as it streams."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._dim = False
        self._fresh = True

    def thinking(self, text: str) -> None:
        if not self._dim:
            text = text.lstrip("\n")
            self._style(_DIM)
            self._dim = True
        self._write(text)

    def answer(self, text: str) -> None:
        self._end_thinking()
        self._write(text)

    def turn_over(self, *, interrupted: bool) -> None:
        self._end_thinking()
        if interrupted:
            self._style(_DIM)
            self._write(" [interrupted]")
            self._style(_PLAIN)
        self._end_line()
        self._write("\n")

    def show(self, text: str) -> None:
        self._write(text.rstrip("\n") + "\n")

    def notice(self, text: str) -> None:
        self._end_line()
        self._console.say(text)

    def _end_thinking(self) -> None:
        if self._dim:
            self._style(_PLAIN)
            self._dim = False
            self._end_line()
            self._write("\n")

    def _end_line(self) -> None:
        if not self._fresh:
            self._write("\n")

    def _style(self, code: str) -> None:
        if self._console.colour:
            self._console.stdout.write(code)

    def _write(self, text: str) -> None:
        if text:
            self._fresh = text.endswith("\n")
            self._console.answer(text)


def banner(options: LaunchOptions, manifest: Manifest, session: Session, context_size: int) -> str:
    """Which model, how large, computed by what, with how much context; and how to get help."""
    facts = model_facts(options, manifest)
    parts = [model_name(options, manifest)]
    if count := facts.get("parameters"):
        parts.append(_count(int(count)))
    if kind := quantization(options, manifest):
        parts.append(kind)
    gpus = [device.description.strip() or device.name for device in session.devices if device.kind != "cpu"]
    threads = options.threads or usable_cores()
    cpu = " ".join(filter(None, ("CPU", kernels()))) + (f", {threads} thread{'s' * (threads > 1)}" if threads else "")
    computing = " + ".join(gpus) or cpu
    return f"{', '.join(parts)}; context {context_size:,} tokens; {computing}\n/help for help, {_LEAVE_HINT}"


def _count(parameters: int) -> str:
    """A number of parameters as people say it: 1.39M, 596M, 8.19B."""
    for limit, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1000, "K")):
        if parameters >= limit:
            return f"{parameters / limit:.3g}{unit}"
    return str(parameters)


def is_open(text: str) -> bool:
    '''Whether a text that began with """ still waits for the line that ends with """.'''
    start = text.lstrip()
    return start.startswith(QUOTES) and not (len(start.rstrip()) >= 2 * len(QUOTES) and start.rstrip().endswith(QUOTES))


def unquote(text: str) -> str:
    '''Strip the """ around a text of several lines; inner quotes and new lines stay.'''
    bare = text.strip()
    if bare.startswith(QUOTES) and not is_open(text):
        return bare.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")
    return text


def _history(options: LaunchOptions, place: Place, console: Console) -> "History":
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if not options.history:
        return InMemoryHistory()
    try:
        file = state_dir(place.env) / "history"
        file.touch(mode=0o600)
    except (CacheError, OSError) as error:
        console.complain(f"the history of your input will not be kept: {error}")
        return InMemoryHistory()
    return FileHistory(_tolerant(file))


def _tolerant(file: Path) -> str:
    """The history file's name, after mending bytes that are no UTF-8, which would break every later start."""
    data = file.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError:
        file.write_bytes(data.decode(errors="replace").encode())
    return str(file)


def _prompt_session(history: "History") -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    from launcher.commands import COMMANDS, NAMES

    class CommandCompleter(Completer):
        """Names of commands, then the words that a command takes."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            name, space, word = document.text_before_cursor.partition(" ")
            if not name.startswith("/") or "\n" in document.text:
                return
            if space:
                choices = NAMES[name].choices if name in NAMES else ()
                yield from (Completion(choice, -len(word)) for choice in choices if choice.startswith(word))
            else:
                for command in COMMANDS:
                    if command.name.startswith(name):
                        yield Completion(command.name, -len(name), display_meta=command.help)

    return PromptSession(
        history=history,
        auto_suggest=AutoSuggestFromHistory(),
        completer=CommandCompleter(),
        complete_while_typing=False,
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation=lambda _width, _line, wrapped: "    " if wrapped else "... ",
        enable_open_in_editor=True,
    )


def _keys() -> "KeyBindings":
    """Enter sends unless triple quotes are open; Alt-Enter and Ctrl-J begin a new line; Ctrl-C clears a line first."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _enter(event: "KeyPressEvent") -> None:
        buffer: Any = event.current_buffer
        if is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def _new_line(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def _interrupt(event: "KeyPressEvent") -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys
