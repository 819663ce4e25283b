"""How one block of Markdown looks: rich's rendering, with what a chat needs otherwise. Imported by `launcher.painter`
only, when the first block is painted."""

from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, ListItem, Markdown, MarkdownElement
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text

# HTML is text here: rich would drop it, and an answer about web pages with it.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


class _Heading(Heading):
    """To the left, without a box."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        if self.tag == "h1":
            self.text.stylize("underline")
        yield self.text


class _Item(ListItem):
    """Numbers as they are written, with their dot."""

    def render_number(self, console: Console, options: ConsoleOptions, number: int, last_number: int) -> RenderResult:
        mark = f"{number}. "
        inner = options.update(width=max(1, options.max_width - len(mark)))
        for at, line in enumerate(console.render_lines(self.elements, inner, style=self.style)):
            yield Segment(mark if at == 0 else " " * len(mark), None)
            yield from line
            yield Segment("\n")


class _Markdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _Heading,
        "list_item_open": _Item,
    }


def markdown(text: str) -> Markdown:
    """A block of Markdown. Links show their address; a new line in a text stays one, as models mean it."""
    block = _Markdown("", hyperlinks=False)
    block.markup, block.parsed = text, _PARSER.parse(text)
    for token in block.parsed:
        for child in token.children or ():
            _keep_break(child)
    return block


def _keep_break(token: Token) -> None:
    if token.type == "softbreak":
        token.type = "hardbreak"


def highlighted(code: str, language: str) -> list[Text]:
    """The lines of code in the terminal's own colours; plain for a language that nobody knows."""
    text = Syntax(code, language or "text", theme="ansi_dark", background_color="default").highlight(code)
    text.no_wrap = False
    lines = list(text.split("\n", allow_blank=True))
    return lines[: code.count("\n") + 1]
