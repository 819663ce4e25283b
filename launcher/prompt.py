"""The line that the person types into: history, completion, hints, paste, an editor. With prompt_toolkit. Imported by
`launcher.repl` only."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, get_app_session
from prompt_toolkit.auto_suggest import AutoSuggest, AutoSuggestFromHistory, Suggestion
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import is_searching
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.bindings.named_commands import get_by_name
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.utils import is_dumb_terminal

from launcher.commands import COMMANDS, NAMES
from launcher.pastes import Pastes, is_open
from launcher.signals import ENDING, Terminated
from launcher.talk_commands import RANGES

# So many letters in one go come from no finger.
_BURST = 64
_LARGEST_HISTORY_ENTRY = 20_000

Prompt = PromptSession[str]
Sessions = Callable[[], list[str]]


class SafeHistory(FileHistory):
    """A history on disk that takes any text, and says once when it cannot be written."""

    def __init__(self, file: Path, failed: Callable[[str], None]) -> None:
        super().__init__(str(file))
        self._failed: Callable[[str], None] | None = failed

    def store_string(self, string: str) -> None:
        if self._failed is None or len(string) > _LARGEST_HISTORY_ENTRY:
            return
        try:
            super().store_string(string.encode(errors="replace").decode())
        except OSError as error:
            self._failed((error.strerror or str(error)).lower())
            self._failed = None


def history(file: Path | None, failed: Callable[[str], None]) -> History:
    """What was typed before; nothing on disk without a file."""
    if file is None:
        return InMemoryHistory()
    try:
        file.touch(mode=0o600)
        data = file.read_bytes()
        text = data.decode(errors="replace")
        if text.encode() != data:  # it would break every later start
            file.write_bytes(text.encode())
    except OSError as error:
        failed((error.strerror or str(error)).lower())
        return InMemoryHistory()
    return SafeHistory(file, failed)


class CommandCompleter(Completer):
    """Names of commands, then what a command takes."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        name, space, rest = document.text_before_cursor.partition(" ")
        if not name.startswith("/") or "\n" in document.text:
            return
        if not space:
            for command in COMMANDS:
                for each in (command.name, *command.aliases):
                    if each.startswith(name.lower()):
                        yield Completion(each, -len(name), display_meta=command.help)
                        break
        elif known := NAMES.get(name.lower()):
            if known.complete == "files":
                yield from file_completions(rest, many=known.name == "/file")
            else:
                words = self._words(known.complete) or known.choices
                yield from (Completion(word, -len(rest)) for word in words if word.startswith(rest))

    def _words(self, kind: str) -> list[str]:
        match kind:
            case "commands":
                return [command.name.removeprefix("/") for command in COMMANDS]
            case "values":
                return [f"{name} " for name in RANGES]
            case "sessions":
                return self._sessions()
        return []


def file_completions(text: str, *, many: bool) -> Iterator[Completion]:
    """Names of files for the last word of `text`, or for all of it. Among many, one with spaces is quoted."""
    start, quote = _last_word(text) if many else (0, "")
    typed = text[start + len(quote) :]
    plain = typed if quote or not many else typed.replace("\\ ", " ")
    folder, slash, beginning = plain.rpartition("/")
    where = Path((folder or "/") if slash else ".").expanduser()
    with contextlib.suppress(OSError, RuntimeError):
        with os.scandir(where) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
        for name, is_folder in found:
            if not name.startswith(beginning) or (name.startswith(".") and not beginning):
                continue
            path = f"{folder}{slash}{name}" + ("/" if is_folder else "")
            if many and (quote or " " in path or "'" in path):
                mark = quote or '"'
                path = f"{mark}{path}" + ("" if is_folder else mark)
            yield Completion(path, start - len(text), display=name + ("/" if is_folder else ""))


def _last_word(text: str) -> tuple[int, str]:
    """Where the last word begins, and the quote that it is in."""
    start, quote = 0, ""
    for at, sign in enumerate(text):
        if quote:
            if sign == quote:
                quote = ""
        elif sign in "\"'":
            start, quote = at, sign
        elif sign == " " and (at == 0 or text[at - 1] != "\\"):
            start = at + 1
    return start, quote


