"""--install-desktop and --uninstall-desktop: the bundle in the menu of a Linux desktop. Imported by the launcher only.

The entry is named after the model, so a bundle that was moved replaces its own. Format: Desktop Entry Specification
1.5, "Value types" for escapes and "The Exec key" for quotes.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from runtime.bundle import Bundle
from runtime.errors import QwenfileError, UsageError
from runtime.paths import data_home, host_target


def install(bundle: Bundle, env: Mapping[str, str]) -> Path:
    """Write the entry and return its path. Raises UsageError off Linux, QwenfileError where it cannot be written."""
    path = _path(bundle, env)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            part.write_text(entry(bundle.path, bundle.manifest.name), encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except UnicodeEncodeError:
        raise UsageError(f"the path {bundle.path} is not UTF-8, as menu entries are", "rename the file") from None
    except OSError as error:
        raise QwenfileError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
    return path


def uninstall(bundle: Bundle, env: Mapping[str, str]) -> Path | None:
    """Remove the entry; returns its path, None if there was none. Raises UsageError, QwenfileError."""
    path = _path(bundle, env)
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise QwenfileError(f"cannot remove {path}: {(error.strerror or str(error)).lower()}") from None
    return path


def entry(program: Path, name: str) -> str:
    """The text of the entry that starts `program` in a terminal."""
    return "".join(
        f"{line}\n"
        for line in (
            "[Desktop Entry]",
            "Type=Application",
            f"Name={_string(name)}",
            f"Comment={_string(f'Chat with {name} on this machine')}",
            "Icon=utilities-terminal",
            f"Exec={_string(_command(program))}",
            f"TryExec={_string(str(program))}",  # the menu leaves the entry out when the file is gone
            "Terminal=true",
            "Categories=Utility;",
        )
    )


def _string(text: str) -> str:
    """A value of type string: backslash and control characters escaped, no space lost at the start."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return re.sub(r"^ ", r"\\s", text)


def _command(program: Path) -> str:
    """The command line. GLib looks for a program by its name with every `%%` still in it, and finds none."""
    words = ("/bin/sh", "-c", 'exec "$0"') if "%" in str(program) else ()
    return " ".join(map(_quoted, (*words, str(program))))


def _quoted(argument: str) -> str:
    """One argument of a command line, before it becomes a string; `%` would start a field code."""
    return '"' + re.sub(r'(["`$\\])', r"\\\1", argument).replace("%", "%%") + '"'


def _path(bundle: Bundle, env: Mapping[str, str]) -> Path:
    if not host_target().startswith("linux"):
        raise UsageError("menu entries are for Linux desktops", "here a double-click on the file opens the chat")
    folder = data_home(env)
    if folder is None:
        raise UsageError("there is no home folder for a menu entry", "set HOME, or XDG_DATA_HOME")
    name = bundle.manifest.name
    words = re.findall(r"[a-z0-9]+", name.lower())
    if not name.isascii() or not words:
        words.append(hashlib.sha256(name.encode()).hexdigest()[:8])
    return folder / "applications" / f"qwenfile-{'-'.join(words)}.desktop"
