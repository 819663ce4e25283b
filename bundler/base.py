"""A *base*: everything of a bundle but the weights, for one target. Build one; `bases` finds one.

A base is keyed by all that goes into it, so building it again with nothing changed only hashes the inputs.
Cache layout, below the build cache (`engine/` and `stub/` are made by build_scripts):

    engine/linux-x86_64.current      the name of the newest engine folder
    stub/linux-x86_64.current        likewise
    bases/linux-x86_64-<key>.base
    bases/linux-x86_64.current       the name of the newest base
"""

import hashlib
import importlib.metadata
import json
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.interpreter import Interpreter, interpreter
from bundler.platforms import platform_of
from bundler.writer import create
from runtime.bundle import ENGINE_PREFIX, LAUNCHER, LICENSE_PREFIX, Manifest
from runtime.errors import QwenfileError
from runtime.paths import host_target
from runtime.version import VERSION

SOURCES = Path(__file__).resolve().parent.parent
# What the frozen launcher contains; their licences travel with it.
# Libraries of the system that the frozen Python is linked to, with the folders that may hold their licence texts
# (Debian and its kin, then Fedora, Arch and theirs).
SYSTEM_LICENSES = Path("/usr/share")
SYSTEM_LIBRARIES = {
    "libffi": ("doc/libffi*/*", "licenses/libffi*/*"),
    "libz": ("doc/zlib1g*/*", "licenses/zlib*/*"),
}
FROZEN_PACKAGES = ("rich", "prompt_toolkit", "wcwidth", "Pygments", "markdown-it-py", "mdurl", "platformdirs")
# Where build_scripts/release.py makes which base, by the beginning of the target's name; the first that fits.
_MADE_ON = {
    "macos-": "on such a Mac",
    "windows-arm64": "on Debian or Ubuntu and then on such a Windows",
    "": "on Debian or Ubuntu",
}
BUILD_HINT = "run 'python3 build_scripts/demo.py', or name one with --base"


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What a base is made of: an engine folder, a stub file, a Python, and the launcher's sources in this package."""

    target: str
    engine: Path
    stub: Path
    python: Interpreter

    def key(self) -> str:
        """16 hex digits over every input: engine, stub, launcher sources, frozen packages, Python, PyInstaller."""
        digest = hashlib.sha256()
        for line in (
            VERSION,
            self.target,
            self.engine.name,
            (self.engine / "engine.json").read_text(),
            hashlib.sha256(self.stub.read_bytes()).hexdigest(),
            self.python.version,
            *(f"{name} {importlib.metadata.version(name)}" for name in ("pyinstaller", *FROZEN_PACKAGES)),
        ):
            digest.update(line.encode() + b"\0")
        sources = [*(SOURCES / f"bundler/{name}.py" for name in ("base", "freeze", "interpreter")), SOURCES / "LICENSE"]
        for package in ("launcher", "runtime"):
            sources += sorted((SOURCES / package).glob("*.py"))
        for source in sources:
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        return digest.hexdigest()[:16]


def pointed(folder: Path, target: str) -> Path | None:
    """What `folder`/TARGET.current points to, if it is there."""
    try:
        path = folder / (folder / f"{target}.current").read_text().strip()
    except OSError:
        return None
    return path if path.exists() else None


def variant(target: str, backend: str | None) -> str:
    """What the newest engine and base are called: those with CUDA lie beside the standard ones."""
    return f"{target}-cuda" if backend == "cuda" else target


def made_by_demo(target: str) -> bool:
    """Whether build_scripts/demo.py makes a base for `target` here: for this system, unless that is Windows."""
    return target == host_target() and not target.startswith("windows-")


def recipe(target: str) -> str:
    """What to run, and where, to get all that a base for `target` is made of, and the base, in dist/bases."""
    place = next(place for start, place in _MADE_ON.items() if target.startswith(start))
    return f"run 'python3 build_scripts/release.py --target {target}' {place}"


def _backend(engine: Path) -> str | None:
    facts = json.loads((engine / "engine.json").read_text()).get("gpu") or {}
    return facts.get("backend")


def _at(place: Path | None) -> str:
    return f" at {place}" if place else ""


def ingredients(
    cache: Path,
    target: str,
    engine: Path | None = None,
    stub: Path | None = None,
    python: Path | None = None,
    backend: str | None = None,
) -> Ingredients:
    """The named or else the newest engine, stub and Python for `target`. Raises UsageError for a target that nobody
    knows, and QwenfileError if one is missing."""
    platform_of(target)
    engine = engine or pointed(cache / "engine", variant(target, backend))
    if engine is None and backend == "cuda":
        raise QwenfileError(f"there is no CUDA engine for {target}", "run build_scripts/build_native.py --backend cuda")
    if stub is None and (folder := pointed(cache / "stub", target)) is not None:
        stub = folder / "stub" if folder.is_dir() else folder
    make = "run 'python3 build_scripts/demo.py'" if made_by_demo(target) else recipe(target)
    if engine is None or not (engine / "engine.json").is_file():
        raise QwenfileError(f"there is no engine for {target}{_at(engine)}", f"{make}, or name --engine")
    if stub is None or not stub.is_file():
        raise QwenfileError(f"there is no stub for {target}{_at(stub)}", f"{make}, or name --stub")
    return Ingredients(target=target, engine=engine, stub=stub, python=interpreter(cache, target, python))