class Hints(Processor):
    """A command's arguments in grey behind its name."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        document = transformation_input.document
        fragments = transformation_input.fragments
        text = document.text
        command = NAMES.get(text.removesuffix(" ").lower())
        if command and command.hint and document.is_cursor_at_the_end and not get_app().is_done:
            gap = "" if text.endswith(" ") else " "
            fragments = [*fragments, ("class:auto-suggestion", gap + command.hint)]
        return Transformation(fragments)


class Suggestions(AutoSuggest):
    """The rest of a line of the history; not where a hint stands."""

    def __init__(self) -> None:
        self._history = AutoSuggestFromHistory()

    def get_suggestion(self, buffer: Buffer, document: Document) -> Suggestion | None:
        command = NAMES.get(document.text.removesuffix(" ").lower())
        return None if command and command.hint else self._history.get_suggestion(buffer, document)


def prompt_session(past: History, pastes: Pastes, sessions: Sessions, *, colour: bool) -> Prompt:
    """The prompt. `sessions` gives the names that /load takes."""
    if is_dumb_terminal():
        get_app_session().output.show_cursor = lambda: None  # type: ignore[method-assign]  # it knows words only
    return PromptSession(
        history=past,
        auto_suggest=Suggestions(),
        completer=CommandCompleter(sessions),
        complete_while_typing=False,
        key_bindings=_keys(pastes),
        multiline=True,
        prompt_continuation=lambda _width, _line, wrapped: "    " if wrapped else "... ",
        enable_open_in_editor=True,
        input_processors=[Hints()],
        input=_with_bursts(create_input()),
        tempfile_suffix=".md",
        color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
    )


def _with_bursts(keyboard: Input) -> Input:
    """Many letters at once are a paste, whatever the terminal says: handled key by key, a line of 100,000 characters
    would take minutes."""
    read_keys = keyboard.read_keys

    def read() -> list[KeyPress]:
        keys = read_keys()
        out: list[KeyPress] = []
        for plain, run in itertools.groupby(keys, lambda key: len(key.data) == 1 and key.data.isprintable()):
            some = list(run)
            if plain and len(some) >= _BURST:
                some = [KeyPress(Keys.BracketedPaste, "".join(key.data for key in some))]
            out += some
        return out

    keyboard.read_keys = read  # type: ignore[method-assign]
    return keyboard


def ask(prompt: Prompt) -> str:
    """The next input. Raises KeyboardInterrupt for Ctrl-C on an empty line, EOFError for Ctrl-D there, Terminated, and
    whatever fails meanwhile."""
    app = prompt.app

    def end(error: BaseException) -> None:
        if app.future is not None and not app.future.done():
            app.exit(exception=error)

    def fail_outside() -> None:
        """What fails in callbacks of the event loop would else be shown there, at length, and not end anything."""

        def fail(_loop: Any, context: dict[str, Any]) -> None:
            end(context.get("exception") or RuntimeError(context["message"]))

        asyncio.get_running_loop().set_exception_handler(fail)

    def stop(number: int, _frame: FrameType | None) -> None:
        if not app.is_running or app.loop is None:
            raise Terminated(number)
        app.loop.call_soon_threadsafe(end, Terminated(number))

    before = {number: signal.signal(number, stop) for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
    try:
        return prompt.prompt(">>> ", set_exception_handler=False, pre_run=fail_outside)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keys(pastes: Pastes) -> KeyBindings:
    """Enter sends unless triple quotes are open; Alt-Enter and Ctrl-J begin a new line; Ctrl-C clears a line first."""
    keys = KeyBindings()
    keys.add("escape", "right")(get_by_name("forward-word"))  # as Ctrl-Right and Alt-F do
    typing = ~is_searching  # Ctrl-R has its own Enter and Ctrl-C

    @keys.add("enter", filter=typing)
    def _enter(event: KeyPressEvent) -> None:
        buffer: Any = event.current_buffer
        if is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=typing)
    @keys.add("c-j", filter=typing)
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-g", filter=typing)
    def _editor(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    @keys.add(Keys.BracketedPaste, filter=typing)
    def _paste(event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end:
            whole = pastes.add(buffer.text, text)
            buffer.document = Document(whole, len(whole))
        else:
            buffer.insert_text(pastes.note(text))

    @keys.add("c-c", filter=typing)
    def _interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys
