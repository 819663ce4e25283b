"""The chat's prompt in a real pseudo-terminal, on a real bundle: keys, lines, history, leaving."""

import re
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import Chats
from tests.integration.terminal import CTRL_C, CTRL_D, CTRL_J, DIRECT, ENDLESS, TAB, Terminal, flat

UP, RIGHT = "\x1b[A", "\x1b[C"
ALT_ENTER = "\x1b\r"


def test_the_banner_tells_what_runs_here(chat: Terminal) -> None:
    top = flat(chat.text)
    for words in ("qwenfile demo, 1.39M, F16;", "context 0 of 4,096 tokens;", "; CPU ", ", 1 thread", "/help for help"):
        assert words in top


def test_nologo_is_silent(open_chat: Chats) -> None:
    it = open_chat("--nologo")
    assert it.text == ">>>"
    it.type(CTRL_D)
    assert it.end() == 0


def test_questions_are_answered_with_their_history(chat: Terminal) -> None:
    assert "Ada" in chat.ask("My name is Ada.")
    assert "Paris" in chat.ask("What is the capital of France?")
    assert "Ada" in chat.ask("What is my name?")
    assert "3 turns" in chat.ask("/context")
    chat.ask("/clear")
    assert "Ada" not in chat.ask("What is my name?").split("\n", 1)[1]


def test_what_begins_with_a_slash_may_be_text_or_a_mistake(chat: Terminal) -> None:
    assert "there is no command /hlep (did you mean /help" in flat(chat.ask("/hlep"))
    assert "takes no argument" in chat.ask("/stats now")
    assert chat.ask("/etc/hosts is a file").startswith("/etc/hosts is a file\n")
    assert "1 turn" in chat.ask("/context")


def test_ctrl_c_clears_a_line_and_on_an_empty_one_says_how_to_leave(chat: Terminal) -> None:
    chat.type("abc")
    chat.wait_for(">>> abc")
    chat.type(CTRL_C)
    chat.wait_for(r">>>$")
    start = len(chat.text)
    chat.type(CTRL_C)
    chat.wait_for("Ctrl-D or /exit leaves", after=start)


@pytest.mark.parametrize("way", ["/exit\r", "/bye\r", "/quit\r", CTRL_D])
def test_leaving_gives_the_terminal_back_as_it_was(open_chat: Chats, way: str) -> None:
    """`stty` prints all settings of the terminal before and after."""
    it = open_chat(*DIRECT, before='stty -g; "$0" "$@"; echo "code $?"; stty -g; exit', columns=200)
    it.type(way)
    it.wait_for(r"code 0\n\S+$")
    lines = it.text.splitlines()
    assert it.end() == 0
    assert lines[0] == lines[-1]
    assert it.raw.count(b"\x1b[?2004h") == it.raw.count(b"\x1b[?2004l")  # marked pastes
    assert b"\x1b[?25l" not in it.raw.rpartition(b"\x1b[?25h")[2]  # the cursor is seen
    assert it.screen.cursor.hidden is False


def test_triple_quotes_hold_several_lines(chat: Terminal) -> None:
    chat.enter('"""What is the')
    chat.wait_for(r"\n\.\.\.$")
    assert "Paris" in chat.ask('capital of France?"""')
    chat.enter('"""')
    chat.wait_for(r">>> \"\"\"\n\.\.\.$")
    chat.enter('say "hi",')
    chat.wait_for(r"\n\.\.\. say \"hi\",\n\.\.\.$")
    chat.enter("")
    chat.wait_for(r"hi\",\n\.\.\.\n\.\.\.$")
    chat.ask('""twice"""')
    assert '<|im_start|>user\nsay "hi",\n\n""twice<|im_end|>' in chat.ask("/dump")


@pytest.mark.parametrize("keys", [ALT_ENTER, CTRL_J], ids=["Alt-Enter", "Ctrl-J"])
def test_a_new_line_does_not_send(chat: Terminal, keys: str) -> None:
    chat.type("one" + keys + "two")
    chat.wait_for(r">>> one\n\.\.\. two$")
    assert chat.prompts() == 1
    chat.ask("")
    assert "<|im_start|>user\none\ntwo<|im_end|>" in chat.ask("/dump")


def test_a_paste_of_several_lines_waits_for_enter(chat: Terminal) -> None:
    chat.type("one \x1b[200~two\nthree\r\nfour\x1b[201~")
    chat.wait_for(r">>> one two\n\.\.\. three\n\.\.\. four$")
    assert chat.prompts() == 1


