"""What the painter makes of Markdown that comes in pieces, as a terminal emulator shows it."""

import io
import re
from typing import Any

import pyte
import pytest

from launcher.blocks import Blocks, Kind
from launcher.client import Progress
from launcher.console import Console
from launcher.painter import Painter
from launcher.terminal_ui import PaintedUI

ANSWER = """# Title

Some *text* with `code`, **bold** words and a link to [somewhere](http://example.org/x).
A second line that stays a line of its own.

- one item
- another item that is long enough to go on over several lines of a narrow terminal, indented
  1. inner
- 三个汉字 and an emoji 🙂 here

```python
def f(x: int) -> str:
    return "<b>" + str(x)  # comment
```

| name | 中文 |
|---|---|
| one | 千问 |
| two | 🙂 |

> quoted

3. third
4. fourth

The end with <b>HTML</b> and 2 * 3 * 4.
"""


class _Screen(io.StringIO):
    """A terminal that keeps what scrolls off."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.screen: Any = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        self.screen.set_mode(pyte.modes.LNM)  # the terminal driver makes CR LF of LF
        self._stream = pyte.Stream(self.screen)
        self.raw = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.raw += text
        self._stream.feed(text)
        return len(text)

    @property
    def lines(self) -> list[str]:
        gone = ["".join(row[at].data for at in range(self.screen.columns)) for row in self.screen.history.top]
        lines = [line.rstrip() for line in [*gone, *self.screen.display]]
        while lines and not lines[-1]:
            lines.pop()
        return lines


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int = 24, **env: str) -> tuple[_Screen, Console]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    screen = _Screen(columns, rows)
    return screen, Console(stdin=io.StringIO(), stdout=screen, stderr=screen, env={"TERM": "xterm", **env})


def paint(painter: Painter, text: str, size: int = 3) -> None:
    for at in range(0, len(text), size):
        painter._next = 0.0  # every piece is painted, however long that takes
        painter.markdown(text[at : at + size])
    painter.end()


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("rows", [8, 50])
def test_in_pieces_it_looks_as_in_one_piece(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int) -> None:
    one, console = terminal(monkeypatch, columns, rows)
    paint(Painter(console), ANSWER, len(ANSWER))
    pieces, console = terminal(monkeypatch, columns, rows)
    paint(Painter(console), ANSWER)
    assert pieces.lines == one.lines
    text = "\n".join(one.lines)
    for words in ("Title", "somewhere (http", "A second line", " • one item", "   return", "3. third", "4. fourth"):
        assert words in " ".join(text.split()) or words in text
    assert "<b>HTML</b> and 2 * 3 * 4." in " ".join(text.split())
    assert "千问" in text.replace(" ", "")
    assert "**" not in text


def test_a_finished_block_is_never_painted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, console = terminal(monkeypatch, 80)
    painter = Painter(console)
    painter.markdown("first block\n\nsecond")
    painter.markdown(" block\n\n")
    before = len(screen.raw)
    paint(painter, "third block\n\nfourth\n")
    assert "first" not in screen.raw[before:]
    assert "second" not in screen.raw[before:]


def test_a_paragraph_higher_than_the_screen_scrolls_away_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, console = terminal(monkeypatch, 40, 8)
    numbers = " ".join(map(str, range(600)))
    paint(Painter(console), numbers + "\n\n| a | b |\n|---|---|\n" + "".join(f"| {n} | x |\n" for n in range(30)))
    text = " ".join(" ".join(screen.lines).split())
    assert text.startswith(numbers)
    assert [line.split()[0] for line in screen.lines if line.endswith(" x")] == [str(n) for n in range(30)]


def test_code_can_be_copied_and_has_the_terminals_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, console = terminal(monkeypatch, 40)
    line = "x = " + "1 + " * 30 + "1"
    paint(Painter(console), f"```python\n{line}\ndef f(): pass\n```\n")
    assert f"{line}\n" in re.sub(r"\x1b\[[\d;]*m", "", screen.raw)
    assert screen.lines[0] == "```python"
    assert "\x1b[9" in screen.raw or "\x1b[3" in screen.raw
    assert "".join(screen.lines[1:5]).startswith("x = 1 + 1")


def test_without_colours_and_with_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, console = terminal(monkeypatch, 80, NO_COLOR="1")
    paint(
        Painter(console, ascii_only=True),
        "**bold**\n\n- item\n\n| a |\n|---|\n| b |\n\n---\n\n> q\n\n```c\nint x;\n```\n",
    )
    assert "\x1b[1m" not in screen.raw
    assert "\x1b[3" not in screen.raw
    assert "\n".join(screen.lines).isascii()
    assert "* item" in "\n".join(screen.lines)


def test_control_sequences_are_shown_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, console = terminal(monkeypatch, 80)
    paint(Painter(console), "a \x1b]0;owned\x07 \x1b[2J \x1b]52;c;eA==\x07 b \x9b31m\n\n```x\n\x1b[A\n```\n")
    assert screen.screen.title != "owned"
    assert "␛]0;owned␇ ␛[2J ␛]52;c;eA==␇ b" in screen.lines[0]
    assert "␛[A" in "\n".join(screen.lines)


def test_a_window_resized_meanwhile_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, console = terminal(monkeypatch, 80)
    painter = Painter(console)
    paint(painter, "before\n\n")
    painter.markdown("some words of a paragraph ")
    monkeypatch.setenv("COLUMNS", "40")
    screen.screen.resize(24, 40)
    paint(painter, "that go on after the window was made narrower\n")
    text = " ".join(screen.lines)
    assert text.count("before") == 1
    assert "narrower" in text
    assert all(len(line) <= 40 for line in screen.lines)


def test_status_lines_make_way(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, console = terminal(monkeypatch, 40)
    painter = Painter(console)
    for count in range(5):
        painter._next = 0.0
        painter.status("\n".join(f"line {n}" for n in range(count * 3)), 5)
    assert screen.lines == [f"line {n}" for n in range(7, 12)]
    painter.fix("thought for 1.0 s")
    assert screen.lines == ["thought for 1.0 s"]
    paint(painter, "answer")
    assert screen.lines == ["thought for 1.0 s", "answer"]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_how_far_reading_is_fits_every_width_and_makes_way(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    screen, console = terminal(monkeypatch, columns)
    ui = PaintedUI(console)
    ui.reading(Progress(done=5_632, total=20_004, cached=0, milliseconds=1000.0))
    assert " ".join(screen.lines) == "reading 5,632 of 20,004 tokens (28 %), 5,632 tokens/s"
    ui.answer("done")
    ui.turn_over(interrupted=False)
    assert screen.lines == ["done"]


def test_dim_text_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, console = terminal(monkeypatch, 40, 5)
    painter = Painter(console)
    for count in range(20):
        painter.dim(f"thought {count}\n" if count % 2 else f"thought {count} and ")
    painter.fix()
    assert "".join(screen.lines).count("thought 4 and thought 5") == 1
    assert "\x1b[2mthought" in screen.raw


def blocks(text: str, size: int = 1) -> list[tuple[Kind, str]]:
    splitter = Blocks()
    found = [block for at in range(0, len(text), size) for block in splitter.feed(text[at : at + size])]
    return [(block.kind, block.text) for block in [*found, *splitter.end()]]


def test_blocks_end_where_they_should() -> None:
    assert blocks(
        "# h\ntext\nmore\n- a\n  - b\n\n  c\n- d\n\nafter\n```\n# no\n\n```\n> q\n> r\n\nx | y\n--|--\n1 | 2\nend"
    ) == [
        (Kind.TEXT, "# h"),
        (Kind.TEXT, "text\nmore"),
        (Kind.ITEM, "- a\n  - b\n\n  c"),
        (Kind.ITEM, "- d"),
        (Kind.TEXT, "after"),
        (Kind.CODE, "```\n# no\n\n```"),
        (Kind.QUOTE, "> q\n> r"),
        (Kind.TABLE, "x | y\n--|--\n1 | 2"),
        (Kind.TEXT, "end"),
    ]


@pytest.mark.parametrize(
    "text", [ANSWER, "- a\n  ```\n  - x\n  ```\n- b\n", "````\n```\n````\n", "```\nopen", "a\n===\nb\n---\n"]
)
def test_no_word_is_lost_between_blocks(text: str) -> None:
    assert "".join(block for _, block in blocks(text)).replace("\n", "") == text.replace("\n", "")
    assert blocks(text, 7) == blocks(text)
