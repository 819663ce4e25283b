"""The chat when things go wrong or are unusual: interruptions, bad input, odd terminals, faults; on a real bundle."""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.bundle import MODEL, Bundle
from tests.integration.conftest import TIMEOUT, Runner
from tests.integration.terminal import CTRL_C, CTRL_D, Terminal
from tests.integration.test_chat_commands import flat
from tests.integration.test_chat_terminal import open_chat

DIRECT = ("--nothink",)
# An answer that takes long however fast the machine is.
ENDLESS = (*DIRECT, "-c", "32768", "--ignore-eos", "--grammar", 'root ::= "1 2 3 4 5 6 7 8 " "word "+')


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def chat(run: Runner, demo_bundle: Path, home: Path) -> Iterator[Terminal]:
    it = open_chat(run, demo_bundle, home, *DIRECT)
    yield it
    it.kill()


@pytest.fixture
def endless(run: Runner, demo_bundle: Path, home: Path) -> Iterator[Terminal]:
    it = open_chat(run, demo_bundle, home, *ENDLESS)
    yield it
    it.kill()


def send(it: Terminal, data: bytes) -> None:
    """Type bytes as they are, in pieces, taking what the program answers meanwhile."""
    for at in range(0, len(data), 1000):
        it._child.send(data[at : at + 1000])
        it.look(0.001)


def test_reading_a_long_prompt_is_shown_and_can_be_stopped(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, *DIRECT, "-b", "16", "-ub", "16")
    it.type("\x1b[200~" + "word " * 3000 + "\x1b[201~\r")
    it.wait_for(r"reading [\d,]+ of 3,\d\d\d tokens \(\d+ %\)")
    it.type(CTRL_C)
    it.wait_for(r"\[interrupted\].*\n>>>$")
    assert "reading" not in it.text  # the line made way
    assert "0 turns" in it.ask("/context")
    assert it.ask("/retry")
    assert "1 turn" in it.ask("/context")
    it.kill()


def test_a_stopped_answer_is_in_the_conversation(endless: Terminal) -> None:
    endless.enter("count forever")
    endless.wait_for("1 2 3 4 5 6 7 8")
    endless.type(CTRL_C)
    endless.wait_for(r"\[interrupted\].*\n>>>$")
    assert re.search(r"used +\d\d", endless.ask("/context"))
    assert "1 2 3 4 5 6 7 8" in endless.ask("/dump")


def test_input_of_every_kind(chat: Terminal) -> None:
    for line in ("", "   ", "\t "):
        assert chat.ask(line) == line.strip()
    send(chat, b"caf\xc3\xa9 \xff\xfe \xed\xb2\x80 \x00 end")
    assert "café" in chat.ask("")
    send(chat, b"y" * 100_000)
    assert "the context holds 4,096" in flat(chat.ask(""))
    send(chat, b"\x1b[200~" + b"word " * 200_000 + b"\x1b[201~")
    assert "the context holds 4,096" in flat(chat.ask(""))
    assert "1,000,000 characters" in chat.text
    assert "Paris" in chat.ask("What is the capital of France?")


def test_searching_in_the_history_and_suggestions_from_it(chat: Terminal) -> None:
    chat.ask("What is the capital of France?")
    chat.ask("Hello!")
    chat.type("\x12capital")  # Ctrl-R
    chat.wait_for(r">>> What is the capital of France\?.*I-search backward: capital")
    chat.type("\r")  # takes the line, which waits for another Enter
    chat.wait_for(r">>> What is the capital of France\?$")
    chat.type(CTRL_C)
    chat.wait_for(r">>>$")
    chat.type("\x12cap" + CTRL_C)
    chat.wait_for(r">>>$")
    chat.type("What is")
    chat.wait_for(r">>> What is the capital of France\?")  # in grey
    chat.type("\x1b[C")  # the right arrow takes it
    assert "Paris" in chat.ask("")
    chat.type("/set")
    chat.wait_for(r">>> /set NAME VALUE")
    chat.type(CTRL_C)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_wide_text_at_every_width(run: Runner, demo_bundle: Path, home: Path, columns: int) -> None:
    words = "汉字 🙂 **bold** `code` " * 12
    grammar = 'root ::= "' + words + r'\n\n| 名 | b |\n|---|---|\n| 千问 | 🙂 |\n\n- one\n- two"'
    env = {**run.env, "HOME": str(home)}
    it = Terminal([demo_bundle, "-t", "1", *DIRECT, "--nologo", "--grammar", grammar], env, columns=columns)
    it.wait_for(">>>")
    answer = it.ask("Hello!")
    assert answer.replace(" ", "").replace("\n", "").count("汉字🙂boldcode") == 12
    assert "千问" in answer.replace(" ", "")
    assert " • two" in answer
    it.kill()


