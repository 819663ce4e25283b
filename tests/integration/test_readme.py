"""Every command that the README shows is run here, on a real bundle, and prints what the README says.

A ```console block holds commands after `$ ` and what they print; `...` stands for anything. A line that starts a
chat is followed by `>>> ` lines, which are typed into a pseudo-terminal.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Runner
from tests.integration.terminal import Terminal

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
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def test_the_readme_has_examples_of_every_face() -> None:
    commands = " ".join(example.command for example in EXAMPLES)
    for words in ("--cli", "--server", "qwenfile build", "qwenfile inspect", *RUN_BY_CI):
        assert words in commands, words
    assert any(example.typed for example in EXAMPLES)


def check(run: Runner, desk: Path, example: Example) -> None:
    done = run("bash", "-c", example.command, cwd=desk)
    assert done.code == 0, done.err
    # Progress and notices go to stderr; the README shows what a terminal shows.
    shown = "\n".join(line.rstrip() for line in (done.err + done.out).splitlines())
    assert pattern(example.output).fullmatch(shown), shown


def plain(example: Example) -> bool:
    return not example.typed and example.command not in RUN_BY_CI and "http://" not in example.command


@pytest.mark.parametrize(
    "example", [e for e in EXAMPLES if plain(e) and not e.command.endswith("&")], ids=lambda e: e.command
)
def test_command(run: Runner, desk: Path, example: Example) -> None:
    check(run, desk, example)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.command.endswith("&")], ids=lambda e: e.command)
def test_server(run: Runner, desk: Path, example: Example) -> None:
    """A server in the background, and every request that the README sends to its port."""
    found = re.search(r"--port (\d+)", example.command)
    assert found
    address = f"http://127.0.0.1:{found.group(1)}"
    command = example.command.removesuffix("&").split()
    server = subprocess.Popen(command, cwd=desk, env=dict(run.env), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(address + "/health", server)
        requests = [e for e in EXAMPLES if address in e.command]
        assert requests
        for request in requests:
            check(run, desk, request)
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(url).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    pytest.fail(f"the server ended with {server.returncode}")


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.typed], ids=lambda e: e.command)
def test_chat(run: Runner, desk: Path, example: Example) -> None:
    """Type what the README types; the screen must show what the README shows, in its order."""
    terminal = Terminal(["bash", "-c", f"cd {desk} && {example.command}"], run.env, columns=120, rows=50)
    expected = r"\A"
    for line in example.output:
        if line.startswith((">>> ", "... ")):
            # The prompt must stand at the end of the screen, empty, before anything is typed.
            terminal.wait_for(expected + ".*" + re.escape(line[:3]) + r"\Z")
            terminal.enter(line[4:])
            expected += ".*" + re.escape(line.rstrip())
        else:
            expected += ".*" + ".*".join(map(re.escape, line.rstrip().split("...")))
    assert terminal.end() == os.EX_OK
    assert re.search(expected, terminal.text, re.DOTALL), terminal.text
