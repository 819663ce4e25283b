"""The commands of the chat, typed into a real pseudo-terminal on a real bundle: what the screen shows.
`chat_transcript.txt` has each of them; below are those that need more than a line."""

import gzip
import json
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from launcher.commands import COMMANDS
from tests.integration.conftest import ROOT, Chats
from tests.integration.terminal import CTRL_C, DIRECT, TAB, Terminal, flat

TRANSCRIPT = (ROOT / "tests/integration/chat_transcript.txt").read_text(encoding="utf-8")
# Typed text and what it shows, itself included.
EXCHANGES = [part.rstrip("\n") for part in TRANSCRIPT.split("\n>>> ")[1:]]


def editor(home: Path) -> str:
    """An editor that writes a question."""
    path = home / "editor"
    path.write_text("#!/bin/sh\necho 'What is the capital of Japan?' > \"$1\"\n")
    path.chmod(0o755)
    return str(path)


def test_the_transcript_has_every_command() -> None:
    typed = " ".join(exchange.split("\n")[0] for exchange in EXCHANGES) + " "
    assert [command.name for command in COMMANDS if f"{command.name} " not in typed] == []


def test_every_command_says_what_was_recorded(open_chat: Chats, home: Path) -> None:
    (home / "notes.txt").write_text("My name is Ada.\n")
    (home / "my notes.txt").write_text("Some notes. " * 20)
    it = open_chat(*DIRECT, before='cd "$HOME"', EDITOR=editor(home))
    *exchanges, last = EXCHANGES
    for exchange in exchanges:
        expected = exchange.splitlines()
        shown = it.ask(expected[0])
        assert len(shown.splitlines()) == len(expected), shown
        for line, pattern in zip(shown.splitlines(), expected, strict=True):
            assert re.fullmatch(".*".join(map(re.escape, pattern.split("..."))), line.rstrip()), shown
    it.enter(last)
    assert it.end() == 0
    assert b"\x1b]52;c;WW91ciBuYW1lIGlzIEFkYS4=\x07" in it.raw  # "Your name is Ada."
    assert "## Answer\n\nYour name is Ada.\n" in (home / "talk.md").read_text()
    messages = json.loads((home / "talk.json").read_text())["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]


def test_thinking_is_shown_folded_or_hidden(open_chat: Chats) -> None:
    it = open_chat()
    folded = it.ask("What is 2+3?")
    assert re.search(r"thought for \d+\.\d s\n\n.*5", folded, re.DOTALL)
    it.ask("/think show")
    shown = it.ask("What is 4+3?")
    assert "thought for" not in shown
    assert len(shown.splitlines()) >= 4
    it.ask("/think hide")
    assert it.ask("What is 2+6?").splitlines()[1].startswith(("2 + 6", "2+6", "8"))
    dump = it.ask("/dump")
    assert re.findall(r"<think>(.*?)</think>", dump, re.DOTALL)[:-1] == []  # the history carries no thinking


def test_sampling_follows_the_mode_of_the_turn(open_chat: Chats) -> None:
    """Qwen3's published presets; what a flag sets stays in both modes."""
    it = open_chat("--top-k", "5")
    direct, thinking = r"top_p +0\.8 +preset\n *top_k +5 +flag", r"top_p +0\.95 +preset\n *top_k +5 +flag"
    shown = it.ask("/show")
    assert "thinking:" in shown
    assert re.search(thinking, shown)
    it.ask("Hello! /no_think")
    shown = it.ask("/show")
    assert "not thinking:" in shown
    assert re.search(direct, shown)
    it.ask("/think on")
    assert re.search(thinking, it.ask("/show"))
    it.ask("/think off")
    assert re.search(direct, it.ask("/show"))


@pytest.mark.parametrize("mode", ["--nothink", "--think"])
def test_statistics_and_the_cache(open_chat: Chats, mode: str) -> None:
    """Turn n reads its own tokens only: all that came before is in the engine's cache."""
    chat = open_chat(mode)
    read, known = [], []
    for question in ("My name is Ada.", "What is the capital of France?", "What is my name?", "Hello!"):
        chat.ask(question)
        found = re.search(r"prompt +([\d,]+) tokens.*?([\d,]+) more from cache", flat(chat.ask("/stats")))
        assert found
        read.append(int(found[1].replace(",", "")))
        known.append(int(found[2].replace(",", "")))
    # An answer and a question are fewer than 40 tokens each; nothing earlier is read a second time.
    assert max(read) <= 40
    assert known == sorted(known)
    assert known[-1] + read[-1] > 2 * read[-1]


def test_conversations_are_kept(open_chat: Chats, home: Path, chat: Terminal) -> None:
    assert "there is no conversation to resume" in open_chat(*DIRECT, "--resume", HOME=str(home / "other")).text
    chat.ask("My name is Ada.")
    chat.ask("/save greetings")
    assert re.search(r"\* greetings .* 1 turn", chat.ask("/sessions"))
    chat.type("/load gr" + TAB)
    chat.wait_for(r">>> /load greetings")
    chat.type(CTRL_C)
    chat.signal(signal.SIGKILL)
    chat.end()
    again = open_chat(*DIRECT, "--resume")
    assert "loaded 1 turn" in again.text
    assert "Ada" in again.ask("What is my name?")
    other = open_chat(*DIRECT)  # two chats of one bundle at once
    assert "in a copy" in other.ask("/load greetings")
    assert "Ada" in other.ask("What is my name?")
    (home / "foreign.jsonl").write_bytes(b"\x00\xff rubbish\n" * 100)
    assert "is no conversation" in flat(other.ask(f"/load {home}/foreign.jsonl"))
    saved = (home / ".local/state/qwenfile/sessions/greetings.jsonl").read_bytes().split(b"\n")
    (home / "damaged.jsonl").write_bytes(b"\n".join([*saved[:2], b'{"role": "us', *saved[2:]]))
    assert "is damaged in line 3" in flat(other.ask(f"/load {home}/damaged.jsonl"))
    assert "Ada" in other.ask("What is my name?")


def test_files_are_told_before_they_are_added(open_chat: Chats, home: Path) -> None:
    (home / "my notes.txt").write_text("Some notes. " * 20)
    (home / "long.txt").write_text("The quick brown fox. " * 500)
    (home / "x.bin").write_bytes(b"\x7fELF\0\xff")
    it = open_chat(*DIRECT, "-c", "512", before='cd "$HOME"')
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


def test_a_book_from_the_command_line(open_chat: Chats, home: Path) -> None:
    book = home / "book.txt"
    book.write_text("The quick brown fox. " * 400)
    it = open_chat.start(*DIRECT, "-c", "1024", "-f", book)
    assert it.end() == 4
    assert re.search(r"book.txt has [\d,]+ tokens, the context holds 1,024 \(start with -c \d+ or more", flat(it.text))
    cut = open_chat(*DIRECT, "-c", "1024", "-f", book, "--truncate")
    assert "cut after its first 768 tokens" in cut.text
    assert re.search(r"\d+ of 1,024 tokens are left", cut.text)
    whole = open_chat(*DIRECT, "-c", "4096", "-f", book)
    assert re.search(r"book.txt: [\d,]+ tokens\n[\d,]+ of 4,096 tokens are left", whole.text)
    assert "The quick brown fox. The quick brown fox." in whole.ask("/dump")


def test_the_context_overflows_with_choices(open_chat: Chats) -> None:
    it = open_chat(*DIRECT, "-c", "256")
    assert "the context holds 256" in flat(it.ask("word " * 500))
    assert "0 turns" in it.ask("/context")
    told = flat(it.ask("word " * 150)) + flat(it.ask("word " * 150))
    assert re.search(r"this turn makes \d+ tokens of conversation, the context holds 256 \(/forget", told)
    assert "1 turn" in it.ask("/context")
    it.ask("/forget")
    assert "this turn makes" not in flat(it.ask("/retry"))
    assert "1 turn" in it.ask("/context")
    auto = open_chat(*DIRECT, "-c", "256", "--auto-forget")
    auto.ask("word " * 150)
    assert "forgot the oldest exchange" in flat(auto.ask("word " * 150))


def test_ctrl_g_opens_the_editor(open_chat: Chats, home: Path) -> None:
    it = open_chat(*DIRECT, EDITOR=editor(home))
    it.type("\x07")
    it.wait_for(r">>> What is the capital of Japan\?$")
    assert "Tokyo" in it.ask("")


def test_serve_opens_the_page_and_the_api(chat: Terminal) -> None:
    url = re.search(r"page +(http://127\.0\.0\.1:\d+)", chat.ask("/serve 0"))
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
    assert "Paris" in chat.ask("What is the capital of France?")


def test_chat_and_server_together(open_chat: Chats) -> None:
    it = open_chat("--chat", "--server", "--port", "0", "--nobrowser", *DIRECT)
    url = re.search(r"page +(http://127\.0\.0\.1:\d+)", it.text)
    assert url
    with urllib.request.urlopen(url[1] + "/health") as response:
        assert response.status == 200
