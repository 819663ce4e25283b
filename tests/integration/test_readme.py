"""Every command that the README shows is run here, on a real bundle, and prints what the README says.

A ```console block holds commands after `$ ` and what they print; `...` stands for anything. A line that starts a
chat is followed by `>>> ` lines, which are typed into a pseudo-terminal.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Runner

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Run by CI itself, which is this test suite and its preparation; a test cannot start them.
RUN_BY_CI = ("python3 build_scripts/demo.py", "python3 build_scripts/test.py")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One command of the README, what it prints, and what is typed into it."""

    command: str
    output: tuple[str, ...]

    @property
    def typed(self) -> list[str]:
        return [line[4:] for line in self.output if line.startswith(">>> ")]


def examples() -> Iterator[Example]:
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.rstrip("\n").split("\n")
            yield Example(command=command, output=tuple(output))


EXAMPLES = list(examples())


def pattern(lines: tuple[str, ...]) -> re.Pattern[str]:
    """The output with `...` for anything, and white space at line ends ignored."""
    text = "\n".join(line.rstrip() for line in lines)
    return re.compile(".*".join(map(re.escape, text.split("..."))) + r"\s*", re.DOTALL)


@pytest.fixture(scope="module")
def desk(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README's reader has it: dist/qwen3.run, a model, some text."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "dist").mkdir()
    shutil.copy(demo_bundle, folder / "dist/qwen3.run")
    shutil.copy(ROOT / "bundler/demo/demo.gguf", folder / "model.gguf")
    (folder / "notes.txt").write_text("My name is Ada.\n")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def test_the_readme_has_examples_of_every_face() -> None:
    commands = " ".join(example.command for example in EXAMPLES)
    for words in ("--cli", "--server", "qwenfile build", "qwenfile inspect", *RUN_BY_CI):
        assert words in commands, words
    assert any(example.typed for example in EXAMPLES)


def plain(example: Example) -> bool:
    return not example.typed and example.command not in RUN_BY_CI and not example.command.rstrip().endswith("&")


@pytest.mark.parametrize("example", [example for example in EXAMPLES if plain(example)], ids=lambda e: e.command)
def test_command(run: Runner, desk: Path, example: Example) -> None:
    done = run("bash", "-c", example.command, cwd=desk)
    assert done.code == 0, done.err
    # Progress and notices go to stderr; the README shows what a terminal shows.
    shown = "\n".join(line.rstrip() for line in (done.err + done.out).splitlines())
    assert pattern(example.output).fullmatch(shown), shown
