"""One line on a terminal that tells how far a long run is. Imported by the launcher only."""

import shutil
import time
from collections.abc import Callable
from typing import TextIO

_EVERY = 0.2  # seconds between two pictures
_BAR = 20


class Progress:
    """Shows itself on `stream` if that is a terminal, else does nothing. `part`: how much of the input was read,
    0 to 1, or None where its end is not known."""

    def __init__(
        self, stream: TextIO, part: Callable[[], float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream if _is_terminal(stream) else None
        self._part = part
        self._clock = clock
        self._start = self._shown = clock()
        self._start_part: float | None = None
        self.done = self.failed = self.tokens = 0

    def add(self, *, failed: bool, tokens: int) -> None:
        """One more is done."""
        self.done += 1
        self.failed += failed
        self.tokens += tokens
        self.show()

    def show(self) -> None:
        """Draw the line anew, if there is a terminal and it is time."""
        if self._start_part is None:
            self._start_part = self._part() or 0.0
        if self._stream is not None and self._clock() - self._shown >= _EVERY:
            self._shown = self._clock()
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{self.line()[:width]}")
            self._stream.flush()

    def line(self) -> str:
        """Bar, rows done, rate, tokens/s, and the time that is left if the input's end is known."""
        seconds = max(self._clock() - self._start, 1e-6)
        text = f"{self.done:,} rows" + (f" ({self.failed:,} failed)" if self.failed else "")
        text += f"  {self.done / seconds:.1f} rows/s  {self.tokens / seconds:,.0f} tokens/s"
        part, start = self._part(), self._start_part or 0.0
        if part is None:
            return text
        full = round(_BAR * part)
        bar = f"[{'#' * full}{'.' * (_BAR - full)}] {part:4.0%}  "
        left = f"  {_clock_time(seconds * (1 - part) / (part - start))} left" if part > start else ""
        return bar + text + left

    def end(self) -> None:
        """Take the line away."""
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False
