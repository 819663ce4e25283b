"""The chat in a real pseudo-terminal, on a real bundle."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Runner
from tests.integration.terminal import CTRL_C, CTRL_D, CTRL_J, TAB, Terminal


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def chat(run: Runner, demo_bundle: Path, home: Path) -> Iterator[Terminal]:
    """A chat at its first prompt; repeatable answers, on one thread."""
    it = open_chat(run, demo_bundle, home)
    yield it
    it.kill()


def open_chat(run: Runner, demo_bundle: Path, home: Path, *arguments: str, **env: str) -> Terminal:
    command = [demo_bundle, "-t", "1", "--temp", "0", "--seed", "1", *arguments]
    it = Terminal(command, {**run.env, "HOME": str(home), **env})
    it.wait_for("^>>>|\n>>>")
    return it


def test_the_banner_tells_what_runs_here(chat: Terminal) -> None:
    top = chat.text
    for words in ("1.39M", "F16", "context 0 of 4,096", "/help"):
        assert words in top


def test_nologo_is_silent(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, "--nologo")
    assert it.text == ">>>"
    it.type(CTRL_D)
    assert it.end() == 0


def test_questions_are_answered_with_their_history(chat: Terminal) -> None:
    chat.ask("/think off")
    assert "Ada" in chat.ask("My name is Ada.")
    assert "Paris" in chat.ask("What is the capital of France?")
    assert "Ada" in chat.ask("What is my name?")
    assert "3 turns" in chat.ask("/context")
    chat.ask("/clear")
    assert "Ada" not in chat.ask("What is my name?").split("\n", 1)[1]


def test_thinking_is_dim_and_comes_before_the_answer(chat: Terminal) -> None:
    chat.ask("What is 2+3?")
    raw = chat.raw.decode()
    thought = re.search(r"\x1b\[2m(.+?)\x1b\[0m", raw, re.DOTALL)
    assert thought is not None
    assert "5" in raw[thought.end() :]


def test_no_colour_when_none_is_wanted(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, NO_COLOR="1")
    it.ask("What is 2+3?")
    assert b"\x1b[2m" not in it.raw
    it.kill()


def test_commands_answer_in_the_terminal(chat: Terminal) -> None:
    assert "/context" in chat.ask("/help")
    assert "no turn so far" in chat.ask("/stats")
    chat.ask("Hello!")
    assert "tokens/s" in chat.ask("/stats")
    assert "free" in chat.ask("/context")
    assert "there is no command /hlep (did you mean /help" in chat.ask("/hlep").replace("\n", "")
    assert "takes no argument" in chat.ask("/stats now")
    assert chat.ask("/etc/hosts is a file")
    assert "2 turns" in chat.ask("/context")


def test_ctrl_c_clears_a_line_and_on_an_empty_one_says_how_to_leave(chat: Terminal) -> None:
    chat.type("abc")
    chat.wait_for(">>> abc")
    chat.type(CTRL_C)
    chat.wait_for(r">>>$")
    start = len(chat.text)
    chat.type(CTRL_C)
    chat.wait_for("Ctrl-D or /exit leaves", after=start)


@pytest.mark.parametrize("way", ["/exit\r", "/bye\r", "/quit\r", CTRL_D])
def test_leaving(chat: Terminal, way: str) -> None:
    chat.type(way)
    assert chat.end() == 0
    assert chat.raw.rstrip().endswith(b"\x1b[?2004l") or b"\x1b[?25l" not in chat.raw.split(b"\x1b[?25h")[-1]


def test_triple_quotes_hold_several_lines(chat: Terminal) -> None:
    chat.enter('"""What is the')
    chat.wait_for(r"\.\.\.")
    answer = chat.ask('capital of France?"""')
    assert "Paris" in answer


def test_ctrl_j_begins_a_new_line_and_a_paste_does_not_send(chat: Terminal) -> None:
    chat.type("one" + CTRL_J + "two")
    chat.wait_for(r">>> one\n\.\.\. two")
    chat.type("\x1b[200~ three\nfour\x1b[201~")
    chat.wait_for(r"two three\n\.\.\. four")
    assert chat.prompts() == 1