def test_motions_by_words_and_letters(chat: Terminal) -> None:
    motions = {
        "Ctrl-Left": ("\x1b[1;5D", "one two |three"),
        "Ctrl-Left twice": ("\x1b[1;5D" * 2, "one |two three"),
        "Ctrl-A, Ctrl-Right": ("\x01\x1b[1;5C", "one| two three"),
        "Alt-Left": ("\x1b[1;3D", "one two |three"),
        "Ctrl-A, Alt-Right": ("\x01\x1b[1;3C", "one| two three"),
        "Alt-B twice": ("\x1bb" * 2, "one |two three"),
        "Ctrl-A, Alt-F twice": ("\x01" + "\x1bf" * 2, "one two| three"),
        "Ctrl-W": ("\x17", "one two |"),
        "Alt-Backspace": ("\x1b\x7f", "one two |"),
        "Ctrl-A, Alt-D": ("\x01\x1bd", "| two three"),
        "Left twice": ("\x1b[D" * 2, "one two thr|ee"),
        "Home": ("\x1b[H", "|one two three"),
        "Home, End": ("\x1b[H\x1b[F", "one two three|"),
    }
    for keys, expected in motions.values():
        chat.type("one two three")
        chat.wait_for(r">>> one two three$")
        chat.type(keys + "|")  # the letter shows where the cursor stands
        chat.wait_for(rf">>> {re.escape(expected)}$")
        chat.type(CTRL_C)
        chat.wait_for(r">>>$")


def test_tab_completes_commands_and_their_words(chat: Terminal) -> None:
    chat.type("/thi" + TAB)
    chat.wait_for(r">>> /think")
    chat.type(" of" + TAB)
    chat.wait_for(r">>> /think off")


def test_a_hint_shows_what_a_command_takes(chat: Terminal) -> None:
    chat.type("/set")
    chat.wait_for(r">>> /set NAME VALUE$")
    chat.type(" ")
    chat.wait_for(r">>> /set NAME VALUE$")
    chat.type("x")
    chat.wait_for(r">>> /set x$")


def test_searching_in_the_history_and_suggestions_from_it(chat: Terminal) -> None:
    chat.ask("What is the capital of France?")
    chat.ask("Hello!")
    chat.type("\x12capital")  # Ctrl-R
    chat.wait_for(r">>> What is the capital of France\?.*I-search backward: capital")
    chat.type("\r")  # takes the line, which waits for another Enter
    chat.wait_for(r">>> What is the capital of France\?$")
    chat.type(CTRL_C)
    chat.wait_for(r">>>$")
    chat.type("\x12cap")
    chat.wait_for("I-search backward: cap")
    chat.type(CTRL_C)
    chat.wait_for(r">>>$")
    chat.type("What is")
    chat.wait_for(r">>> What is the capital of France\?$")  # in grey
    chat.type(RIGHT)  # takes it
    assert "Paris" in chat.ask("")


def test_what_was_typed_is_there_next_time(open_chat: Chats, home: Path, chat: Terminal) -> None:
    chat.ask("/system Be brief.")
    chat.type(CTRL_D)
    assert chat.end() == 0
    again = open_chat()
    again.type(UP)
    again.wait_for(r">>> /system Be brief\.")
    history = home / ".local/state/qwenfile/history"
    assert history.stat().st_mode & 0o077 == 0
    history.write_bytes(history.read_bytes() + b"\n# x\n+\xff\xfe\n")
    damaged = open_chat()
    assert "off" in damaged.ask("/think off")


def test_keys_typed_while_the_model_speaks_wait_for_the_prompt(open_chat: Chats) -> None:
    it = open_chat(*ENDLESS, "-n", "1500")
    it.enter("Count!")
    it.wait_for("1 2 3 4 5")
    it.enter("/stack")
    it.wait_for(r"no position is remembered \(/push\)\n>>>$")
    answer = it.text.split("Count!")[1].split(">>>")[0]
    assert "/stack" not in answer


def test_a_question_typed_while_the_model_loads_is_answered(open_chat: Chats) -> None:
    it = open_chat.start(*DIRECT)
    it.wait_for_keys()
    it.enter("What is the capital of France?")
    it.wait_for(r"\nThe capital of France is Paris\..*>>>$")
    it.type(CTRL_D)
    assert it.end() == 0


def test_sigterm_at_the_prompt_leaves_the_terminal_as_it_was(chat: Terminal) -> None:
    before = chat.raw.count(b"\x1b[?2004l")
    chat.signal(signal.SIGTERM)
    assert chat.end() == 128 + signal.SIGTERM
    assert chat.raw.count(b"\x1b[?2004l") == before + 1
    assert "Traceback" not in chat.text


def test_a_system_prompt_from_the_command_line_or_a_file(open_chat: Chats, home: Path) -> None:
    shout = "Always answer in capital letters."
    file = home / "system prompt.txt"
    file.write_text(f"{shout}\n")
    for arguments in (("-p", shout), ("-sys", shout), ("-sysf", file)):
        it = open_chat(*DIRECT, *arguments)
        assert "ROME" in it.ask("What is the capital of Italy?")
        assert shout in it.ask("/system")
        it.kill()
    missing = open_chat.start("-sysf", home / "none.txt")
    assert missing.end() == 2
    assert "cannot read" in flat(missing.text)
    assert "no such file" in flat(missing.text)
