"""argv + baked arguments -> frozen LaunchOptions + arguments for the engine. Imported by the launcher only.

One table, `OPTIONS`, feeds parsing and help (`launcher.help`). A flag that the table doesn't name goes to the engine;
the engine's own list of flags (`engine/flags.json` of the bundle, read only when needed) tells how many values it
takes, and that it exists at all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from runtime.errors import UsageError


class Face(Enum):
    """The three ways to use a bundle."""

    CHAT = "--chat"
    SERVER = "--server"
    CLI = "--cli"


class Action(Enum):
    """Run the face, or print something and leave."""

    RUN = ""
    HELP = "--help"
    HELP_ENGINE = "--help-engine"
    VERSION = "--version"
    LICENSES = "--licenses"
    LIST_DEVICES = "--list-devices"
    SHOW_SETTINGS = "--show-settings"


class Work(Enum):
    """What --cli does with its input."""

    ANSWER = ""
    EMBEDDING = "--embedding"
    TOKENIZE = "--tokenize"
    COUNT_TOKENS = "--count-tokens"
    BENCH = "--bench"


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What the user asked for. None means: not said, so the default of the model, the mode or the face."""

    face: Face = Face.CHAT
    action: Action = Action.RUN
    model: Path | None = None
    context: int | None = None
    gpu_layers: str | None = None
    threads: int | None = None
    predict: int | None = None
    thinking: bool | None = None
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    schema: Any = None
    grammar: str | None = None
    prompt: str | None = None
    files: tuple[Path, ...] = ()
    system: str | None = None
    system_file: Path | None = None
    raw: bool = False
    escapes: bool = False
    json: bool = False
    stream_json: bool = False
    show_thinking: bool = False
    display_prompt: bool = False
    work: Work = Work.ANSWER
    rows: str | None = None
    output: str | None = None
    unordered: bool = False
    parallel: int | None = None
    shell: str | None = None
    host: str | None = None
    port: int | None = None
    api_key: str | None = None
    need_key: bool = True
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: str = ""
    max_body: int | None = None
    port_file: Path | None = None
    browser: bool = True
    logo: bool = True
    history: bool = True
    draft: bool = True
    force: bool = False
    verbose: bool = False
    debug: bool = False
    engine_args: tuple[str, ...] = ()


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
    Option(names=("-ngl", "--gpu-layers", "--n-gpu-layers"), target="gpu_layers", hint="N",
           help="layers to compute on the GPU"),
    Option(names=("-t", "--threads"), target="threads", hint="N", read=whole(1, 4096),
           help="processor threads (the physical cores)"),
    Option(names=("--no-draft",), target="draft", value=False, faces=CHAT | CLI,
           help="leave the bundle's draft model out"),
    Option(names=("--no-draft",), target="draft", value=False, faces=SERVER),
    Option(names=("--force",), target="force"),  # load though memory is too small; the message about that names it
    Option(names=("--nologo", "--no-logo"), target="logo", value=False, faces=CHAT, help="no banner"),
    Option(names=("--no-history",), target="history", value=False, faces=CHAT, help="remember nothing on disk"),
    Option(names=("--show-settings",), target="action", value=Action.SHOW_SETTINGS, faces=CHAT | CLI,
           help="all settings and where each comes from"),
    Option(names=("--show-settings",), target="action", value=Action.SHOW_SETTINGS, faces=SERVER),
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
                  "--ascii", "--trap", "--nocompile", "--recompile", "--v2"), target=""),
    Option(names=("--nologo", "--no-logo", "--no-history"), target="", faces=CLI),
)  # fmt: skip

# The engine's flags that would fetch a model, start a second server or end this process.
_REFUSED = frozenset({
    "-mu", "--model-url", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft", "--hf-token", "--docker-repo", "-dr",
    "-hfv", "-hfrv", "--hf-repo-v", "-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf", "--models-dir",
    "--models-preset", "--server-base", "-cl", "--cache-list", "--completion-bash", "--usage", "--reuse-port",
})  # fmt: skip