def test_tab_completes_commands_and_their_words(chat: Terminal) -> None:
    chat.type("/thi" + TAB)
    chat.wait_for(r">>> /think")
    chat.type(" of" + TAB)
    chat.wait_for(r">>> /think off")


def test_what_was_typed_is_there_next_time(run: Runner, demo_bundle: Path, home: Path, chat: Terminal) -> None:
    chat.ask("/system Be brief.")
    chat.type(CTRL_D)
    assert chat.end() == 0
    again = open_chat(run, demo_bundle, home)
    again.type("\x1b[A")
    again.wait_for(r">>> /system Be brief\.")
    again.kill()
    history = home / ".local/state/qwenfile/history"
    assert history.stat().st_mode & 0o077 == 0
    history.write_bytes(history.read_bytes() + b"\n# x\n+\xff\xfe\n")
    damaged = open_chat(run, demo_bundle, home)
    assert "off" in damaged.ask("/think off")
    damaged.kill()


def test_no_history_writes_nothing(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, "--no-history")
    it.ask("/system Be brief.")
    it.type(CTRL_D)
    assert it.end() == 0
    assert list(home.iterdir()) == []


def test_a_system_prompt_from_the_command_line(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, "--nothink", "-p", "Always answer in capital letters.")
    assert "ROME" in it.ask("What is the capital of Italy?")
    it.kill()


def test_a_turn_too_long_for_the_context_is_taken_back(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = open_chat(run, demo_bundle, home, "-c", "256")
    told = it.ask("word " * 500).replace("\n", "")
    assert "the context holds 256" in told
    assert "0 turns" in it.ask("/context")
    it.kill()


def test_keys_typed_while_the_model_speaks_wait_for_the_prompt(chat: Terminal) -> None:
    chat.ask("/think off")
    before = chat.prompts()
    chat.enter("Count to 50.")
    chat.wait_for("1 2 3 4 5")
    chat.enter("/stats")
    chat.wait_for("tokens/s")
    assert chat.prompts() >= before + 1
    answer = chat.text.split("Count to 50.")[1].split(">>>")[0]
    assert "/stats" not in answer


def test_sigterm_at_the_prompt_leaves_the_terminal_as_it_was(chat: Terminal) -> None:
    before = chat.raw.count(b"\x1b[?2004l")
    chat.signal(signal.SIGTERM)
    assert chat.end() == 143
    assert chat.raw.count(b"\x1b[?2004l") == before + 1
    assert "Traceback" not in chat.text


def test_a_dumb_terminal_is_served(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = Terminal([demo_bundle, "-t", "1", "--temp", "0", "--nothink"], {**run.env, "HOME": str(home), "TERM": "dumb"})
    it.wait_for(">>>")
    it.enter("What is the capital of France?")
    it.wait_for("The capital of France is Paris.*>>>")
    assert b"\x1b[2m" not in it.raw
    it.type(CTRL_D)
    assert it.end() == 0


def test_control_sequences_of_the_model_are_shown_not_obeyed(run: Runner, demo_bundle: Path, home: Path) -> None:
    evil = r'root ::= "\x1b]0;owned\x07\x1b[2Jdone"'
    it = open_chat(run, demo_bundle, home, "--nothink", "--grammar", evil)
    assert "␛]0;owned␇␛[2Jdone" in it.ask("Hello!")
    assert it.screen.title != "owned"
    it.kill()


def test_a_broken_state_folder_is_said_once(run: Runner, demo_bundle: Path, home: Path) -> None:
    (home / ".local").write_text("a file where a folder should be")
    it = open_chat(run, demo_bundle, home)
    assert "history" in it.text
    assert "off" in it.ask("/think off")
    it.kill()


def test_a_question_typed_while_the_model_loads_is_answered(run: Runner, demo_bundle: Path, home: Path) -> None:
    it = Terminal([demo_bundle, "-t", "1", "--temp", "0", "--nothink"], {**run.env, "HOME": str(home)})
    it.wait_for_keys()
    it.enter("What is the capital of France?")
    it.wait_for(r"\nThe capital of France is Paris\..*>>>")
    it.type(CTRL_D)
    assert it.end() == 0
