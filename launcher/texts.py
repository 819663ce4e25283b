"""Text that comes from outside: files, standard input, the prompt of the command line. Launcher only."""

import codecs
import io
from collections.abc import Callable, Sequence
from errno import EISDIR
from pathlib import Path
from typing import BinaryIO

from launcher.console import Console
from launcher.options import LaunchOptions
from runtime.errors import UsageError

_PIECE = 65_536
# Bytes of input up to which the engine itself says that it is too much; a prompt of this size fits its largest context.
_CHECK = 262_144

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}


def system_prompt(options: LaunchOptions) -> str | None:
    """The system prompt of `-sys` or `-sysf`. Raises UsageError if the file can't be read."""
    return options.system if options.system_file is None else read_text(options.system_file)


def read_text(path: Path) -> str:
    """A text file's content. Raises UsageError if it can't be read or is no UTF-8."""
    check_files([path])
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise _unreadable(path, error) from None


def read_prompt(options: LaunchOptions, console: Console, fits: Callable[[str], None]) -> str:
    """The prompt of the command line, of files and of standard input.

    What comes from outside is read as it comes, and `fits` is asked again and again whether it isn't too much: it
    raises then. Standard input is left alone where a person would have to type it without having been asked.
    """
    files = []
    for path in options.files:
        try:
            with path.open("rb") as file:
                files.append(read_stream(file, str(path), fits))
        except OSError as error:
            raise _unreadable(path, error) from None
    stdin = None
    if not console.reads_terminal or options.prompt == "-":
        stdin = read_stream(input_bytes(console), "standard input", fits)
    return gather_prompt(options, files, stdin)


def check_files(files: Sequence[Path]) -> None:
    """Raise UsageError for the first file that cannot be opened, before anything slow begins."""
    for path in files:
        try:
            if path.is_dir():  # to Windows it is one that this user may not read
                raise IsADirectoryError(EISDIR, "Is a directory")
            if not path.is_fifo():  # opening one would be heard on its other side
                path.open("rb").close()
        except OSError as error:
            raise _unreadable(path, error) from None


def input_bytes(console: Console) -> BinaryIO:
    """Standard input as bytes."""
    stdin = console.stdin
    return stdin.buffer if hasattr(stdin, "buffer") else io.BytesIO(stdin.read().encode())


def read_stream(stream: BinaryIO, name: str, fits: Callable[[str], None]) -> str:
    """Read all of a stream, asking `fits` about what is there at _CHECK bytes and each time that has doubled."""
    data, checked = bytearray(), _CHECK
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    read = getattr(stream, "read1", stream.read)
    while piece := read(_PIECE):
        data += piece
        try:
            decoder.decode(piece)
        except UnicodeDecodeError:
            decode(bytes(data), name)
        if len(data) >= checked:
            checked = 2 * len(data)
            fits(data.decode("utf-8-sig", errors="ignore"))
    return decode(bytes(data), name)


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}")


def decode(data: bytes, name: str) -> str:
    """Bytes as text. Raises UsageError naming the first byte that is no UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"byte 0x{data[error.start]:02x} at offset {error.start:,}"
        raise UsageError(f"{name} is not UTF-8 text: {place}", "convert it first, with iconv for example") from None


def gather_prompt(options: LaunchOptions, files: list[str], stdin: str | None) -> str:
    """Files and standard input are context and come before the prompt; without a prompt they are the prompt.

    A plain completion joins them as they are, a chat turn by empty lines. Raises UsageError if nothing is there.
    """
    given = [] if options.prompt in (None, "-") else [options.prompt or ""]
    if options.escapes:
        given = [unescape(text) for text in given]
    parts = [*files, *([stdin] if stdin else []), *given]
    prompt = "".join(parts) if options.raw else "\n\n".join(part.strip("\n") for part in parts if part.strip())
    if not prompt.strip():
        raise UsageError("the prompt is empty", "give one after -p, in a file after -f, or on standard input")
    return prompt


def unescape(text: str) -> str:
    r"""Turn \n, \t, \r, \", \' and \\ into what they stand for; other backslashes stay."""
    parts = iter(text.split("\\"))
    out = [next(parts)]
    for part in parts:
        if part:
            out.append(_ESCAPES[part[0]] + part[1:] if part[0] in _ESCAPES else "\\" + part)
        else:  # two backslashes in a row, or one at the end
            out.append("\\" + next(parts, ""))
    return "".join(out)
