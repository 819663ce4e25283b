"""A program that test_freeze.py freezes in the launcher's place: it uses all that the launcher may use, and reports."""

import asyncio
import base64
import ctypes
import hashlib
import http.client
import io
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import webbrowser

import prompt_toolkit.application
import prompt_toolkit.history
import prompt_toolkit.patch_stdout
import prompt_toolkit.shortcuts
import pygments
import rich.console
import rich.live
import rich.markdown
from pygments.formatters import get_formatter_by_name
from pygments.lexers import find_lexer_class, get_lexer_by_name
from pygments.lexers._mapping import LEXERS
from pygments.util import ClassNotFound

import launcher.__main__
import launcher.markdown
import launcher.painter
import launcher.prompt
import launcher.repl
import runtime.paths

USED = (
    asyncio, base64, ctypes, http.client, random, secrets, shutil, webbrowser, prompt_toolkit.application,
    prompt_toolkit.history, prompt_toolkit.patch_stdout, prompt_toolkit.shortcuts, rich.live, launcher.__main__,
    runtime.paths, launcher.markdown, launcher.painter, launcher.prompt, launcher.repl, subprocess, textwrap,
)  # fmt: skip

CODE = """def f(x):
    # comment
    return '<a href="x">' + strlen(x)  /* y */ <?php echo 1; ?> NSString *s
#include <x.h>
"""
MARKDOWN = """# Title

```python
print(1)
```

```nosuchlanguage
x
```

| a | b |
|---|---|
| 1 | 千问 |
"""


def unknown(language: str) -> bool:
    """Whether pygments says so in the way that its users expect."""
    try:
        get_lexer_by_name(language)
    except ClassNotFound:
        return True
    return False


def highlighted() -> int:
    """The number of languages; fails if one of them lacks a module."""
    for row in LEXERS.values():
        lexer = find_lexer_class(row[1])
        assert lexer
        pygments.highlight(CODE, lexer(), get_formatter_by_name("terminal"))
    return len(LEXERS)


def rendered() -> str:
    """Markdown as a terminal gets it."""
    out = rich.console.Console(file=io.StringIO(), force_terminal=True, width=60)
    with out.capture() as capture:
        out.print(rich.markdown.Markdown(MARKDOWN))
    return capture.get()


with tempfile.TemporaryDirectory() as temporary:
    report = {
        "argv": sys.argv[1:],
        "executable": sys.executable,
        "utf8": sys.flags.utf8_mode,
        "encodings": [sys.stdout.encoding, sys.stdin.encoding, sys.getfilesystemencoding()],
        "languages": highlighted(),
        "unknown": unknown("brainfuck"),
        "markdown": rendered(),
        "sha256": hashlib.sha256(b"x").hexdigest(),
        "address": socket.getaddrinfo("127.0.0.1", 80)[0][4][0],
        "linker": {name: value for name, value in os.environ.items() if name.startswith("LD_")},
        "bundle": os.environ.get("QWENFILE_BUNDLE"),
        "said": "naïve 千问 🙂",
        "modules": len(USED),
    }
sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
