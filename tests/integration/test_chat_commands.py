"""Every command of the chat, typed into a real pseudo-terminal on a real bundle: what the screen shows."""

import gzip
import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.commands import COMMANDS
from tests.integration.conftest import Runner
from tests.integration.terminal import CTRL_C, TAB, Terminal
from tests.integration.test_chat_terminal import open_chat

DIRECT = ("--nothink",)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def chat(run: Runner, demo_bundle: Path, home: Path) -> Iterator[Terminal]:
    """A chat that answers directly and repeatably."""
    it = open_chat(run, demo_bundle, home, *DIRECT)
    yield it
    it.kill()


def flat(text: str) -> str:
    """What a screen shows, with lines broken by its width joined."""
    return " ".join(text.split())


def test_the_conversation_can_be_changed(chat: Terminal) -> None:
    assert "My name is Ada" in chat.ask("My name is Ada.")
    chat.ask("What is the capital of France?")
    assert "taken back: What is the capital of France?" in chat.ask("/undo")
    assert "position 1: after 1 turn, My name is Ada." in chat.ask("/push")
    assert "Rome" in chat.ask("What is the capital of Italy?")
    assert "1 after 1 turn" in flat(chat.ask("/stack"))
    assert "back after 1 turn" in chat.ask("/pop")
    assert "no position" in chat.ask("/pop")
    assert "Ada" in chat.ask("What is my name?")
    again = flat(chat.ask("/retry"))
    assert "at temperature 0 a new seed changes nothing" in again
    assert "Ada" in again
    dump = chat.ask("/dump")
    for words in ("<|im_start|>user", "My name is Ada.<|im_end|>", "<|im_start|>assistant"):
        assert words in dump
    assert "forgotten: My name is Ada." in chat.ask("/forget")
    assert "My name is Ada" not in chat.ask("/dump")
    assert "conversation cleared" in chat.ask("/clear")
    assert "0 turns" in chat.ask("/context")
    assert "no system prompt" in chat.ask("/system")
    assert "system prompt set" in chat.ask("/system Always answer in capital letters.")
    assert "ROME" in chat.ask("What is the capital of Italy?")


def test_thinking_is_shown_folded_or_hidden(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home)
    folded = it.ask("What is 2+3?")
    assert re.search(r"thought for \d+\.\d s\n\n.*5", folded, re.DOTALL)
    assert "thinking is shown" in it.ask("/think show")
    shown = it.ask("What is 4+3?")
    assert "thought for" not in shown
    assert len(shown.splitlines()) >= 4
    assert "thinking is hidden" in it.ask("/think hide")
    assert it.ask("What is 2+6?").splitlines()[1].startswith(("2 + 6", "2+6", "8"))
    assert "thinking is off" in it.ask("/think off")
    assert "thinking is on unless" in it.ask("/think auto")
    assert "thinking is on" in it.ask("/think on")
    it.kill()


def test_sampling_values(chat: Terminal) -> None:
    assert re.search(r"temperature +0 +flag", chat.ask("/show"))
    assert "top_p is 0.5" in chat.ask("/set top_p 0.5")
    shown = chat.ask("/show")
    assert re.search(r"top_p +0\.5 +set", shown)
    assert re.search(r"top_k +20 +preset", shown)
    assert "out of range" in chat.ask("/set temperature -1")


def test_statistics_and_the_cache(chat: Terminal) -> None:
    """Turn n reads its own tokens only: all that came before is in the engine's cache."""
    read, known = [], []
    for question in ("My name is Ada.", "What is the capital of France?", "What is my name?", "Hello!"):
        chat.ask(question)
        found = re.search(r"prompt +([\d,]+) tokens.*?([\d,]+) more from the cache", flat(chat.ask("/stats")))
        assert found
        read.append(int(found[1].replace(",", "")))
        known.append(int(found[2].replace(",", "")))
    # An answer and a question are fewer than 40 tokens each; nothing earlier is read a second time.
    assert max(read) <= 40
    assert known == sorted(known)
    assert known[-1] + read[-1] > 2 * read[-1]
    assert "first token after" in chat.ask("/stats")


def test_conversations_are_kept(run: Runner, demo_bundle: Path, home: Path, chat: Terminal) -> None:
    chat.ask("My name is Ada.")
    assert "saved as greetings" in chat.ask("/save greetings")
    assert re.search(r"\* greetings .* 1 turn", chat.ask("/sessions"))
    chat.type("/load gr" + TAB)
    chat.wait_for(r">>> /load greetings")
    chat.type(CTRL_C)
    chat.signal(signal.SIGKILL)
    chat.end()
    again = open_chat(run, demo_bundle, home, *DIRECT, "--resume")
    assert "loaded 1 turn" in again.text
    assert "Ada" in again.ask("What is my name?")
    other = open_chat(run, demo_bundle, home, *DIRECT)  # two chats of one bundle at once
    assert "in a copy" in other.ask("/load greetings")
    assert "Ada" in other.ask("What is my name?")
    assert "no conversation gretings (did you mean greetings" in flat(other.ask("/load gretings"))
    foreign = home / "foreign.jsonl"
    foreign.write_bytes(b"\x00\xff rubbish\n" * 100)
    assert "is no conversation" in flat(other.ask(f"/load {foreign}"))
    for it in (again, other):
        it.kill()


def test_a_crash_in_the_middle_of_an_answer_loses_nothing(run: Runner, demo_bundle: Path, home: Path) -> None:
    endless = ("-c", "32768", "--ignore-eos", "--grammar", 'root ::= "1 2 3 4 5 6 7 8 " "word "+')
    it = open_chat(run, demo_bundle, home, *DIRECT, *endless)
    it.enter("count forever")
    it.wait_for("1 2 3 4 5 6 7 8")
    it.signal(signal.SIGKILL)
    assert it.end() == 128 + signal.SIGKILL
    again = open_chat(run, demo_bundle, home, *DIRECT, "--resume")
    assert "count forever" in again.ask("/dump")
    again.kill()


