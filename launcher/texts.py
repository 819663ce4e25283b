"""Text that comes from outside: files, standard input, the prompt of the command line. Launcher only."""

from pathlib import Path

from launcher.console import Console
from launcher.options import LaunchOptions
from runtime.errors import UsageError

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}


def system_prompt(options: LaunchOptions) -> str | None:
    """The system prompt of `-sys` or `-sysf`. Raises UsageError if the file can't be read."""
    return options.system if options.system_file is None else read_text(options.system_file)


def read_text(path: Path) -> str:
    """A text file's content. Raises UsageError if it can't be read or is no UTF-8."""
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def read_stdin(options: LaunchOptions, console: Console) -> str | None:
    """Standard input's text; None where a person would have to type it without having been asked."""
    if console.reads_terminal and options.prompt != "-":
        return None
    stdin = console.stdin
    return decode(stdin.buffer.read(), "standard input") if hasattr(stdin, "buffer") else stdin.read()


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
