"""Who may import whom, read off the sources themselves."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bundler", "runtime", "launcher")
FACES = {"launcher.repl", "launcher.server", "launcher.cli"}
PAINTING = {"launcher.painter", "launcher.markdown"}
CHAT_IN_A_TERMINAL = PAINTING | {"launcher.repl", "launcher.prompt", "launcher.terminal_ui"}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(path: Path) -> Iterator[str]:
    """What is imported when the module is, not inside its functions."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def broken_rules(module: str, imported: str) -> Iterator[str]:
    """The rules of DESIGN.md, "Who may import whom"."""
    top, other = module.split(".")[0], imported.split(".")[0]
    if other == "build_scripts":
        yield "nothing imports build_scripts"
    if top == "runtime" and other not in {*sys.stdlib_module_names, "platformdirs", "runtime"}:
        yield "runtime imports the standard library and platformdirs only"
    if {top, other} == {"bundler", "launcher"}:
        yield "bundler and launcher do not import each other"
    if module in FACES and any(imported == face or imported.startswith(face + ".") for face in FACES - {module}):
        yield "faces do not import each other"
    if module == "launcher.chat" and imported in FACES:
        yield "the conversation imports no face"
    if other in {"rich", "markdown_it"} and top != "bundler" and module not in PAINTING:
        yield "rich stays in what only the chat in a terminal imports"
    if other == "prompt_toolkit" and module != "launcher.prompt":
        yield "prompt_toolkit stays in launcher.prompt"
    if imported in PAINTING | {"launcher.prompt", "launcher.terminal_ui"} and module not in CHAT_IN_A_TERMINAL:
        yield "only the chat in a terminal pays for painting"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_rules(path: Path) -> None:
    broken = {f"{name}: {rule}" for name in imports(path) for rule in broken_rules(name_of(path), name)}
    assert not broken


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_heavy_is_imported_with_the_module(path: Path) -> None:
    heavy = {"rich", "markdown_it", "prompt_toolkit", "PyInstaller", "gguf", "numpy", "llama_cpp", "asyncio"}
    allowed = heavy if name_of(path) in {"launcher.prompt", "launcher.markdown", "bundler.freeze"} else set()
    assert not {name.split(".")[0] for name in at_import(path)} & (heavy - allowed)


def test_the_platform_is_asked_in_few_places() -> None:
    asking = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr == "platform"
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
    }
    assert {name for name in asking if not name.startswith("bundler.platforms")} <= {"runtime.paths"}


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("runtime.bundle", "launcher.chat"),
        ("runtime.bundle", "rich"),
        ("bundler.base", "launcher"),
        ("launcher.cli", "bundler.model"),
        ("launcher.cli", "launcher.repl"),
        ("launcher.chat", "launcher.cli"),
        ("launcher.cli", "rich.live"),
        ("launcher.console", "prompt_toolkit"),
        ("launcher.repl", "prompt_toolkit"),
        ("launcher.console", "rich"),
        ("launcher.cli", "launcher.painter"),
        ("bundler.base", "build_scripts.steps"),
    ],
)
def test_the_rules_catch_what_they_forbid(module: str, imported: str) -> None:
    assert list(broken_rules(module, imported))