def test_ascii_and_no_colour(run: Runner, demo_bundle: Path, home: Path) -> None:
    grammar = r'root ::= "# Head\n\n- item\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n```"'
    it = open_chat(run, demo_bundle, home, "--ascii", "--grammar", grammar, *DIRECT, NO_COLOR="1")
    answer = it.ask("Hello!")
    assert answer.isascii()
    assert "* item" in answer
    assert "x = 1" in answer
    assert not re.search(rb"\x1b\[[\d;]*3[0-7][\d;]*m", it.raw.split(b"Hello!")[-1].split(b">>>")[0])
    it.kill()


def test_a_window_resized_while_the_model_speaks(endless: Terminal) -> None:
    endless.enter("count forever")
    endless.wait_for("1 2 3 4 5 6 7 8")
    endless._child.setwinsize(24, 40)
    endless.screen.resize(24, 40)
    endless.type(CTRL_C)
    endless.wait_for(r"\[interrupted\].*\n>>>$")
    assert "1turn" in "".join(endless.ask("/context").split())  # broken by the narrow window


def test_a_model_that_vanishes_is_one_line(run: Runner, demo_bundle: Path, home: Path) -> None:
    bundle = home / "copy.run"
    shutil.copy(demo_bundle, bundle)
    it = open_chat(run, bundle, home, *DIRECT)
    it.ask("My name is Ada.")
    os.truncate(bundle, Bundle.open(demo_bundle).require(MODEL).offset + 4096)
    it.enter("What is my name?")
    assert it.end() == 1  # now, or already before it has read the question
    said = "copy: the model's file was changed, cut short or became unreadable while in use"
    shown = "".join(it.text.split())  # the terminal breaks lines anywhere
    assert shown.endswith("".join(said.split()))
    assert shown.count("copy:") == 1
    again = open_chat(run, demo_bundle, home, *DIRECT, "--resume")
    assert "My name is Ada." in again.ask("/dump")
    again.kill()


def test_a_state_folder_that_cannot_be_written_is_said_once(run: Runner, demo_bundle: Path, home: Path) -> None:
    state = home / ".local/state/qwenfile"
    state.mkdir(parents=True)
    (state / "sessions").write_text("a file where a folder should be")
    it = open_chat(run, demo_bundle, home, *DIRECT)
    it.ask("Hello!")
    it.ask("What is the capital of France?")
    assert it.text.count("will not be kept") == 1
    assert "not kept here" in flat(it.ask("/sessions"))
    it.type(CTRL_D)
    assert it.end() == 0


def test_no_history_leaves_nothing(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, *DIRECT, "--no-history")
    it.ask("Hello!")
    assert "not kept here" in flat(it.ask("/save x"))
    it.type(CTRL_D)
    assert it.end() == 0
    assert list(home.iterdir()) == []


def test_a_click_on_the_icon_opens_the_page(run: Runner, demo_bundle: Path, home: Path) -> None:
    browser, seen = home / "browser", home / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{seen}.new" && mv "{seen}.new" "{seen}"\n')
    browser.chmod(0o755)
    env = {**run.env, "HOME": str(home), "DISPLAY": ":99", "BROWSER": str(browser)}
    program = subprocess.Popen(
        [demo_bundle], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + TIMEOUT
        while not seen.exists():
            assert program.poll() is None, program.stdout and program.stdout.read().decode()
            assert time.monotonic() < end
            time.sleep(0.02)
        with urllib.request.urlopen(seen.read_text().strip() + "/health") as response:
            assert response.status == 200
    finally:
        program.send_signal(signal.SIGTERM)
        program.wait(timeout=TIMEOUT)
        if program.stdout:
            program.stdout.close()


def test_piped_text_is_answered_once(run: Runner, demo_bundle: Path) -> None:
    done = run(demo_bundle, "-t", "1", "--temp", "0", input="What is the capital of France?\n")
    assert (done.code, done.out) == (0, "The capital of France is Paris.\n")
