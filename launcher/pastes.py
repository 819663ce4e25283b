"""What a typed line stands for: texts in triple quotes, and long pastes. Knows no terminal. Imported by the launcher
only."""

QUOTES = '"""'
# A larger paste stands in the line as a note: a terminal would take seconds to draw it.
_PASTE_SHOWN = 4_000


def is_open(text: str) -> bool:
    '''Whether a text that began with """ still waits for the line that ends with """.'''
    start = text.lstrip()
    return start.startswith(QUOTES) and not (len(start.rstrip()) >= 2 * len(QUOTES) and start.rstrip().endswith(QUOTES))


def unquote(text: str) -> str:
    '''Strip the """ around a text of several lines; inner quotes and new lines stay.'''
    bare = text.strip()
    if bare.startswith(QUOTES) and not is_open(text):
        return bare.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")
    return text


class Pastes:
    """Long pasted texts, and the notes that stand for them in the line."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._count = 0

    def note(self, text: str) -> str:
        """What to show for a pasted text: itself if it is short."""
        if len(text) <= _PASTE_SHOWN:
            return text
        self._count += 1
        lines = text.count("\n") + 1
        note = f"[pasted text {self._count}: {len(text):,} characters, {lines:,} line{'s' * (lines != 1)}]"
        self._texts[note] = text
        return note

    def add(self, line: str, text: str) -> str:
        """What the line is with this text at its end, one note for all of it if that is long. Text that comes in
        pieces, from a terminal that doesn't mark pastes, so becomes one note."""
        ended = next((note for note in self._texts if line.endswith(note)), "")
        if not ended and len(line) + len(text) <= _PASTE_SHOWN:
            return line + text
        whole = self.expand(line) + text
        self._texts.pop(ended, None)
        return self.note(whole)

    def expand(self, text: str) -> str:
        """The line with the texts in place of their notes."""
        for note, pasted in self._texts.items():
            text = text.replace(note, pasted)
        return text
