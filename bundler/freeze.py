"""Freeze the launcher with PyInstaller: a one-folder program, without what nothing uses, the same bytes every time.

For the bundler alone. PyInstaller runs in a process of its own, on a spec file that calls `collect` here.
What is left out was measured: without OpenSSL (hashlib, http.client and asyncio do without), without wcwidth's
optional C extension, and with pygments' lexers for the common languages only, the program has half the files and
half of the bytes.
"""

import importlib.util
import io
import os
import pkgutil
import pprint
import re
import subprocess
import tarfile
from pathlib import Path

from bundler.interpreter import Interpreter, this_python
from runtime.errors import QwenfileError

SOURCES = Path(__file__).resolve().parent.parent
NAME = "launcher"

# Modules that PyInstaller would take because something imports them on a road that the launcher never goes.
EXCLUDED = (
    # the interpreter's own tools
    "bdb", "code", "codeop", "cmd", "distutils", "doctest", "ensurepip", "idlelib", "lib2to3", "pdb", "pip",
    "pydoc", "pydoc_data", "setuptools", "sysconfig", "test", "tracemalloc", "turtledemo", "unittest", "venv",
    # other processes and other protocols
    "concurrent.futures.process", "ftplib", "http.cookiejar", "http.cookies", "http.server", "multiprocessing",
    "netrc", "nturl2path", "smtplib", "socketserver", "sqlite3", "statistics", "tkinter", "urllib.request", "wsgiref",
    "xml.etree", "xml.sax", "xmlrpc",
    # OpenSSL, 5.4 MB: the engine is a neighbour behind a private socket
    "_hashlib", "_ssl", "ssl",
    # second implementations beside the C ones, and compressions that nothing here is written in
    "_pydatetime", "_pydecimal", "_bz2", "_lzma", "bz2", "lzma", "readline", "wcwidth._wcwidth_c",
    # optional parts of the libraries
    "IPython", "attr", "ipywidgets", "jupyter", "linkify_it", "numpy", "prompt_toolkit.contrib", "ptpython",
    "typing_extensions",
)  # fmt: skip

# Text is UTF-8 whatever the locale says; these remain for what the libraries ask for by name.
ENCODINGS = frozenset(
    "aliases ascii charmap cp1252 cp437 idna latin_1 punycode raw_unicode_escape unicode_escape "
    "utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le utf_8 utf_8_sig".split()
)

# What people ask a model to write. Modules of pygments.lexers, most with several languages (Dart is in javascript,
# Swift in objective); what these import comes along.
LEXERS = (
    "asm basic c_cpp c_like configs css d data diff dotnet dsls elm erlang fortran gdscript go graphql graphviz "
    "haskell hdl html javascript json5 julia jvm lisp make markup matlab ml nimrod nix objective pascal perl php "
    "prolog python r ruby rust scripting shell solidity special sql tcl textfmts webassembly webidl zig"
).split()

_LEXER_IMPORT = re.compile(r"^ *(?:from|import) pygments\.lexers(?:\.| import )(\w+)", re.MULTILINE)

# PyInstaller's own preparations for programs that read their source or list their packages: 7 ms at every start.
UNUSED_HOOKS = frozenset({"pyi_rth_inspect", "pyi_rth_pkgutil"})

# The program's first lines. PyInstaller's loader points the dynamic linker at _internal/ and starts itself again;
# programs that the launcher starts (a browser) must not inherit that. Until the launcher has handlers of its own,
# Ctrl-C, which the stub has held back, ends the program without a traceback.
ENTRY = """\
import _signal
import os
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)
if hasattr(_signal, "pthread_sigmask"):
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])
before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
if before is not None:
    os.environ["LD_LIBRARY_PATH"] = before
else:
    os.environ.pop("LD_LIBRARY_PATH", None)
"""
MAIN = """\
from launcher.__main__ import main
raise SystemExit(main())
"""


