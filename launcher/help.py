"""The texts of --help, --help-engine and --licenses, made from the option table. Imported by the launcher only."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launcher.flags import OPTIONS, Option
from launcher.options import Face
from runtime.bundle import LICENSE_PREFIX, Bundle

_COLUMN = 34
_WIDTH = 100

_HEADS = {
    Face.CHAT: "Talk with {model} in the terminal. Nothing leaves this machine.",
    Face.SERVER: "Serve {model} as a web page and an OpenAI-compatible API.",
    Face.CLI: "Answer with {model} in scripts and pipes; stdout carries the answer alone.",
}

_EXAMPLES = {
    Face.CHAT: ("", "-p 'You are a pirate.' --nothink", "--server", "--cli -p 'Say hello.'"),
    Face.SERVER: ("--server", "--server --port 9000 --nobrowser", "--server --host 0.0.0.0 --api-key secret"),
    Face.CLI: (
        "--cli -p 'Name three rivers.'",
        "--cli -p 'Summarise this.' < notes.txt > summary.txt",
        "--cli --jsonl questions.jsonl -o answers.jsonl",
    ),
}


# The engine's own flags that people who run a server ask for most.
_SERVER_FLAGS = (
    ("-np, --parallel N", "conversations at a time (4)"),
    ("--api-key-file FILE", "keys, one a line"),
    ("--metrics", "Prometheus metrics at /metrics"),
    ("--slots", "what is being worked on, at /slots"),
    ("--embedding", "embeddings instead of answers"),
    ("--cache-reuse N", "reuse parts of N or more tokens of earlier prompts"),
    ("-ctk q8_0 -ctv q8_0", "half the memory for the context"),
    ("--lora FILE", "an adapter on top of the model"),
    ("--mcp-servers-config FILE", "MCP servers for the page's tools; they run programs here"),
    ("--tools LIST", "built-in tools for the page; they read and write files here"),
)


# The options of --cli that its help explains; it only names the others, so that it fits on one screen.
_CLI_SHOWN = frozenset({
    "-p", "-f", "-sys", "--raw", "--think", "-n", "--temp", "-j", "--json", "--jsonl", "-o", "-m", "-c",
})  # fmt: skip
_EVERYWHERE = frozenset({
    "-h", "-v", "--debug", "--licenses", "--help-engine", "--version", "--list-devices", "--show-settings",
    "--no-draft", "--completion",
})  # fmt: skip
_CLI_COLUMN, _CLI_WIDTH = 24, 80


def cli_help(program: str, model: str) -> str:
    """The help of --cli: on one screen of 24 lines and 80 columns."""
    import textwrap

    rows = [option for option in OPTIONS if Face.CLI in option.faces and option.help and _shown(option, Face.CLI)]
    lines = [_HEADS[Face.CLI].format(model=model), ""]
    lines += [f"  ./{program} {example}" for example in _EXAMPLES[Face.CLI]]
    lines.append("")
    for option in rows:
        if option.names[0] in _CLI_SHOWN:
            name = f"{', '.join(option.names[:2])}" if len(option.names[-1]) < 10 else option.names[0]
            lines.append(f"  {name + (f' {option.hint}' if option.hint else ''):<{_CLI_COLUMN}}{option.help}")
    others = " ".join(option.names[0] for option in rows if option.names[0] not in _CLI_SHOWN | _EVERYWHERE)
    text = f"More (--help --verbose explains them, --help-engine the engine's): {others}"
    lines += ["", *textwrap.wrap(text, _CLI_WIDTH, break_long_words=False, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def face_help(face: Face, program: str, model: str) -> str:
    """The help of one face: what it does, examples that work, the options that mean something there."""
    lines = [_HEADS[face].format(model=model), ""]
    lines += [f"  ./{program} {example}".rstrip() for example in _EXAMPLES[face]]
    lines.append("")
    lines += [_row(option) for option in OPTIONS if face in option.faces and option.help and _shown(option, face)]
    if face is Face.SERVER:
        lines += ["", "Of llama.cpp's server:"]
        lines += [f"  {names:<{_COLUMN}}{text}" for names, text in _SERVER_FLAGS]
    lines += ["", "Every other flag of llama.cpp's server works too: --help-engine lists them."]
    return "\n".join(lines) + "\n"


def _shown(option: Option, face: Face) -> bool:
    """The default face's help names the other faces; theirs need not."""
    return option.target != "face" or face is Face.CHAT


def _row(option: Option) -> str:
    names = ", ".join(option.names[:2]) + (f" {option.hint}" if option.hint else "")
    return f"  {names:<{_COLUMN}}{option.help}"


def engine_help(flags: Iterable[Mapping[str, Any]]) -> str:
    """All flags of the engine, with its own words."""
    import textwrap

    lines: list[str] = []
    for flag in flags:
        lines.append(f"{', '.join(flag['names'])} {flag.get('value_hint') or ''}".rstrip())
        for paragraph in str(flag.get("help") or "").splitlines():
            lines += textwrap.wrap(paragraph, _WIDTH - 8, initial_indent="        ", subsequent_indent="        ")
    return "\n".join(lines) + "\n"


def licenses(bundle: Bundle) -> str:
    """The licence texts that the bundle carries, one after another, each under its name."""
    parts: Sequence[str] = [
        f"{'=' * 78}\n{member.name.removeprefix(LICENSE_PREFIX)}\n{'=' * 78}\n\n"
        + bundle.read(member.name).decode(errors="replace").rstrip()
        + "\n"
        for member in bundle.manifest.prefixed(LICENSE_PREFIX)
    ]
    return "\n\n".join(parts) if parts else "This bundle carries no licence texts.\n"
