"""What the chat paints in a real pseudo-terminal, on a real bundle: at every width, with and without colours."""

import re
from pathlib import Path

import pytest

from launcher.commands import COMMANDS
from tests.integration.conftest import Chats
from tests.integration.terminal import BEGINNING, CTRL_C, CTRL_D, DIRECT, Terminal, flat

COLOUR = re.compile(rb"\x1b\[(\d+;)*(3[0-7]|9[0-7]|38;[\d;]+)(;\d+)*m")


def test_thinking_is_dim_and_comes_before_the_answer(open_chat: Chats) -> None:
    it = open_chat()
    it.ask("What is 2+3?")
    raw = it.raw.decode()
    thought = re.search(r"\x1b\[2m(.+?)\x1b\[0m", raw, re.DOTALL)
    assert thought is not None
    assert "5" in raw[thought.end() :]
    assert flat(it.text).count("thinking at temperature 0 can repeat itself") == 1
    it.ask("What is 3+3?")
    assert flat(it.text).count("thinking at temperature 0 can repeat itself") == 1


def test_a_dumb_terminal_is_served(open_chat: Chats) -> None:
    it = open_chat.start(*DIRECT, TERM="dumb")
    it.wait_for(">>>")
    it.enter("What is the capital of France?")
    it.wait_for("The capital of France is Paris.*>>>")
    assert b"\x1b" not in it.raw
    it.type(CTRL_D)
    assert it.end() == 0


MARKED = r'root ::= "# Head\n\n- item\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\ndef f(): return 1  # one\n```"'


@pytest.mark.parametrize("env", [{"TERM": "vt100"}, {"TERM": "xterm-mono"}, {"NO_COLOR": "1"}], ids=str)
def test_no_colours_where_there_are_none_or_none_are_wanted(open_chat: Chats, env: dict[str, str]) -> None:
    it = open_chat("--grammar", MARKED, *DIRECT, **env)
    it.ask("Hello!")
    it.type("/set")
    it.wait_for("/set NAME VALUE")
    assert not COLOUR.search(it.raw)


def test_code_has_the_colours_of_its_language(open_chat: Chats) -> None:
    it = open_chat("--grammar", MARKED, *DIRECT)
    it.ask("Hello!")
    painted = it.raw.rpartition(b"```python")[2].partition(b"```")[0]
    assert len({found[0] for found in COLOUR.finditer(painted)}) > 1


def test_ascii(open_chat: Chats) -> None:
    it = open_chat("--ascii", "--grammar", MARKED, *DIRECT)
    answer = it.ask("Hello!")
    assert answer.isascii()
    for words in ("Head", "* item", "def f(): return 1"):
        assert words in answer


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_wide_text_at_every_width(open_chat: Chats, columns: int) -> None:
    words = "汉字 🙂 **bold** `code` " * 12
    grammar = 'root ::= "' + words + r'\n\n| 名 | b |\n|---|---|\n| 千问 | 🙂 |\n\n- one\n- two"'
    it = open_chat(*DIRECT, "--nologo", "--grammar", grammar, columns=columns)
    answer = it.ask("Hello!")
    assert answer.replace(" ", "").replace("\n", "").count("汉字🙂boldcode") == 12
    assert "千问" in answer.replace(" ", "")
    assert " • two" in answer


def words_of(it: Terminal, command: str) -> str:
    """What a command says; numbers, which differ from run to run, replaced."""
    return flat(re.sub(r"\d[\d.,:-]*", "9", it.ask(command).removeprefix(command)))


def test_commands_break_no_words_at_any_width(open_chat: Chats, home: Path) -> None:
    """The terminal would break a line that is too long wherever its edge is: then there were other words."""
    commands = ["/help", *(f"/help {command.name}" for command in COMMANDS)]
    commands += ["/stats", "/context", "/show", "/push", "/stack", "/sessions", "/think auto", "/system", "/save",
                 "/set temperature 900", "/serve no", "/sets", "/copy", "/undo", "/file none.txt"]  # fmt: skip
    system = "Answer in one sentence, or in two if one is not enough, and never in more than three of them."
    said = {}
    for columns in (200, 80, 40):
        own = home / str(columns)
        own.mkdir()
        it = open_chat(*DIRECT, "-c", "1024", "-sys", system, columns=columns, HOME=str(own))
        banner = flat(it.text)
        it.ask("What is the capital of France, and what is that of Italy, of Spain and of Portugal?")
        said[columns] = {command: words_of(it, command) for command in commands} | {"banner": banner}
        del said[columns]["/save"]  # its name is the time
        it.kill()
    del said[40]["/system"]  # to the letter, whatever the width
    del said[80]["/system"]
    for columns in (80, 40):
        for command, words in said[columns].items():
            assert words == said[200][command], (columns, command)


def test_a_window_resized_while_the_model_speaks(endless: Terminal) -> None:
    endless.enter("count forever")
    endless.wait_for(BEGINNING)
    endless.resize(40, 24)
    endless.type(CTRL_C)
    endless.wait_for(r"\[interrupted\].*\n>>>$")
    assert "1 turn" in flat(endless.ask("/context"))


def test_control_sequences_of_the_model_are_shown_not_obeyed(open_chat: Chats) -> None:
    """The window's title, the clipboard, the cursor, the screen; 7-bit and 8-bit."""
    evil = r'root ::= "\x1b]0;owned\x07 \x1b]52;c;eA==\x07 \x1b[2J \x1b[5A \x08\x08 \x9b31m done"'
    it = open_chat(*DIRECT, "--grammar", evil)
    before = len(it.raw)
    assert "␛]0;owned␇ ␛]52;c;eA==␇ ␛[2J ␛[5A ␈␈ �31m done" in it.ask("Hello!")
    assert it.screen.title != "owned"
    for sequence in (b"\x1b]0", b"\x1b]52", b"\x1b[5A", b"\x08\x08", b"\xc2\x9b"):
        assert sequence not in it.raw[before:]
