"""What ends a chat by force: one line says why, the exit code is 1, and the conversation is kept. On a real bundle."""

import ctypes
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from runtime.bundle import MODEL, Bundle
from tests.integration.conftest import Chats, Runner
from tests.integration.terminal import BEGINNING, DIRECT, ENDLESS, ENTER, PATIENCE, Terminal


def squeezed(text: str) -> str:
    """Text without white space: the terminal breaks lines anywhere."""
    return "".join(text.split())


def last_words(it: Terminal, program: str = "qwen3 演示") -> str:
    """The one line that the program ended with, and nothing after it."""
    parts = f"\n{it.text}".split(f"\n{program}: ")
    assert len(parts) == 2, it.text
    return " ".join(parts[1].split())


def kept(open_chat: Chats) -> str:
    """The conversation of the chat before, as a prompt."""
    return open_chat(*DIRECT, "--resume").ask("/dump")


def engine_thread(pid: int) -> int:
    """The thread that computes: the one that uses the processor now."""

    def used() -> dict[str, int]:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return {task.name: int((task / "stat").read_text().rpartition(")")[2].split()[11]) for task in tasks}  # utime

    before = used()
    end = time.monotonic() + PATIENCE
    while True:
        grown = {thread: ticks - before.get(thread, 0) for thread, ticks in used().items()}
        thread = max(grown, key=lambda name: grown[name])
        if grown[thread] >= 10:
            return int(thread)
        assert time.monotonic() < end, grown
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, "the engine crashed (a fault in its memory)"),
        (signal.SIGABRT, "the engine gave up, perhaps because memory ran out"),
        (signal.SIGILL, "the engine crashed (a processor instruction that is not there)"),
    ],
)
def test_a_fault_in_the_engines_thread(
    endless: Terminal, open_chat: Chats, number: signal.Signals, reason: str
) -> None:
    """As the system does it: the signal goes to the thread that computes, in the middle of an answer."""
    endless.enter("count forever")
    endless.wait_for(f"{BEGINNING} word word word")
    shown = endless.text.count("word")
    assert ctypes.CDLL(None).tgkill(endless.pid, engine_thread(endless.pid), number) == 0
    assert endless.end() == 1
    assert last_words(endless) == reason
    assert endless.raw.count(b"\x1b[?2004h") <= endless.raw.count(b"\x1b[?2004l")
    text = kept(open_chat)
    assert "count forever<|im_end|>\n<|im_start|>assistant\n" in text
    assert text.count("word") >= shown


def test_the_engine_gives_up_by_itself_while_it_starts(open_chat: Chats) -> None:
    """A head of more dimensions than it has: an assertion of ggml's fails, which would print a backtrace."""
    it = open_chat.start("--override-kv", "qwen3.rope.dimension_count=int:1000")
    assert it.end() == 1
    assert last_words(it).startswith("the engine gave up: llama.cpp/")
    assert "GGML_ASSERT" in last_words(it)
    assert len(it.text.splitlines()) < 5


def test_a_model_that_vanishes_is_one_line(open_chat: Chats, demo_bundle: Path, home: Path) -> None:
    bundle = home / "copy.run"
    shutil.copy(demo_bundle, bundle)
    it = open_chat(*DIRECT, bundle=bundle)
    it.ask("My name is Ada.")
    it.type("What is my name?")
    it.wait_for(r"What is my name\?")  # read: the terminal shows keys that nobody reads behind the last words
    os.truncate(bundle, Bundle.open(demo_bundle).require(MODEL).offset + 4096)
    it.type(ENTER)
    assert it.end() == 1  # now, or already before Enter
    said = "copy: the model's file was changed, cut short or became unreadable while in use"
    assert squeezed(it.text).endswith(squeezed(said))
    assert squeezed(it.text).count("copy:") == 1
    assert "My name is Ada." in kept(open_chat)


def test_too_little_memory_to_start(open_chat: Chats) -> None:
    """The KV cache alone is larger than what the process may have; everything else takes a small part of that."""
    large = ("-c", "131072", "-ctk", "f32", "-ctv", "f32", "--threads-http", "2")  # each thread reserves some
    it = open_chat.start(*large, before="ulimit -v 700000")
    assert it.end() == 1
    assert last_words(it).startswith("not enough memory: ")
    assert "try a smaller -c" in last_words(it)


def test_memory_that_runs_out_during_a_chat(chat: Terminal, open_chat: Chats, home: Path) -> None:
    """From now on the process gets hardly any new memory; then it needs much."""
    book = home / "book.txt"
    book.write_text("The quick brown fox. " * 2_000_000)
    chat.ask("My name is Ada.")
    now = int(Path(f"/proc/{chat.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(chat.pid, resource.RLIMIT_AS, (now + 2**24, resource.RLIM_INFINITY))
    chat.enter("/file ~/book.txt")
    assert chat.end() == 1
    assert "memory" in last_words(chat)
    assert "My name is Ada." in kept(open_chat)


def test_a_killed_chat_loses_nothing_that_was_shown(endless: Terminal, open_chat: Chats) -> None:
    endless.enter("count forever")
    endless.wait_for(f"{BEGINNING} word word word")
    shown = endless.text.count("word")
    endless.signal(signal.SIGKILL)
    assert endless.end() == 128 + signal.SIGKILL
    assert kept(open_chat).count("word") >= shown


def test_a_closed_window_loses_nothing_that_was_shown(endless: Terminal, open_chat: Chats) -> None:
    endless.enter("count forever")
    endless.wait_for(f"{BEGINNING} word word word")
    shown = endless.text.count("word")
    assert endless.hang_up() == 128 + signal.SIGHUP
    text = kept(open_chat)
    assert "count forever" in text
    assert text.count("word") >= shown


def test_a_closed_window_ends_a_chat_that_no_signal_reaches(open_chat: Chats) -> None:
    """What it writes next fails, and nothing it could say reaches anybody."""
    deaf = open_chat(*ENDLESS, before="trap '' HUP")
    deaf.enter("count forever")
    deaf.wait_for(f"{BEGINNING} word word word")
    shown = deaf.text.count("word")
    assert deaf.hang_up() == 128 + signal.SIGHUP
    assert kept(open_chat).count("word") >= shown


def test_a_closed_window_ends_its_server(demo_bundle: Path, run: Runner) -> None:
    server = Terminal([demo_bundle, "--server", "--port", "0", "--no-browser"], run.env)
    server.wait_for("http://")
    assert server.hang_up() == 128 + signal.SIGHUP
