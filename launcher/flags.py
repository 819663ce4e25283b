"""The one table of our flags, `OPTIONS`: it feeds parsing, help and completion. Imported by the launcher only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.options import Action, Face, Work
from runtime.errors import UsageError

ALL = frozenset(Face)
CHAT, SERVER, CLI = frozenset({Face.CHAT}), frozenset({Face.SERVER}), frozenset({Face.CLI})


@dataclass(frozen=True, kw_only=True)
class Option:
    """One row of the table. `names`: the first is the usual one. `target`: the field of LaunchOptions that it sets
    (`sampling.NAME` an entry of `sampling`, "" nothing). `hint`: its value in the help; without one it takes no value
    and sets `value`. `read(name, text)` turns text into the field's value and may raise UsageError. `engine`: in faces
    that are not in `faces` the flag goes to the engine, which knows it too. `optional`: what its value is if the next
    word is another flag, or nothing follows."""

    names: tuple[str, ...]
    target: str
    help: str = ""
    hint: str = ""
    faces: frozenset[Face] = ALL
    read: Callable[[str, str], Any] = lambda _, text: text
    value: Any = True
    repeat: bool = False
    engine: bool = False
    optional: str = ""


def whole(least: int, most: int = 2**63, *, also: int | None = None) -> Callable[[str, str], int]:
    """A reader of whole numbers from `least` to `most`, or exactly `also`."""

    def read(name: str, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise UsageError(f"{name} needs a whole number, not {text!r}") from None
        if number != also and not least <= number <= most:
            other = f" (or {also})" if also is not None else ""
            upper = f" to {most}" if most < 2**63 else " or more"
            raise UsageError(f"{name} {number} is out of range", f"use {least}{upper}{other}")
        return number

    return read


def real(least: float, most: float) -> Callable[[str, str], float]:
    """A reader of numbers from `least` to `most`."""

    def read(name: str, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise UsageError(f"{name} needs a number, not {text!r}") from None
        if not least <= number <= most:
            raise UsageError(f"{name} {text} is out of range", f"use {least:g} to {most:g}")
        return number

    return read


def one_of(*choices: str) -> Callable[[str, str], str]:
    """A reader of one of a few words."""

    def read(name: str, text: str) -> str:
        if text not in choices:
            raise UsageError(f"{name} {text!r} is unknown", f"use {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return read


def layers(name: str, text: str) -> str:
    """A reader of a number of layers, `all` or `auto`."""
    if text not in ("all", "auto") and not text.isdecimal():
        raise UsageError(f"{name} needs a number of layers, not {text!r}", "or all, or auto")
    return text


def text(name: str, value: str) -> str:
    """A reader of text that refuses bytes which are no UTF-8 (they arrive as lone surrogates)."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the text after {name} is not UTF-8 (at character {error.start + 1})") from None
    return value


def path(name: str, value: str) -> Path:
    """A reader of file names."""
    if not value or "\0" in value:
        raise UsageError(f"{name} needs the name of a file")
    return Path(value)


def content(name: str, value: str) -> str:
    """A reader of file names that gives the file's text."""
    try:
        return path(name, value).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {value}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{value} is not UTF-8 text") from None


def schema(name: str, value: str) -> Any:
    """A reader of JSON schemas; whether it is a schema is the engine's to say."""
    import json

    try:
        return json.loads(value)
    except ValueError as error:
        raise UsageError(f"{name} needs a JSON schema: {error}") from None


def schema_file(name: str, value: str) -> Any:
    """A reader of files with a JSON schema."""
    return schema(f"{name} {value}", content(name, value))