def build(
    parts: Ingredients, cache: Path, report: Callable[[str], None], *, out: Path | None = None, force: bool = False
) -> Path:
    """Freeze the launcher and write the base into the cache, unless it is there; returns its path.

    `out`: write it there instead; the newest in the cache stays what it was."""
    from bundler.freeze import freeze, launcher_tar

    bases = cache / "bases"
    bases.mkdir(parents=True, exist_ok=True)
    path = out or bases / f"{parts.target}-{parts.key()}.base"
    if force or out or not path.exists():
        with tempfile.TemporaryDirectory(prefix="freeze-", dir=cache) as work:
            report("freezing the launcher")
            folder = freeze(Path(work) / "work", Path(work) / "dist", python=parts.python)
            report("writing the base")
            licenses = sorted({*_licenses(parts), *_system_licenses(folder, parts.python)})
            tar = Path(work) / LAUNCHER
            launcher_tar(folder, tar)
            _write(parts, tar, licenses, path)
    else:
        report("up to date")
    if out is None:
        current = bases / f"{variant(parts.target, _backend(parts.engine))}.current"
        part = current.with_suffix(".part")
        part.write_text(path.name + "\n")
        part.replace(current)
    return path


def _write(parts: Ingredients, tar: Path, licenses: Iterable[tuple[str, bytes]], out: Path) -> None:
    with create(out, force=True) as writer:
        stub_size, stub_sha256 = writer.add_stub(parts.stub.read_bytes(), parts.target)
        writer.add(LAUNCHER, tar.read_bytes())
        for file in sorted((parts.engine / "lib").iterdir()):
            writer.add(ENGINE_PREFIX + file.name, file.read_bytes(), compress=True)
        for name, text in licenses:
            writer.add(LICENSE_PREFIX + name, text, compress=True)
        writer.finish(
            Manifest(
                target=parts.target,
                qwenfile=VERSION,
                engine=json.loads((parts.engine / "engine.json").read_text()),
                name="qwenfile",
                stub_size=stub_size,
                stub_sha256=stub_sha256,
            )
        )


def _licenses(parts: Ingredients) -> Iterator[tuple[str, bytes]]:
    """(name, text) of every licence that a base must carry."""
    yield "qwenfile.txt", (SOURCES / "LICENSE").read_bytes()
    yield "python.txt", parts.python.license_text("python") or _this_pythons_license()
    for part, folder in (("engine", parts.engine / "licenses"), ("stub", parts.stub.parent / "licenses")):
        for file in sorted(folder.iterdir()):
            yield f"{part}-{file.name}", file.read_bytes()
    for package in ("pyinstaller", *FROZEN_PACKAGES):
        for entry in importlib.metadata.files(package) or ():
            if entry.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "AUTHORS", "NOTICE")):
                name = entry.name.lower().removesuffix(".txt")
                yield f"{package.lower()}-{name}.txt", entry.read_binary()


def _this_pythons_license() -> bytes:
    stdlib = Path(sysconfig.get_path("stdlib"))
    windows = stdlib.parent / "LICENSE.txt"  # there the library is Lib, in Python's own folder
    for place in (stdlib / "LICENSE.txt", stdlib.parent.parent / "LICENSE", windows):
        if place.is_file():
            return place.read_bytes()
    raise QwenfileError(f"there is no licence text of Python in {stdlib}", "install Python with its LICENSE.txt")


def _system_licenses(frozen: Path, python: Interpreter) -> Iterator[tuple[str, bytes]]:
    """(name, text) of the licences of system libraries in the frozen launcher. Raises QwenfileError if one has none."""
    for library in sorted((frozen / "_internal").glob("lib*.so*")):
        name = library.name.split(".")[0]
        if name.startswith("libpython"):
            continue
        texts = (
            file.read_bytes()
            for pattern in SYSTEM_LIBRARIES.get(name, ())
            for file in sorted(SYSTEM_LICENSES.glob(pattern))
            if file.name.upper().startswith(("COPYRIGHT", "COPYING", "LICENSE"))
        )
        text = python.license_text(name) or next(texts, None)
        if text is None:
            raise QwenfileError(
                f"the frozen launcher holds {library.name}, whose licence text is nowhere on this system",
                "add the place to SYSTEM_LIBRARIES in bundler/base.py",
            )
        yield f"{name}.txt", text