def test_files_are_told_before_they_are_added(run: Runner, demo_bundle: Path, home: Path) -> None:
    (home / "my notes.txt").write_text("Some notes. " * 20)
    (home / "long.txt").write_text("The quick brown fox. " * 500)
    (home / "x.bin").write_bytes(b"\x7fELF\0\xff")
    command = [
        "bash",
        "-c",
        f'cd "{home}" && exec "$0" "$@"',
        demo_bundle,
        "-t",
        "1",
        "--temp",
        "0",
        *DIRECT,
        "-c",
        "512",
    ]
    it = Terminal(command, {**run.env, "HOME": str(home)})
    it.wait_for(">>>")
    it.type("/file my" + TAB)
    it.wait_for(r'>>> /file "my notes.txt"')
    it.ask("")
    assert re.search(r"my notes.txt: \d+ tokens\n\d+ of 512 tokens are left", it.text)
    context = it.ask("/context")
    assert re.search(r"files +\d+ \(my notes.txt\)", context)
    assert "start with -c 1024 for 512 more" in context
    assert re.search(
        r"long.txt has [\d,]+ tokens, the context holds 512, \d+ of them used \(start with -c",
        flat(it.ask("/upload long.txt")),
    )
    assert "x.bin is not UTF-8 text" in flat(it.ask("/file x.bin"))
    assert it.ask("Hello!")
    it.kill()


def test_a_book_from_the_command_line(run: Runner, demo_bundle: Path, home: Path) -> None:
    book = home / "book.txt"
    book.write_text("The quick brown fox. " * 400)
    command = [demo_bundle, "-t", "1", "--temp", "0", *DIRECT, "-c", "1024", "-f", book]
    it = Terminal(command, {**run.env, "HOME": str(home)})
    assert it.end() == 4
    assert re.search(r"book.txt has [\d,]+ tokens, the context holds 1,024 \(start with -c \d+ or more", flat(it.text))
    cut = open_chat(run, demo_bundle, home, *DIRECT, "-c", "1024", "-f", str(book), "--truncate")
    assert "cut after its first 768 tokens" in cut.text
    assert re.search(r"\d+ of 1,024 tokens are left", cut.text)
    cut.kill()


def test_the_context_overflows_with_choices(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, *DIRECT, "-c", "256")
    told = flat(it.ask("word " * 150)) + flat(it.ask("word " * 150))
    assert re.search(r"this turn makes \d+ tokens of conversation, the context holds 256 \(/forget", told)
    assert "1 turn" in it.ask("/context")
    it.ask("/forget")
    assert "this turn makes" not in flat(it.ask("/retry"))
    assert "1 turn" in it.ask("/context")
    it.kill()
    auto = open_chat(run, demo_bundle, home, *DIRECT, "-c", "256", "--auto-forget")
    auto.ask("word " * 150)
    assert "forgot the oldest exchange" in flat(auto.ask("word " * 150))
    auto.kill()


def test_export_copy_and_edit(run: Runner, demo_bundle: Path, home: Path) -> None:
    editor = home / "editor"
    editor.write_text("#!/bin/sh\necho 'What is the capital of Japan?' > \"$1\"\n")
    editor.chmod(0o755)
    it = open_chat(run, demo_bundle, home, *DIRECT, EDITOR=str(editor))
    assert "Tokyo" in it.ask("/edit")
    it.type("\x07")  # Ctrl-G
    it.wait_for(r">>> What is the capital of Japan\?")
    assert "Tokyo" in it.ask("")
    assert "written" in it.ask(f"/export {home}/talk.md")
    assert "The capital of Japan is Tokyo." in (home / "talk.md").read_text()
    it.ask(f"/export {home}/talk.json")
    assert json.loads((home / "talk.json").read_text())["messages"][0]["role"] == "user"
    assert "copied" in it.ask("/copy")
    assert b"\x1b]52;c;VGhlIGNhcGl0YWwgb2YgSmFwYW4gaXMgVG9reW8u\x07" in it.raw
    it.kill()


def test_serve_opens_the_page_and_the_api(chat: Terminal) -> None:
    told = chat.ask("/serve 0")
    url = re.search(r"page +(http://127\.0\.0\.1:\d+)", told)
    assert url
    page = urllib.request.Request(url[1] + "/", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(page) as response:
        assert b"<html" in gzip.decompress(response.read()).lower()
    body = {"messages": [{"role": "user", "content": "What is the capital of Japan? /no_think"}], "temperature": 0}
    ask = urllib.request.Request(
        url[1] + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(ask) as response:
        assert "Tokyo" in json.load(response)["choices"][0]["message"]["content"]
    ask.add_header("Origin", "http://evil.example")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(ask)
    assert "open already" in flat(chat.ask("/serve 1"))
    assert "Paris" in chat.ask("What is the capital of France?")


def test_chat_and_server_together(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, "--chat", "--server", "--port", "0", "--nobrowser", *DIRECT)
    url = re.search(r"page +(http://127\.0\.0\.1:\d+)", it.text)
    assert url
    with urllib.request.urlopen(url[1] + "/health") as response:
        assert response.status == 200
    it.kill()


def test_every_command_has_its_line_of_help(chat: Terminal) -> None:
    told = flat(chat.ask("/help"))
    for command in COMMANDS:
        assert command.usage in told
        assert flat(command.help) in told
    assert all(len(line) <= 80 for line in chat.text.splitlines())
    assert "also /bye" in chat.ask("/help exit")
    assert chat.ask("/etc/hosts is a file")
