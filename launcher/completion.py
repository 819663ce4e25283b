"""--completion: scripts for bash, zsh and fish, made from the option table. Imported by the launcher only."""

import re
import shlex
from collections.abc import Iterator

from launcher.flags import OPTIONS, Option, content, path, schema_file

_FILE_READERS = (path, content, schema_file)
_FILE_TARGETS = ("rows", "output")
_CHOICES = {"shell": ("bash", "zsh", "fish")}


def script(shell: str, program: str) -> str:
    """The completion script of a shell for a bundle of this file name."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](program)


def _rows() -> Iterator[Option]:
    """The options worth offering, each name once."""
    seen: set[str] = set()
    for option in OPTIONS:
        if option.help and not seen & set(option.names):
            seen |= set(option.names)
            yield option


def _takes_file(option: Option) -> bool:
    return option.read in _FILE_READERS or option.target in _FILE_TARGETS


def _names(options: Iterator[Option]) -> str:
    return " ".join(name for option in options for name in option.names)


def _function(program: str) -> str:
    return "_" + re.sub(r"\W", "_", program)


def _bash(program: str) -> str:
    files = "|".join(_names(option for option in _rows() if _takes_file(option)).split())
    values = "|".join(_names(o for o in _rows() if o.hint and not _takes_file(o) and o.target not in _CHOICES).split())
    function = _function(program)
    return f"""\
# bash completion for {program}: put it into ~/.local/share/bash-completion/completions/, or source it
{function}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    case $before in
        {files}) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        --completion) mapfile -t COMPREPLY < <(compgen -W "bash zsh fish" -- "$word") ;;
        {values}) COMPREPLY=() ;;
        *) mapfile -t COMPREPLY < <(compgen -W "{_names(_rows())}" -- "$word") ;;
    esac
}}
complete -F {function} {shlex.quote(program)} {shlex.quote("./" + program)}
"""


def _zsh(program: str) -> str:
    def row(option: Option) -> str:
        help_text = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
        value = ""
        if option.hint:
            optional = ":" if option.optional else ""
            action = "_files" if _takes_file(option) else ""
            if option.target in _CHOICES:
                action = f"({' '.join(_CHOICES[option.target])})"
            value = f"{optional}:{option.hint}:{action}"
        star = "*" if option.repeat else f"({' '.join(option.names)})" if len(option.names) > 1 else ""
        specs = [shlex.quote(f"{star}{name}[{help_text}]{value}") for name in option.names]
        return " \\\n    ".join(specs)

    rows = " \\\n    ".join(row(option) for option in _rows())
    return f"""\
#compdef {program}
# zsh completion for {program}: put it into a folder of $fpath under the name {_function(program)}, or source it
{_function(program)}() {{
    _arguments \\
    {rows}
}}
compdef {_function(program)} {shlex.quote(program)}
"""


def _fish(program: str) -> str:
    lines = [
        f"# fish completion for {program}: put it into ~/.config/fish/completions/",
        f"complete -c {shlex.quote(program)} -f",
    ]
    for option in _rows():
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" if len(name) == 2 else f"-o {name[1:]}"
            for name in option.names
        )
        value = ""
        if option.hint:
            value = " -r -F" if _takes_file(option) else " -x"
            if option.target in _CHOICES:
                value += f" -a {shlex.quote(' '.join(_CHOICES[option.target]))}"
        help_text = option.help.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"complete -c {shlex.quote(program)} {names}{value} -d '{help_text}'")
    return "\n".join(lines) + "\n"
