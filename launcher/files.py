"""Text files that are put into a conversation. Imported by the launcher only."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.conversation import USER, Turn
from launcher.texts import read_text
from runtime.errors import ContextError, UsageError

if TYPE_CHECKING:
    from launcher.chat import Chat

# A larger file has more tokens than any context of Qwen3 (131,072) holds, unless it is all white space.
_LARGEST = 64 * 2**20
# The part of the context that is left for the talk about a file that is cut.
_FOR_TALK = 4


def names(argument: str, *, escapes: bool = os.name != "nt") -> list[Path]:
    """The files that a command's argument names: one with spaces in it, or several, quoted as in a shell. `escapes`:
    whether a backslash takes its meaning from the next sign, and is not a part of Windows' names."""
    whole = Path(argument).expanduser()
    if whole.is_file():
        return [whole]
    lexer = shlex.shlex(argument, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if not escapes:
        lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError:
        words = [argument]
    return [Path(word).expanduser() for word in words]


def add(chat: "Chat", path: Path, *, truncate: bool = False) -> None:
    """Put a text file into the conversation, and say how many tokens it takes and how many are left.

    Raises UsageError if it cannot be read or is no text, ContextError with the numbers if it doesn't fit; with
    `truncate` its beginning is taken then, and the person told.
    """
    text = _text(path)
    tokens = chat.model.tokens(text)
    used = chat.used()
    room = chat.context_size - used
    chat.ui.notice(f"{path.name}: {tokens:,} tokens")
    if tokens + _FOR_TALK * 16 > room:
        if not truncate:
            raise _too_long(chat, path, tokens, used)
        tokens = max(0, room - chat.context_size // _FOR_TALK)
        text = chat.model.beginning(text, tokens)
        chat.ui.notice(f"{path.name}: cut after its first {tokens:,} tokens (--truncate)")
    chat.conversation.add(Turn(role=USER, content=text, file=path.name))
    chat.ui.notice(f"{chat.context_size - chat.used():,} of {chat.context_size:,} tokens are left")


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file")
    if path.is_file() and path.stat().st_size > _LARGEST:
        raise UsageError(f"{path} is larger than {_LARGEST:,} bytes", "no context holds it")
    text = read_text(path)
    if "\0" in text:
        raise UsageError(f"{path} is no text: it holds NUL bytes")
    if not text.strip():
        raise UsageError(f"{path} is empty")
    return text


def _too_long(chat: "Chat", path: Path, tokens: int, used: int) -> ContextError:
    wanted = -(-(tokens + used + chat.context_size // _FOR_TALK) // 1024) * 1024
    holds = f"the context holds {chat.context_size:,}" + (f", {used:,} of them used" if used else "")
    choice = f"start with -c {wanted} or more, or with -f and --truncate for its beginning"
    return ContextError(f"{path} has {tokens:,} tokens, {holds}", choice)
