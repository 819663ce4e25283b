"""Markdown as it streams, cut into blocks: those that are finished, and the one under way. Knows no terminal.

Imported by the launcher only. Only as much of CommonMark is known here as it takes to see where a block ends; how one
looks is for `launcher.painter` to say.
"""

import re
from dataclasses import dataclass, field, replace
from enum import Enum

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([^`\s]*)[^`]*$")
_HEADING = re.compile(r" {0,3}#{1,6}(\s|$)")
_RULE = re.compile(r" {0,3}([-*_])[ \t]*(\1[ \t]*){2,}$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)\s*$")
_ITEM = re.compile(r"( {0,3})([-*+]|\d{1,9}[.)])(\s|$)")
_QUOTE = re.compile(r" {0,3}>")
# The first characters of a line, from which nobody knows yet what it will be.
_UNDECIDED = re.compile(r"\s*([-=*+_~`#>|]+|\d+[.)]?)?\s*")
_DELIMITERS = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")


class Kind(Enum):
    """What a block is."""

    TEXT = "text"
    ITEM = "item of a list"
    CODE = "code"
    TABLE = "table"
    QUOTE = "quote"


@dataclass(kw_only=True)
class Block:
    """Lines that belong together. `joined`: no empty line stands between it and the block before. `language`: of code,
    whose lines here include the fences."""

    kind: Kind
    lines: list[str] = field(default_factory=list)
    joined: bool = False
    language: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Blocks:
    """Takes pieces of Markdown, gives finished blocks."""

    def __init__(self) -> None:
        self._open: Block | None = None
        self._rest = ""
        self._fence = ""
        self._blank = False

    def feed(self, text: str) -> list[Block]:
        """Blocks that these words finish, in their order."""
        *lines, self._rest = (self._rest + text).split("\n")
        done: list[Block] = []
        for line in lines:
            self._line(line, done)
        return done

    def current(self) -> list[Block]:
        """What is not finished: the block under way, and the one that the last line may begin."""
        if not self._rest or _UNDECIDED.fullmatch(self._rest):
            return [self._open] if self._open and self._open.lines else []
        trial = Blocks()
        trial._open = self._open and replace(self._open, lines=[*self._open.lines])
        trial._fence, trial._blank = self._fence, self._blank
        shown: list[Block] = []
        trial._line(self._rest, shown)
        return [*shown, trial._open] if trial._open else shown

    def end(self) -> list[Block]:
        """The text is over: what is left."""
        done: list[Block] = []
        if self._rest:
            self._line(self._rest, done)
            self._rest = ""
        self._finish(done)
        return done

    def _finish(self, done: list[Block]) -> None:
        if self._open:
            while self._open.lines and not self._open.lines[-1].strip() and self._open.kind is not Kind.CODE:
                self._open.lines.pop()
            done.append(self._open)
        self._open, self._fence, self._blank = None, "", False

    def _line(self, line: str, done: list[Block]) -> None:
        block = self._open
        if block is None:
            self._begin(line, done)
        elif block.kind is Kind.CODE:
            block.lines.append(line)
            if _closes(line, self._fence):
                self._finish(done)
        elif block.kind is Kind.ITEM:
            self._item_line(block, line, done)
        elif not line.strip():
            self._finish(done)
        elif block.kind is Kind.TABLE:
            if "|" in line:
                block.lines.append(line)
            else:
                self._finish(done)
                self._begin(line, done)
        elif block.kind is Kind.TEXT and _UNDERLINE.match(line):
            block.lines.append(line)
            self._finish(done)
        elif block.kind is Kind.TEXT and len(block.lines) == 1 and "|" in block.text and _DELIMITERS.match(line):
            block.kind = Kind.TABLE
            block.lines.append(line)
        elif _begins(line) and not (block.kind is Kind.QUOTE and _QUOTE.match(line)):
            self._finish(done)
            self._begin(line, done)
        else:
            block.lines.append(line)

    def _item_line(self, block: Block, line: str, done: list[Block]) -> None:
        """A line while a list's item is open: the next item, more of this one, or the end of the list."""
        if self._fence:
            block.lines.append(line)
            if _closes(line.strip(), self._fence):
                self._fence = ""
            return
        if not line.strip():
            block.lines.append(line)
            self._blank = True
            return
        indented = line.startswith(("  ", "\t"))
        if _ITEM.match(line) and not indented and not _RULE.match(line):
            self._finish(done)
            self._begin(line, done)
            if self._open:
                self._open.joined = True
            return
        if not indented and (self._blank or _begins(line)):
            self._finish(done)
            self._begin(line, done)
            return
        self._blank = False
        if fence := _FENCE.match(line.strip()):
            self._fence = fence[1]
        block.lines.append(line)

    def _begin(self, line: str, done: list[Block]) -> None:
        if not line.strip():
            return
        if fence := _FENCE.match(line):
            self._fence = fence[1]
            self._open = Block(kind=Kind.CODE, lines=[line], language=fence[2])
        elif _HEADING.match(line) or _RULE.match(line):
            self._open = Block(kind=Kind.TEXT, lines=[line])
            self._finish(done)
        elif _ITEM.match(line):
            self._open = Block(kind=Kind.ITEM, lines=[line])
        elif line.lstrip().startswith("|"):
            self._open = Block(kind=Kind.TABLE, lines=[line])
        else:
            self._open = Block(kind=Kind.QUOTE if _QUOTE.match(line) else Kind.TEXT, lines=[line])


def _begins(line: str) -> bool:
    """Whether a line begins a block even without an empty line before it."""
    return any(pattern.match(line) for pattern in (_FENCE, _HEADING, _RULE, _ITEM, _QUOTE))


def _closes(line: str, fence: str) -> bool:
    bare = line.strip()
    return len(line) - len(line.lstrip()) <= 3 and len(bare) >= len(fence) and not bare.strip(fence[0])
