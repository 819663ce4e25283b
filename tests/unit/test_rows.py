import contextlib
import io
import json
import math
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.answers import AnswerFile
from launcher.batch import Limits, concurrently
from launcher.console import Console
from launcher.options import Face, LaunchOptions, Work
from launcher.progress import Progress
from launcher.row import BadRow, Reader, Row, expected_tokens, failure
from launcher.rows import Source
from runtime.errors import UsageError
from tests.unit.manifests import manifest


def reader(system: str | None = None, **fields: Any) -> Reader:
    return Reader(LaunchOptions(face=Face.CLI, **fields), manifest(), system)


def row(data: Any, **fields: Any) -> Row:
    found = reader(**fields).read(1, json.dumps(data).encode())
    assert isinstance(found, Row), found
    return found


def test_how_long_a_row_may_become_is_known_if_its_answer_is_limited() -> None:
    assert expected_tokens(row("Hi")) == math.inf
    assert expected_tokens(row({"prompt": "Hi", "n_predict": -1})) == math.inf
    assert 8 < expected_tokens(row({"prompt": "Hi", "max_tokens": 8})) < 32
    assert expected_tokens(row({"prompt": "word " * 100}, predict=8)) > 108


def test_the_beginning_of_a_file_stays_to_be_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [b"%d\n" % number for number in range(10_000)]
    file.write_bytes(b"".join(lines))
    console = Console(stdin=io.StringIO(), stdout=io.StringIO(), stderr=io.StringIO(), env={})
    with Source(str(file), console) as source:
        beginning = source.beginning()
        assert 100 < len(beginning) < 10_000
        assert [line + b"\n" for line in beginning] == lines[: len(beginning)]
        assert [data for _, data in source] == lines


def test_a_text_is_a_prompt() -> None:
    assert row("Hi").messages == ({"role": "user", "content": "Hi"},)
    assert row("Hi") == row({"prompt": "Hi"})
    assert row("Hi", raw=True).prompt == "Hi"
    assert row("Hi", work=Work.EMBEDDING).messages == ()


def test_system_prompts() -> None:
    assert row("Hi", system="Be brief.").messages[0] == {"role": "system", "content": "Be brief."}
    assert row({"prompt": "Hi", "system": "Shout."}, system="Be brief.").messages[0]["content"] == "Shout."
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hi"}]
    assert list(row({"messages": own}, system="Be brief.").messages) == own


def test_rows_change_the_settings_of_the_command_line() -> None:
    found = row(
        {"prompt": "x", "max_tokens": 5, "temperature": 0, "top_k": 3}, predict=9, sampling={"temperature": 1.0}
    )
    assert (found.body["n_predict"], found.body["temperature"], found.body["top_k"]) == (5, 0, 3)
    assert row({"prompt": "x", "think": True}).body["chat_template_kwargs"] == {"enable_thinking": True}
    assert row("x").body["chat_template_kwargs"] == {"enable_thinking": False}
    formed = row({"prompt": "x", "json_schema": {}}, grammar='root ::= "a"')
    assert "grammar" not in formed.body


def test_the_key_changes_with_all_that_the_answer_depends_on() -> None:
    rows = [row("a"), row("b"), row({"prompt": "a", "seed": 1}), row("a", predict=5), row("a", system="s")]
    rows += [row("a", raw=True), row("a", work=Work.EMBEDDING)]
    assert len({each.key for each in rows}) == len(rows)
    assert row("a").key == row({"prompt": "a", "id": "named"}).key
    assert row("a", threads=1, parallel=3).key == row("a").key


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"nothing", b'{"prompt": NaN}', b"\xff", b'{"prompt": "\\ud800"}'])
def test_bad_rows_are_told_apart_and_never_raise(data: bytes) -> None:
    found = reader().read(7, data)
    assert isinstance(found, BadRow)
    assert failure(found, found.problem).told["line"] == 7


def test_random_bytes_are_bad_rows() -> None:
    dice = random.Random(7)
    for _ in range(2000):
        data = bytes(dice.choices(b'{}[]":,prompt messages 0123\\u\xff\x00', k=dice.randrange(40)))
        assert isinstance(reader().read(1, data), Row | BadRow)


def numbers(count: int, seen: list[int]) -> Any:
    for number in range(count):
        seen.append(number)
        yield number


def slow_for_some(number: int) -> int:
    if number % 7 == 0:
        time.sleep(0.002)
    return number * 2


@pytest.mark.parametrize("ordered", [True, False])
def test_every_task_has_one_result(ordered: bool) -> None:
    limits = Limits(threads=4, window=8, ordered=ordered)
    results = list(concurrently(range(200), slow_for_some, limits, lambda: None))
    assert (results if ordered else sorted(results)) == [2 * number for number in range(200)]
    assert not list(concurrently([], slow_for_some, limits, lambda: None))


def test_no_more_tasks_are_read_than_the_window_holds() -> None:
    seen: list[int] = []
    results = concurrently(numbers(1000, seen), slow_for_some, Limits(threads=4, window=10), lambda: None)
    for used in range(50):
        assert next(results) == 2 * used
        assert len(seen) <= used + 12  # one is in the reader's hand, waiting for room