OPTIONS: tuple[Option, ...] = (
    Option(names=("--chat",), target="face", value=Face.CHAT, help="talk in the terminal (default)"),
    Option(names=("--server",), target="face", value=Face.SERVER, help="web page and OpenAI-compatible API"),
    Option(names=("--cli",), target="face", value=Face.CLI, help="answer once, for scripts and pipes"),
    Option(names=("-p", "--prompt"), target="prompt", hint="TEXT", read=text, faces=CLI,
           help="the prompt; '-' reads it from standard input"),
    Option(names=("-p", "--prompt"), target="system", hint="TEXT", read=text, faces=CHAT, help="the system prompt"),
    Option(names=("-f", "--file"), target="files", hint="FILE", read=path, faces=CHAT, repeat=True,
           help="a text to talk about; may be repeated"),
    Option(names=("-f", "--file"), target="files", hint="FILE", read=path, faces=CLI, repeat=True,
           help="text put before the prompt; may be repeated"),
    Option(names=("-sys", "--system-prompt"), target="system", hint="TEXT", read=text, faces=CHAT | CLI,
           help="the system prompt"),
    Option(names=("-sysf", "--system-prompt-file"), target="system_file", hint="FILE", read=path, faces=CHAT | CLI,
           help="the system prompt, from a file"),
    Option(names=("--raw", "-no-cnv", "--no-conversation"), target="raw", faces=CLI,
           help="complete plain text, without the chat template"),
    Option(names=("-e", "--escape"), target="escapes", faces=CLI, help=r"\n, \t, \" and \\ in -p are escapes"),
    Option(names=("--json",), target="json", faces=CLI, help="print one JSON object: text, counts, timings"),
    Option(names=("--json",), target="json", faces=SERVER, help="print one JSON object: where it listens"),
    Option(names=("--think",), target="thinking", value=True, faces=CHAT | CLI | SERVER,
           help="think before answering (default in chat and server)"),
    Option(names=("--nothink", "--no-think"), target="thinking", value=False, faces=CHAT | CLI | SERVER,
           help="answer directly (default in --cli)"),
    Option(names=("--stream-json",), target="stream_json", faces=CLI, help="one JSON object an event, as it happens"),
    Option(names=("--jsonl",), target="rows", hint="FILE", read=text, optional="-", faces=CLI,
           help="answer every row of a JSONL file (or standard input)"),
    Option(names=("-o", "--output"), target="output", hint="FILE", read=text, faces=CLI,
           help="where the rows' answers go; an interrupted run goes on"),
    Option(names=("-np", "--parallel"), target="parallel", hint="N", read=whole(1, 256), faces=CLI, engine=True,
           help="rows answered at a time, each with a context of -c"),
    Option(names=("--unordered",), target="unordered", faces=CLI, help="rows come out as they are done"),
    Option(names=("--embedding", "--embeddings"), target="work", value=Work.EMBEDDING, faces=CLI, engine=True,
           help="print the text's vector as JSON"),
    Option(names=("--tokenize",), target="work", value=Work.TOKENIZE, faces=CLI, help="print the text's tokens"),
    Option(names=("--count-tokens",), target="work", value=Work.COUNT_TOKENS, faces=CLI,
           help="print how many tokens the text has"),
    Option(names=("--bench",), target="work", value=Work.BENCH, faces=CLI, help="measure this machine's speed"),
    Option(names=("--display-prompt",), target="display_prompt", faces=CLI, help="the prompt comes before the answer"),
    Option(names=("--show-thinking",), target="show_thinking", faces=CLI, help="thinking goes to standard error"),
    Option(names=("-n", "--predict", "--n-predict"), target="predict", hint="N", read=whole(1, also=-1),
           help="at most N tokens an answer"),
    Option(names=("--temp", "--temperature"), target="sampling.temperature", hint="N", read=real(0, 100),
           help="randomness; 0 always takes the likeliest token"),
    Option(names=("--top-p",), target="sampling.top_p", hint="N", read=real(0, 1), help="nucleus sampling"),
    Option(names=("--top-k",), target="sampling.top_k", hint="N", read=whole(0), help="only the K likeliest tokens"),
    Option(names=("--min-p",), target="sampling.min_p", hint="N", read=real(0, 1),
           help="drop tokens less likely than N times the best"),
    Option(names=("--presence-penalty",), target="sampling.presence_penalty", hint="N", read=real(-2, 2),
           help="against repetition; 0 to 2"),
    Option(names=("--mirostat",), target="sampling.mirostat", hint="N", read=whole(0, 2)),  # the engine crashes on 3
    Option(names=("-s", "--seed"), target="sampling.seed", hint="N", read=whole(0, 2**32 - 1, also=-1),
           help="same seed, same answer"),
    Option(names=("--stop",), target="stop", hint="TEXT", read=text, faces=CHAT | CLI, repeat=True,
           help="end the answer at this text; may be repeated"),
    Option(names=("-j", "--json-schema"), target="schema", hint="SCHEMA", read=schema, faces=CHAT | CLI, engine=True,
           help="the answer is JSON of this schema"),
    Option(names=("-jf", "--json-schema-file"), target="schema", hint="FILE", read=schema_file, faces=CHAT | CLI,
           engine=True, help="the same, from a file"),
    Option(names=("--grammar",), target="grammar", hint="GBNF", read=text, faces=CHAT | CLI, engine=True,
           help="the answer follows this grammar"),
    Option(names=("--grammar-file",), target="grammar", hint="FILE", read=content, faces=CHAT | CLI, engine=True,
           help="the same, from a file"),
    Option(names=("--host",), target="host", hint="ADDRESS", faces=SERVER, help="where to listen (127.0.0.1)"),
    Option(names=("--port",), target="port", hint="N", read=whole(0, 65_535), faces=SERVER,
           help="port (8080, or the next free one); 0 picks one"),
    Option(names=("--api-key",), target="api_key", hint="KEY", faces=SERVER, read=text, help="clients must send this"),
    Option(names=("--no-api-key",), target="need_key", value=False, faces=SERVER,
           help="open to everybody who reaches the address"),
    Option(names=("--allowed-hosts",), target="allowed_hosts", hint="NAME", read=text, faces=SERVER, repeat=True,
           help="answer to this name, too; may be repeated, '*' is any"),
    Option(names=("--cors-origins",), target="cors_origins", hint="ORIGIN,...", read=text, faces=SERVER,
           help="web pages from there may use the API; 'localhost', '*'"),
    Option(names=("--max-body",), target="max_body", hint="MIB", read=whole(1, 65_536), faces=SERVER,
           help="larger requests are refused (64)"),
    Option(names=("--port-file",), target="port_file", hint="FILE", read=path, faces=SERVER,
           help="write the port to this file once ready"),
    Option(names=("--nobrowser", "--no-browser"), target="browser", value=False, faces=SERVER,
           help="don't open the browser"),
    Option(names=("-m", "--model"), target="model", hint="FILE", read=path, help="other weights, a GGUF file"),
    Option(names=("-c", "--ctx-size"), target="context", hint="N", read=whole(0),
           help="context in tokens (8192); 0: the model's maximum"),
    Option(names=("-ngl", "--gpu-layers", "--n-gpu-layers"), target="gpu_layers", hint="N", read=layers,
           help="layers on a GPU: a number, all, or 0 (as many as fit)"),
    Option(names=("--gpu",), target="gpu", hint="KIND", read=one_of("auto", "vulkan", "cuda", "metal", "off"),
           help="vulkan, cuda or metal and nothing else; off; auto"),
    Option(names=("--device", "-dev"), target="device", hint="NAMES",
           help="devices to compute on, with commas (--list-devices)"),
    Option(names=("-t", "--threads"), target="threads", hint="N", read=whole(1, 4096),
           help="processor threads (the physical cores)"),
    Option(names=("--no-draft",), target="draft", value=False, faces=CHAT | CLI,
           help="leave the bundle's draft model out"),
    Option(names=("--no-draft",), target="draft", value=False, faces=SERVER),
    Option(names=("--force",), target="force"),  # load though memory is too small; the message about that names it
    Option(names=("--nologo", "--no-logo"), target="logo", value=False, faces=CHAT, help="no banner"),
    Option(names=("--no-history",), target="history", value=False, faces=CHAT, help="remember nothing on disk"),
    Option(names=("--resume",), target="resume", faces=CHAT, help="go on with the last conversation"),
    Option(names=("--auto-forget",), target="auto_forget", faces=CHAT,
           help="when the context is full, drop the oldest exchanges"),
    Option(names=("--truncate",), target="truncate", faces=CHAT,
           help="of a file after -f that is too long, take the beginning"),
    Option(names=("--ascii",), target="ascii", faces=CHAT, help="draw with ASCII characters only"),
    Option(names=("--show-settings",), target="action", value=Action.SHOW_SETTINGS, faces=CHAT | CLI,
           help="all settings and where each comes from"),
    Option(names=("--show-settings",), target="action", value=Action.SHOW_SETTINGS, faces=SERVER),
    Option(names=("--install-desktop",), target="action", value=Action.INSTALL_DESKTOP, faces=CHAT,
           help="put the chat into the desktop's menu (Linux)"),
    Option(names=("--uninstall-desktop",), target="action", value=Action.UNINSTALL_DESKTOP, faces=CHAT,
           help="take it out again"),
    Option(names=("--install-desktop",), target="action", value=Action.INSTALL_DESKTOP, faces=SERVER | CLI),
    Option(names=("--uninstall-desktop",), target="action", value=Action.UNINSTALL_DESKTOP, faces=SERVER | CLI),
    Option(names=("--list-devices",), target="action", value=Action.LIST_DEVICES, help="what can compute here"),
    Option(names=("-v", "--verbose", "--log-verbose"), target="verbose", help="the engine's log on standard error"),
    Option(names=("--debug",), target="debug", help="tracebacks on errors"),
    Option(names=("--version",), target="action", value=Action.VERSION, help="versions and model"),
    Option(names=("--licenses",), target="action", value=Action.LICENSES, help="licences of everything inside"),
    Option(names=("--help-engine",), target="action", value=Action.HELP_ENGINE,
           help="the engine's flags; they all work here"),
    Option(names=("--completion",), target="shell", hint="SHELL", read=one_of("bash", "zsh", "fish"),
           help="print a completion script for bash, zsh or fish"),
    Option(names=("-h", "--help"), target="action", value=Action.HELP, help="this text; also after --server, --cli"),
    # Flags that llamafile's and llama.cpp's command lines know and that mean nothing or the default here.
    Option(names=("--simple-io", "--no-display-prompt", "-cnv", "--conversation", "-i", "--interactive", "-st",
                  "--single-turn", "--fast", "--unsecure", "--no-escape", "--log-disable", "--silent-prompt", "--color",
                  "--trap", "--nocompile", "--recompile", "--v2"), target=""),
    Option(names=("--nologo", "--no-logo", "--no-history", "--ascii"), target="", faces=CLI),
)  # fmt: skip