EngineFlags = Callable[[], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class _Word:
    """One word of a command line; `baked`: it comes from the bundle, not from the user."""

    text: str
    baked: bool


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One flag as given, with its values. `options` has a row per meaning (`-p` has two), none if the engine's."""

    name: str
    values: tuple[str, ...]
    options: tuple[Option, ...]
    baked: bool


def parse(argv: Sequence[str], baked: str, engine_flags: EngineFlags) -> LaunchOptions:
    """Read the command line. `baked`: the bundle's arguments, with `...` where the user's go (else they follow).

    Raises UsageError for unknown flags, bad values and contradictions. In `baked`, flags of other faces are ignored.
    """
    settings = list(_settings(_words(argv, baked), engine_flags))
    face = _face(settings)
    fields: dict[str, Any] = {"face": face}
    sampling: dict[str, float | int] = {}
    engine_args: list[str] = []
    for setting in settings:
        option = next((row for row in setting.options if face in row.faces), None)
        if option is None and (not setting.options or setting.options[0].engine):
            engine_args += [setting.name, *setting.values]
        elif option is None:
            _check_stray(setting, face)
        elif option.target and option.target != "face":
            value = option.read(setting.name, setting.values[0]) if option.hint else option.value
            if option.target.startswith("sampling."):
                sampling[option.target.removeprefix("sampling.")] = value
            elif option.target == "work" and fields.get("work", value) is not value:
                raise UsageError(f"{fields['work'].value} and {setting.name} contradict each other", "choose one")
            else:
                fields[option.target] = (*fields.get(option.target, ()), value) if option.repeat else value
    return LaunchOptions(**fields, sampling=sampling, engine_args=tuple(engine_args))


def _words(argv: Sequence[str], baked: str) -> list[_Word]:
    user = [_Word(text=word, baked=False) for word in argv]
    if not baked.strip():
        return user
    import shlex

    try:
        defaults = [_Word(text=word, baked=True) for word in shlex.split(baked)]
    except ValueError as error:
        remedy = "mend them with 'qwenfile args FILE --set'"
        raise UsageError(f"the bundle's own arguments cannot be read: {error}", remedy) from None
    place = next((at for at, word in enumerate(defaults) if word.text == "..."), None)
    return [*defaults, *user] if place is None else [*defaults[:place], *user, *defaults[place + 1 :]]


def _settings(words: list[_Word], engine_flags: EngineFlags) -> Iterator[_Setting]:
    """Group words into flags and their values. `--name=value` is `--name value`."""
    rows: dict[str, tuple[Option, ...]] = {}
    for option in OPTIONS:
        for name in option.names:
            rows[name] = (*rows.get(name, ()), option)
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        name, equals, inline = word.text.partition("=") if word.text.startswith("--") else (word.text, "", "")
        if not name.startswith("-") or name in ("-", "--"):
            raise UsageError(f"unexpected argument {word.text!r}", "put a prompt after -p, a model after -m")
        if name.startswith("--"):
            name = name.replace("_", "-")
        options = rows.get(name, ())
        count = int(bool(options[0].hint)) if options else _engine_arity(name, engine_flags)
        values = [inline] if equals else []
        if len(values) > count:
            raise UsageError(f"{name} takes no value")
        if count and not values and options and options[0].optional:
            follows = at < len(words) and (words[at].text == "-" or not words[at].text.startswith("-"))
            values = [] if follows else [options[0].optional]
        while len(values) < count:
            if at == len(words):
                raise UsageError(f"{name} needs a value", f"{name} {options[0].hint}" if options else "")
            values.append(words[at].text)
            at += 1
        yield _Setting(name=name, values=tuple(values), options=options, baked=word.baked)


def _engine_arity(name: str, engine_flags: EngineFlags) -> int:
    if name in _REFUSED:
        raise UsageError(f"{name} does not work in a bundle", "other weights: -m FILE.gguf")
    flags = engine_flags()
    for flag in flags:
        if name in flag["names"]:
            return int(flag["values"])
    import difflib

    known = [known for flag in flags for known in flag["names"] if known not in _REFUSED]
    known += [known for option in OPTIONS for known in option.names]
    near = difflib.get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.6)
    remedy = f"did you mean {' or '.join(near)}?" if near else "see --help and --help-engine"
    raise UsageError(f"unknown option {name}", remedy)


def _face(settings: list[_Setting]) -> Face:
    def said(*, baked: bool) -> list[Face]:
        return [row.value for each in settings for row in each.options if row.target == "face" and each.baked is baked]

    user = said(baked=False)
    if len(set(user)) > 1:
        names = " and ".join(face.value for face in dict.fromkeys(user))
        raise UsageError(f"{names} contradict each other", "choose one")
    return [Face.CHAT, *said(baked=True), *user][-1]


def _check_stray(setting: _Setting, face: Face) -> None:
    """A flag of another face: meant for that one if baked, a mistake if the user's."""
    if not setting.baked:
        homes = " or ".join(home.value for home in Face if any(home in row.faces for row in setting.options))
        raise UsageError(f"{setting.name} means nothing with {face.value}", f"it belongs to {homes}")