def freeze(work: Path, dist: Path, main: str = MAIN, python: Interpreter | None = None) -> Path:
    """Freeze launcher/ and runtime/ into `dist`/launcher/; returns that folder. `work` takes intermediate files.

    The program is `launcher`, beside it lies `_internal/`. `main`: the source of another program to freeze instead.
    `python`: the one to freeze, by default the one that runs this. Raises QwenfileError with PyInstaller's last lines.
    """
    python = python or this_python()
    work.mkdir(parents=True, exist_ok=True)
    entry = work / "entry.py"
    entry.write_text(ENTRY + main, encoding="utf-8")
    spec = work / f"{NAME}.spec"
    foreign = python.sees(python.foreign) if python.foreign else ""
    spec.write_text(
        f"import sys; sys.path.insert(0, {python.sees(SOURCES)!r})\nfrom bundler.freeze import collect\n"
        f"collect({python.sees(entry)!r}, {python.sees(work)!r}, {foreign!r})\n",
        encoding="utf-8",  # the names of folders, on Windows too
    )
    folders = ("--distpath", python.sees(dist), "--workpath", python.sees(work / "pyinstaller"))
    options = ("--noconfirm", "--clean", "--log-level", "WARN", *folders)
    result = subprocess.run(
        [*python.command, "-m", "PyInstaller", *options, python.sees(spec)],
        # The order of sets and the time of day must not reach the bytes.
        env={**os.environ, **python.env, "PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "315532800"},
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    folder = dist / NAME
    if result.returncode or not any((folder / name).is_file() for name in (NAME, f"{NAME}.exe")):
        lines = "\n".join(result.stderr.strip().splitlines()[-15:])
        raise QwenfileError(f"PyInstaller failed with {result.returncode}:\n{lines}")
    return folder


def launcher_tar(folder: Path, out: Path) -> None:
    """Pack a frozen folder as the stub wants it: ustar, files and folders only, sorted, without times and owners."""
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            if path.is_dir() and not path.is_symlink():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            content = path.read_bytes()  # a link is packed as what it points to
            info.size, info.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
            tar.addfile(info, io.BytesIO(content))


def collect(entry: str, work: str, foreign: str) -> None:
    """What the spec file does; runs inside PyInstaller. `foreign`: a folder of another system's binaries, or empty."""
    from PyInstaller.building.api import COLLECT, EXE, PYZ
    from PyInstaller.building.build_main import Analysis

    lexers = _lexer_modules()
    analysis = Analysis(
        [entry],
        pathex=[str(SOURCES)],
        excludes=[*EXCLUDED, *_unwanted_encodings(), *(name for name in _all_lexer_modules() if name not in lexers)],
        optimize=2,  # no asserts, no docstrings: 0.7 MB less to read
        noarchive=False,
    )
    mapping = Path(work) / "_mapping.py"
    mapping.write_text(_lexer_mapping(lexers), encoding="utf-8")
    # A new list, so that PyInstaller compiles from these files and does not take the code it has cached.
    pure = [
        (name, str(mapping) if name == "pygments.lexers._mapping" else source, kind)
        for name, source, kind in analysis.pure
    ]
    scripts = [script for script in analysis.scripts if script[0] not in UNUSED_HOOKS]
    datas = [data for data in analysis.datas if _wanted_data(data[0])]
    archive, binaries = PYZ(pure), analysis.binaries
    if foreign:
        binaries = [_counterpart(binary, Path(foreign)) for binary in binaries]
        archive.dependencies = [  # what the bootloader needs to read the archive
            _counterpart(entry, Path(foreign)) if entry[2] == "EXTENSION" else entry for entry in archive.dependencies
        ]
        EXE._bootloader_file = lambda *_: str(Path(foreign) / "bootloader" / "run")
    strip = os.name != "nt"  # nothing there to strip, and signatures to keep
    program = EXE(
        archive,
        scripts,
        [("X utf8=1", None, "OPTION")],  # text is UTF-8 also under LANG=C
        exclude_binaries=True,
        name=NAME,
        strip=strip,
        console=True,
        contents_directory="_internal",
    )
    COLLECT(program, binaries, datas, strip=strip, name=NAME)


def _counterpart(binary: tuple[str, str, str], foreign: Path) -> tuple[str, str, str]:
    """The same shared library or extension module for the other system. Raises QwenfileError if there is none."""
    name, _, kind = binary
    inside, file = Path(name).parent, Path(name).name
    module = re.fullmatch(r"(\w+)\.cpython-\d+-[\w-]+\.so", file)
    found = list((foreign / "lib-dynload").glob(f"{module[1]}.cpython-*.so")) if module else [foreign / "lib" / file]
    if len(found) != 1 or not found[0].is_file():
        raise QwenfileError(f"{foreign} has no counterpart of {name}")
    return str(inside / found[0].name), str(found[0]), kind


def _wanted_data(name: str) -> bool:
    """Distribution folders and stubs for type checkers are dead weight; prompt_toolkit may look up its version."""
    if ".dist-info" in name:
        return name.startswith("prompt_toolkit") and name.endswith("METADATA")
    return not name.endswith((".pyi", "py.typed", ".so"))  # a Linux file where a freeze for Windows finds one


def _unwanted_encodings() -> list[str]:
    import encodings

    names = (module.name for module in pkgutil.iter_modules(encodings.__path__))
    return [f"encodings.{name}" for name in names if name not in ENCODINGS]


def _all_lexer_modules() -> list[str]:
    import pygments.lexers

    names = (module.name for module in pkgutil.iter_modules(pygments.lexers.__path__))
    return [f"pygments.lexers.{name}" for name in names]


def _lexer_modules() -> set[str]:
    """The wanted lexers' modules and those that they import, some of them only when a text is read."""
    sources = {}
    for name in _all_lexer_modules():
        spec = importlib.util.find_spec(name)
        sources[name.rpartition(".")[2]] = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
    if missing := sorted(set(LEXERS) - set(sources)):
        raise QwenfileError(f"pygments has no lexers {', '.join(missing)}", "bring bundler.freeze.LEXERS up to date")
    wanted: set[str] = set()
    waiting = {"_mapping", *LEXERS}
    while waiting:
        name = waiting.pop()
        wanted.add(name)
        waiting |= set(_LEXER_IMPORT.findall(sources[name])) & set(sources) - wanted
    return {f"pygments.lexers.{name}" for name in wanted}


def _lexer_mapping(modules: set[str]) -> str:
    """pygments' table of lexers for these modules alone: a language that is left out is then unknown, not broken."""
    from pygments.lexers._mapping import LEXERS as TABLE

    return "LEXERS = " + pprint.pformat({name: row for name, row in TABLE.items() if row[0] in modules}, width=200)
