"""--jsonl: many prompts, answered at the machine's full throughput. Imported by the launcher only.

Rows are read as there is room for them, asked on as many connections as the engine has slots, and written as they
come, whole lines each; memory does not grow with their number.
"""

import contextlib
import io
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

from launcher.answers import AnswerFile
from launcher.batch import Limits, concurrently
from launcher.console import Console
from launcher.options import LaunchOptions
from launcher.progress import Progress
from launcher.row import BadRow, Reader, Row, Told, answer, expected_tokens, failure
from launcher.session import Place, Session
from launcher.signals import end_with_reader, undivided
from launcher.texts import input_bytes, system_prompt
from launcher.work import engine_at_work
from runtime.errors import QwenfileError, UsageError

# Rows known at a time: enough that one long answer doesn't keep the other slots waiting for its place in the order.
_WINDOW_PER_SLOT = 16
_LEAST_WINDOW = 64
# Tokens of a row's prompt and answer. Rows up to here are answered 8 % faster if they share one cache (8 slots of the
# 0.6B shape, 2 cores), those of 150 tokens 15 % slower, because each looks at the places of all.
_SHORT = 64
# Bytes of a line; what is longer is no row.
_LONGEST = 64 * 1024 * 1024


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Answer all rows. Returns 1 if some failed."""
    reader = Reader(options, place.bundle.manifest, system_prompt(options))
    with contextlib.ExitStack() as closing:
        source = closing.enter_context(Source(options.rows or "-", console))
        out = None
        if options.output not in (None, "-"):
            path = Path(str(options.output))
            if source.is_file(path):
                raise UsageError(f"{path} is the input", "write the answers to another file with -o")
            out = closing.enter_context(AnswerFile(path))
        options = replace(options, short_rows=_all_short(source, reader))
        session = closing.enter_context(engine_at_work(options, place, console))
        client = session.ready()
        if options.schema is not None:  # one mistake told once, not in every row
            client.post("/completion", {"prompt": "x", "n_predict": 0, "json_schema": options.schema})
        progress = Progress(console.stderr, source.part)
        tasks = _tasks(source, reader, out)
        if out is None:
            end_with_reader(console.stdout)
        first_failed = _answer_all(session, tasks, options, console, out=out, progress=progress)
        if out is not None:
            out.finish(ordered=not options.unordered)
    if not progress.failed:
        return 0
    rows = "row" if progress.done == 1 else "rows"
    where = f"the first in line {first_failed}" if progress.failed > 1 else f"in line {first_failed}"
    console.complain(f"{progress.failed:,} of {progress.done:,} {rows} failed, {where}")
    return 1


def _answer_all(
    session: Session,
    tasks: Iterator[Row | BadRow],
    options: LaunchOptions,
    console: Console,
    *,
    out: AnswerFile | None,
    progress: Progress,
) -> int:
    """Ask and write. Returns the line of the first failed row, 0 if there is none."""
    window = max(_LEAST_WINDOW, _WINDOW_PER_SLOT * session.slots)
    # As many rows wait in the engine as it has slots: those that end together begin together, in one batch.
    limits = Limits(threads=2 * session.slots, window=window, ordered=not options.unordered)
    end_beginning = session.ready().read_ahead("x")  # the first ones come while it is at that: they begin together
    first_failed = 0
    try:
        for told in concurrently(tasks, _worker(session, options), limits, progress.show):
            text = json.dumps(told.told, ensure_ascii=False)
            with undivided():
                if out is not None:
                    out.append(told.line, text)
                else:
                    if console.answers_to_terminal:
                        progress.end()  # it may be the same terminal
                    console.answer(text + "\n")
            if told.failed and (not first_failed or told.line < first_failed):
                first_failed = told.line
            progress.add(failed=told.failed, tokens=told.tokens)
    finally:
        progress.end()
        end_beginning()
    return first_failed


class _worker:  # noqa: N801 - a function with memory
    """Asks one row; an error of the row's own is its answer, an error of the engine ends the run."""

    def __init__(self, session: Session, options: LaunchOptions) -> None:
        from launcher.options import Work

        self._session = session
        self._client = session.ready()
        self._raw = options.raw
        self._embedding = options.work is Work.EMBEDDING
        self._checked = options.grammar

    def __call__(self, row: Row | BadRow) -> Told:
        if isinstance(row, BadRow):
            return failure(row, row.problem)
        try:
            grammar = row.body.get("grammar")
            if grammar is not None and grammar != self._checked:
                self._check(grammar)
            return answer(self._client, row, raw=self._raw, embedding=self._embedding)
        except QwenfileError as error:
            self._session.check()
            return failure(row, error)

    def _check(self, grammar: object) -> None:
        from launcher.grammar import check

        if not isinstance(grammar, str):
            raise UsageError("grammar must be a text")
        check(self._session, grammar)


def _tasks(source: "Source", reader: Reader, out: AnswerFile | None) -> Iterator[Row | BadRow]:
    """The rows that are not answered yet."""
    for line, data in source:
        if len(data) > _LONGEST:
            yield BadRow(line=line, key="0", problem=f"the line has more than {_LONGEST:,} bytes")
            continue
        row = reader.read(line, data)
        if out is None or not out.skip(line, row.key):
            yield row


def _all_short(source: "Source", reader: Reader) -> bool:
    """Whether the rows at the beginning of a file are all short. Rows that are not only take longer then."""
    rows = (reader.read(line, data) for line, data in enumerate(source.beginning(), 1) if data.strip())
    known = [expected_tokens(row) for row in rows if isinstance(row, Row)]
    return bool(known) and max(known) <= _SHORT


class Source:
    """The lines of a file or of standard input, read when they are wanted; empty ones are left out."""

    def __init__(self, name: str, console: Console) -> None:
        """Open it. Raises UsageError if that cannot be done."""
        self._size = self._read = 0
        self._own = name != "-"
        if name == "-":
            if console.reads_terminal:
                raise UsageError("no rows", "name a file after --jsonl, or give rows on standard input")
            self._file: BinaryIO = input_bytes(console)
        else:
            try:
                self._file = Path(name).open("rb")  # noqa: SIM115
            except OSError as error:
                raise UsageError(f"cannot read {name}: {(error.strerror or str(error)).lower()}") from None
        with contextlib.suppress(OSError):
            facts = os.fstat(self._file.fileno())
            self._size = facts.st_size if stat.S_ISREG(facts.st_mode) else 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Line numbers, from 1, and lines."""
        number, whole = 0, True
        while data := self._file.readline(_LONGEST + 1):
            self._read += len(data)
            begins, whole = whole, data.endswith(b"\n")
            if not begins:
                continue  # the rest of a line that is too long
            number += 1
            if number == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            if data.strip():
                yield number, data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._file.close()

    def beginning(self) -> list[bytes]:
        """The first lines of a file, some thousand bytes, which stay to be read; none of a pipe, which may be slow."""
        return self._file.peek().splitlines()[:-1] if self._size and isinstance(self._file, io.BufferedReader) else []

    def part(self) -> float | None:
        """How much was read, 0 to 1; None if nobody knows how much there is."""
        return min(1.0, self._read / self._size) if self._size else None

    def is_file(self, path: Path) -> bool:
        """Whether it reads this very file."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), path.stat()) and path.is_file()
        except OSError:
            return False