def test_results_come_while_the_next_task_is_not_there_yet() -> None:
    gate = threading.Event()

    def tasks() -> Any:
        yield 1
        gate.wait()
        yield 2

    results = concurrently(tasks(), slow_for_some, Limits(threads=2, window=8), lambda: None)
    assert next(results) == 2
    gate.set()
    assert list(results) == [4]


def test_errors_of_the_work_and_of_the_reading_end_it() -> None:
    def broken(count: int) -> Any:
        yield from range(count)
        raise UsageError("no more")

    def fragile(number: int) -> int:
        return 1 // (5 - number)

    limits = Limits(threads=3, window=8)
    with pytest.raises(UsageError, match="no more"):
        list(concurrently(broken(20), slow_for_some, limits, lambda: None))
    with pytest.raises(ZeroDivisionError):
        list(concurrently(range(20), fragile, limits, lambda: None))


def line(number: int, **fields: Any) -> str:
    return json.dumps({"line": number, "text": "x" * number, "key": f"{number:016x}", **fields})


@contextlib.contextmanager
def answered(path: Path, *lines: str) -> Iterator[AnswerFile]:
    path.write_text("".join(text + "\n" for text in lines))
    with AnswerFile(path) as out:
        yield out


def test_answers_that_are_there_are_skipped(tmp_path: Path) -> None:
    with answered(tmp_path / "a", line(1), line(3)) as out:
        assert [out.skip(number, f"{number:016x}") for number in range(1, 6)] == [True, False, True, False, False]
        with pytest.raises(UsageError, match="line 3 differs"):
            out.skip(3, "ff")


@pytest.mark.parametrize("half", ["", "{", '{"line": 9', line(9)])
def test_half_a_line_is_dropped(tmp_path: Path, half: str) -> None:
    path = tmp_path / "a"
    path.write_text(line(1) + "\n" + half)
    with AnswerFile(path) as out:
        assert path.read_text() == line(1) + "\n"
        out.append(2, line(2))
    assert path.read_text() == line(1) + "\n" + line(2) + "\n"


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        ([line(1), line(2, error={}), line(1), line(4), line(5, error={})], [line(1), line(4)]),
        ([line(2, error={})], []),
        ([line(2, error={}), line(3)], [line(3)]),
    ],
)
def test_failures_and_doubles_are_dropped(tmp_path: Path, there: list[str], kept: list[str]) -> None:
    with answered(tmp_path / "a", *there):
        assert (tmp_path / "a").read_text().splitlines() == kept


def test_the_end_puts_answers_into_order(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with answered(path, line(1), line(4)) as out:
        for number in (5, 2, 3):
            out.append(number, line(number))
        out.finish(ordered=False)
        assert path.read_text().splitlines() == [line(number) for number in (1, 4, 5, 2, 3)]
        out.finish(ordered=True)
    assert path.read_text().splitlines() == [line(number) for number in (1, 2, 3, 4, 5)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("text", ["notes", "notes\n", '{"a": 1}\n', '{"line": "x", "key": "1"}\n', "[]\n", '{"lime'])
def test_other_files_are_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a"
    path.write_text(text)
    with pytest.raises(UsageError, match="something else than answers"):
        AnswerFile(path)
    assert path.read_text() == text


def test_a_file_is_written_by_one_run_only(tmp_path: Path) -> None:
    with AnswerFile(tmp_path / "a") as first:
        first.append(1, line(1))
        with pytest.raises(UsageError, match="another run"):
            AnswerFile(tmp_path / "a")


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_tells_rate_and_time_left() -> None:
    now, part, stream = [0.0], [0.0], FakeTerminal()
    progress = Progress(stream, lambda: part[0], clock=lambda: now[0])
    progress.show()
    for second in range(1, 11):
        now[0], part[0] = float(second), second / 20
        progress.add(failed=second == 3, tokens=30)
    assert progress.line() == "[##########..........]  50%  10 rows (1 failed)  1.0 rows/s  30 tokens/s  0:10 left"
    progress.end()
    assert stream.getvalue().endswith("\r\x1b[K")
    unknown = Progress(FakeTerminal(), lambda: None, clock=lambda: now[0])
    assert unknown.line() == "0 rows  0.0 rows/s  0 tokens/s"


def test_progress_is_silent_without_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(stream, lambda: None)
    progress.add(failed=False, tokens=1)
    progress.end()
    assert stream.getvalue() == ""


def test_lines_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.rows._LONGEST", 10)
    file = tmp_path / "rows"
    file.write_bytes(b"\xef\xbb\xbf1\n\n  \n" + b"x" * 35 + b"\n5\n" + b"y" * 11)
    console = Console(stdin=io.StringIO(), stdout=io.StringIO(), stderr=io.StringIO(), env={})
    with Source(str(file), console) as source:
        assert [(number, len(data)) for number, data in source] == [(1, 2), (4, 11), (5, 2), (6, 11)]
        assert source.part() == 1.0
        assert source.is_file(file)
        assert not source.is_file(tmp_path)
