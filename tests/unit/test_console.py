import io

import pytest

from launcher.console import Console, between_words, harmless
from launcher.pastes import is_open, unquote


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def console(stdout: io.StringIO, **env: str) -> Console:
    return Console(stdin=Terminal(), stdout=stdout, stderr=io.StringIO(), env=env)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x1b]52;c;aGk=\x1b\\", "␛]52;c;aGk=␛\\"),
        ("\x1b[2J\x1b[1;1H", "␛[2J␛[1;1H"),
        ("a\r\nb\rc", "a\nbc"),
        ("\x9b2J\x90", "�2J�"),
        ("\x00\x08\x7f", "␀␈␡"),
        ("\ud800", "�"),
        ("שלום 你好 👋", "שלום 你好 👋"),
    ],
)
def test_control_characters_become_pictures(text: str, expected: str) -> None:
    assert harmless(text) == expected


def test_no_sequence_hides_between_two_pieces() -> None:
    text = "\x1b]0;x\x07\x9b1m"
    assert "".join(harmless(piece) for piece in text) == harmless(text)


def test_only_a_terminal_gets_cleaned_text() -> None:
    terminal, file = Terminal(), io.StringIO()
    console(terminal).answer("\x1b[1m")
    console(file).answer("\x1b[1m")
    assert (terminal.getvalue(), file.getvalue()) == ("␛[1m", "\x1b[1m")


def test_colour_needs_a_terminal_that_wants_it() -> None:
    assert console(Terminal(), TERM="xterm").colour
    assert not console(io.StringIO(), TERM="xterm").colour
    assert not console(Terminal(), TERM="xterm", NO_COLOR="1").colour
    for name in ("dumb", "unknown", "vt100", "vt220", "xterm-mono", "linux-m"):
        assert not console(Terminal(), TERM=name).colour, name
    assert not console(Terminal()).colour


HELP = "  /stats                tokens, their rate, first token, reuse of the cache"
TABLE = "  files        1,234 (a.txt, b.txt, something long.txt, c.txt)"


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        (HELP, 80, HELP),
        (HELP, 40, "  /stats\n      tokens, their rate, first token,\n      reuse of the cache"),
        (
            TABLE,
            40,
            "  files        1,234 (a.txt, b.txt,\n               something long.txt,\n               c.txt)",
        ),
        (" " * 24 + "the explanation of a command", 40, "      the explanation of a command"),
        ("qwen3: there is no such thing here", 20, "qwen3: there is no\nsuch thing here"),
        ("  start with -c 8192 for more", 20, "  start with -c\n  8192 for more"),
        ("see /a/path/that/is/longer/than/the/line here", 20, "see\n/a/path/that/is/longer/than/the/line\nhere"),
        ("汉字汉字 汉字汉字 汉字汉字", 20, "汉字汉字 汉字汉字\n汉字汉字"),
        ("short\n\n  two  columns", 20, "short\n\n  two  columns"),
        ("", 40, ""),
    ],
)
def test_lines_are_broken_between_words_and_columns_stay(text: str, columns: int, expected: str) -> None:
    assert between_words(text, columns) == expected
    assert "".join(between_words(text, columns).split()) == "".join(text.split())


def test_complaints_are_one_line_under_the_programs_name() -> None:
    it = console(io.StringIO())
    it.complain("two\nlines \x1b")
    assert isinstance(it.stderr, io.StringIO)
    assert it.stderr.getvalue() == "qwen3: two lines ␛\n"


def test_a_closed_stream_is_no_terminal() -> None:
    closed = io.StringIO()
    closed.close()
    assert not console(closed).colour


@pytest.mark.parametrize(
    ("text", "still_open"),
    [('"""', True), ('"""a', True), ('"""a\nb', True), ('"""a"""', False), ('"""a\nb"""', False), ('a """', False),
     ('""""', True), ('""""""', False)],
)  # fmt: skip
def test_triple_quotes_stay_open_until_they_close(text: str, still_open: bool) -> None:
    assert is_open(text) is still_open


def test_triple_quotes_are_stripped_and_what_is_inside_stays() -> None:
    assert unquote('"""\nsay "hi"\n\n  twice\n"""') == 'say "hi"\n\n  twice'
    assert unquote('say """hi"""') == 'say """hi"""'
