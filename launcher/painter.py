"""Markdown and thinking on a terminal: finished blocks are written once and never touched again, the block under way
is repainted in place. With rich, which is imported when the first thing is painted. Imported by `launcher.terminal_ui`
and `launcher.repl` only.

The live part is never higher than the screen, so that all of it can be reached, and what has scrolled away is final.
Painting takes care of its own cost: after one that took t of a processor's time, the next waits for `_PACE` times t, so
that the engine, which wants all cores, loses no more than 2 % to it.
"""

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from launcher.blocks import Block, Blocks, Kind
from launcher.console import Console, harmless

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_PACE = 50
_LONGEST_WAIT = 1.0  # seconds
_NO_WRAP = 1_000_000
_HORIZONTAL = "─━┄┅┈┉╌╍═╴╶╸╺╼╾"
_VERTICAL = "│┃┆┇┊┋╎╏║╵╷╹╻╽╿▌"
_ASCII = dict.fromkeys(range(9472, 9600), "+") | {ord("•"): "*", ord("…"): "...", ord("·"): "."}
_ASCII |= {ord(sign): "-" for sign in _HORIZONTAL} | {ord(sign): "|" for sign in _VERTICAL}


class Painter:
    """Paints one text after the other. The window's size is asked before each painting: it may have changed."""

    def __init__(self, console: Console, *, ascii_only: bool = False) -> None:
        self._console = console
        self._ascii = ascii_only
        self._blocks = Blocks()
        self._first = True
        self._frozen = 0  # lines of the block under way that are final already
        self._live: list[str] = []
        self._width = 0
        self._next = 0.0
        self._rest = ""

    def markdown(self, text: str) -> None:
        """More of an answer."""
        done = self._blocks.feed(harmless(text))
        if done or time.monotonic() >= self._next:
            with self._paced():
                self._paint(done)

    def end(self) -> None:
        """The answer is over: all of it becomes final."""
        self._paint(self._blocks.end())
        self._blocks, self._first, self._frozen = Blocks(), True, 0
        self._next = 0.0

    def dim(self, text: str) -> None:
        """More of a text that is shown as it is, dim; its whole lines are final."""
        whole, newline, self._rest = (self._rest + harmless(text)).rpartition("\n")
        if newline or time.monotonic() >= self._next:
            with self._paced():
                self._draw(self._dim(whole) if newline else [], self._dim(self._rest))

    def status(self, text: str, rows: int = 1) -> None:
        """Dim lines for now, at most the last `rows` of them; what comes next takes their place."""
        if time.monotonic() >= self._next:
            with self._paced():
                self._draw([], self._dim(harmless(text).strip("\n"))[-rows:])

    def fix(self, text: str = "") -> None:
        """Dim lines that stay in place of what is live; without text that is only taken away."""
        text = text or self._rest
        self._rest = ""
        self._draw(self._dim(harmless(text).strip("\n")) if text else [], [])
        self._next = 0.0

    @contextlib.contextmanager
    def _paced(self) -> Iterator[None]:
        """What is painted inside decides when the next painting may be. Waiting, for the processor or for the terminal,
        costs the engine nothing."""
        start = time.thread_time()
        yield
        self._next = time.monotonic() + min(_LONGEST_WAIT, _PACE * (time.thread_time() - start))

    def _paint(self, done: Sequence[Block]) -> None:
        final: list[str] = []
        for block in done:
            lines, _ = self._lines_of(block, whole=True)
            final += lines[self._frozen :]
            self._first, self._frozen = False, 0
        live: list[str] = []
        room = max(2, self._console.size()[1] - 2)
        for number, block in enumerate(self._blocks.current()):
            lines, settled = self._lines_of(block, whole=False, first=self._first and number == 0)
            if number == 0:
                if block.kind is not Kind.TABLE:
                    settled = max(self._frozen, settled, len(lines) - room)
                    final += lines[self._frozen : settled]
                    self._frozen = settled
                lines = lines[self._frozen :]
            live += lines
        self._draw(final, live[-room:])

    def _lines_of(self, block: Block, *, whole: bool, first: bool | None = None) -> tuple[list[str], int]:
        """The lines of a block with the empty one before it, and how many of them cannot change any more."""
        gap = [] if block.joined or (self._first if first is None else first) else [""]
        if block.kind is Kind.CODE:
            lines, settled = self._code(block, whole=whole)
            return [*gap, *lines], len(gap) + settled
        from launcher.markdown import markdown

        lines = self._rendered(markdown(block.text))
        while lines and not lines[0]:
            del lines[0]
        while lines and not lines[-1]:
            del lines[-1]
        return [*gap, *lines], 0

    def _code(self, block: Block, *, whole: bool) -> tuple[list[str], int]:
        """Code between its fences. Whole lines are as long as they are, so that they can be copied."""
        from launcher.markdown import highlighted

        opening, *code = block.lines
        closed = whole and len(code) > 0 and code[-1].strip().startswith(opening.strip()[:3])
        closing = [code.pop()] if closed else []
        last = [code.pop()] if code and not whole else []
        texts = highlighted("\n".join([*code, *last]), block.language) if code or last else []
        lines = self._dim(opening)
        settled = len(lines) + len(code) if last else 0  # until a line follows, the fence may still grow
        for number, text in enumerate(texts):
            lines += self._rendered(text, width=_NO_WRAP if number < len(code) else None) or [""]
        return [*lines, *(line for fence in closing for line in self._dim(fence))], settled

    def _dim(self, text: str) -> list[str]:
        from rich.text import Text

        return self._rendered(Text(text, style="dim"))

    def _rendered(self, renderable: "RenderableType | Text", width: int | None = None) -> list[str]:
        """The lines of something of rich, with the codes for its colours if there are to be any."""
        from rich.color import ColorSystem
        from rich.console import Console as RichConsole

        colours = ColorSystem.STANDARD if self._console.colour else None
        rich = RichConsole(
            file=io.StringIO(),
            width=width or max(10, self._console.size()[0] - 1),
            force_terminal=True,
            color_system="standard" if colours else None,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
        )
        lines = []
        for segments in rich.render_lines(renderable, pad=False):
            while segments and not segments[-1].text.strip():
                segments.pop()
            parts: list[str] = []
            for segment in segments:
                text = segment.text.rstrip() if segment is segments[-1] else segment.text
                parts.append(segment.style.render(text, color_system=colours) if segment.style and colours else text)
            line = "".join(parts)
            lines.append(line.translate(_ASCII) if self._ascii else line)
        return lines

    def _draw(self, final: list[str], live: list[str]) -> None:
        """Put `final` and then `live` in place of what is live now, touching only lines that are different.

        The cursor stands at the end of the last live line; without one, at the start of an empty line.
        """
        old, new = self._live, [*final, *live]
        width = self._console.size()[0]
        out = ""
        if old and width != self._width:  # the terminal may have arranged them anew: leave them as they are
            out, old = "\n", []
        same = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
        same = min(len(old), len(new)) if same is None else same
        if old and same == len(new) < len(old):
            same = max(0, same - 1)  # to end up at the end of a line
        if same < len(old):
            up = len(old) - 1 - same
            if up == 0 and same < len(new) and new[same].startswith(old[same]):
                out += new[same][len(old[same]) :] + "".join(f"\n{line}" for line in new[same + 1 :])
            else:
                out += (f"\x1b[{up}A" if up else "") + "\r\x1b[J" + "\n".join(new[same:])
        else:
            out += "".join(f"\n{line}" for line in new[same:]) if old else "\n".join(new)
        if new and not live:
            out += "\n"
        self._live, self._width = live, width
        self._console.draw(out)


class _Nobody(io.StringIO):
    """A terminal that nobody sees."""

    def isatty(self) -> bool:
        return True


def warm_up() -> None:
    """Import what painting needs, and paint once, which makes what rich and Markdown's parser keep for later: else the
    first token would wait for that. On a thread, while the person types."""
    painter = Painter(Console(stdin=_Nobody(), stdout=_Nobody(), stderr=_Nobody(), env={"TERM": "xterm"}))
    painter.dim("thinking")
    painter.fix()
    painter.markdown("A **bold** word and `code`")
    painter.end()
