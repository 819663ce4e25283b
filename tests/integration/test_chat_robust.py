"""The chat with unusual input, interrupted, without a place to write, without a terminal; on a real bundle."""

import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.integration.conftest import TIMEOUT, Chats, Runner
from tests.integration.terminal import BEGINNING, CTRL_C, CTRL_D, DIRECT, ENTER, Terminal, flat


def test_reading_a_long_prompt_is_shown_and_can_be_stopped(open_chat: Chats) -> None:
    it = open_chat(*DIRECT, "-c", "32768", "-b", "16", "-ub", "16")
    it.type("\x1b[200~" + "word " * 20_000 + "\x1b[201~")
    for enter in (ENTER, "/retry" + ENTER):
        start = len(it.text)
        it.type(enter)
        it.wait_for(r"reading [\d,]+ of 20,\d\d\d tokens \(\d+ %\), [\d,]+ tokens/s", after=start)
        it.type(CTRL_C)
        it.wait_for(r"\[interrupted\].*\n>>>$", after=start)
        assert "reading" not in it.text  # the line made way
        assert "0 turns" in it.ask("/context")


def test_a_stopped_answer_is_in_the_conversation(endless: Terminal, home: Path) -> None:
    endless.enter("count forever")
    endless.wait_for(BEGINNING)
    endless.type(CTRL_C)
    endless.wait_for(r"\[interrupted\].*\n>>>$")
    assert re.search(r"used +[\d,]*\d\d of", endless.ask("/context"))
    assert BEGINNING in endless.ask("/dump")
    endless.ask(f"/export {home}/talk.md")
    assert f"## Answer (interrupted)\n\n{BEGINNING}" in (home / "talk.md").read_text()


def test_input_of_every_kind(chat: Terminal) -> None:
    for line in ("", "   ", "\t "):
        assert chat.ask(line) == line.strip()
    chat.send(b"caf\xc3\xa9 \xff\xfe \xed\xb2\x80 \x00 end")
    assert "café" in chat.ask("")
    chat.send(b"y" * 100_000)
    assert "the context holds 4,096" in flat(chat.ask(""))
    chat.send(b"\x1b[200~" + b"word " * 200_000 + b"\x1b[201~")
    assert "the context holds 4,096" in flat(chat.ask(""))
    assert "1,000,000 characters" in chat.text
    assert "Paris" in chat.ask("What is the capital of France?")


@pytest.mark.parametrize("broken", [".local", ".local/state/qwenfile/sessions"])
def test_a_state_folder_that_cannot_be_written_is_said_once(open_chat: Chats, home: Path, broken: str) -> None:
    (home / broken).parent.mkdir(parents=True, exist_ok=True)
    (home / broken).write_text("a file where a folder should be")
    it = open_chat(*DIRECT)
    it.ask("Hello!")
    it.ask("What is the capital of France?")
    assert flat(it.text).count("will not be kept") == 1
    assert "not kept here" in flat(it.ask("/sessions"))
    it.type(CTRL_D)
    assert it.end() == 0


def test_no_history_leaves_nothing(open_chat: Chats, home: Path) -> None:
    it = open_chat(*DIRECT, "--no-history")
    it.ask("Hello!")
    assert "not kept here" in flat(it.ask("/save x"))
    it.type(CTRL_D)
    assert it.end() == 0
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("stdin", ["</dev/null", "<&-"], ids=["null", "closed"])
def test_a_click_on_the_icon_opens_the_page(run: Runner, demo_bundle: Path, home: Path, stdin: str) -> None:
    browser, seen = home / "browser", home / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{seen}.new" && mv "{seen}.new" "{seen}"\n')
    browser.chmod(0o755)
    env = {**run.env, "HOME": str(home), "DISPLAY": ":99", "BROWSER": str(browser)}
    program = subprocess.Popen(
        ["bash", "-c", f'exec "$0" {stdin}', demo_bundle], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
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


def test_an_answer_that_goes_into_a_file_is_no_chat(open_chat: Chats, home: Path) -> None:
    """stdin is the terminal, stdout is not: nobody would see a prompt, and nothing was asked."""
    it = open_chat.start(before=f'"$0" "$@" > {home}/out; echo "code $?"; exit')
    it.wait_for(r"code 2$")
    assert "no prompt (give one after -p" in it.text
    assert (home / "out").read_text() == ""
