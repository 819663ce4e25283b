"""`--cli --jsonl` on a real bundle: many rows in, one object a row out, whatever happens in between."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import STEADY, TIMEOUT, Cli, Runner
from tests.integration.terminal import Terminal


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def sums(count: int) -> Iterable[tuple[str, str]]:
    """Questions and their answers, `count` of them, in an order that no sorting would make."""
    for number in range(count):
        a, b = number % 10, number // 10 % 10
        yield f"What is {a}+{b}?", f"{a} + {b} = {a + b}."


def write_sums(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps(question) + "\n" for question, _ in sums(count)))


def test_rows_are_texts_or_objects_and_answers_come_in_their_order(cli: Cli, tmp_path: Path) -> None:
    rows = [
        "What is the capital of France?",
        {"prompt": "What is 2+3?", "id": "sum"},
        {"messages": [{"role": "user", "content": "What is the capital of Italy?"}], "id": 3},
        {"prompt": "What is 2+3?", "think": True},
        {"prompt": "Count to fifty.", "max_tokens": 3},
        {"prompt": "Hello!", "json_schema": {"enum": [7]}},
        {"prompt": "Hello!", "grammar": 'root ::= "yes"'},
        {"prompt": "What is the capital of Italy?", "system": "Always answer in capital letters."},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in rows))
    done = cli("--jsonl", file, "--parallel", "3")
    told = objects(done.out)
    assert (done.code, done.err) == (0, "")
    assert [each["line"] for each in told] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert [each["text"] for each in told[:3]] == [
        "The capital of France is Paris.", "2 + 3 = 5.", "The capital of Italy is Rome."
    ]  # fmt: skip
    assert [each.get("id") for each in told[:3]] == [None, "sum", 3]
    assert "5" in told[3]["reasoning"]
    assert (told[4]["completion_tokens"], told[4]["finish_reason"]) == (3, "length")
    assert [told[5]["text"], told[6]["text"]] == ["7", "yes"]
    assert "ROME" in told[7]["text"]
    assert all(each["prompt_tokens"] > 0 and isinstance(each["seed"], int) for each in told)


def test_rows_come_from_standard_input_while_it_is_still_open(cli: Cli) -> None:
    child = cli.start("--jsonl", "-n", "2", stdin=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    for line in range(1, 4):
        child.stdin.write(b'"Hello!"\n')
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["line"] == line
    out, err = child.communicate(timeout=TIMEOUT)
    assert (child.returncode, out, err) == (0, b"", b"")


def test_unordered_rows_come_as_they_are_done(cli: Cli) -> None:
    rows = '{"prompt": "Count to fifty.", "ignore_eos": true, "max_tokens": 600}\n' + '"Hello!"\n' * 3
    options = ("--jsonl", "-n", "2", "--parallel", "2")
    assert [each["line"] for each in objects(cli(*options, input=rows).out)] == [1, 2, 3, 4]
    unordered = [each["line"] for each in objects(cli(*options, "--unordered", input=rows).out)]
    assert sorted(unordered) == [1, 2, 3, 4]
    assert unordered[-1] == 1


BAD_ROWS = [
    ("{", "not JSON"),
    ("What is 2+3?", "not JSON"),
    ("5", "a row is a text or an object"),
    ('{"id": "x"}', "no prompt"),
    ('""', "the prompt is empty"),
    ('{"prompt": 5}', "prompt must be a text"),
    ('{"prompt": "x", "messages": []}', "contradict"),
    ('{"messages": [5]}', "messages must be a list"),
    ('{"prompt": "x", "temprature": 1}', "did you mean temperature?"),
    ('{"prompt": "x", "temperature": "hot"}', "temperature"),
    ('{"prompt": "x", "think": "yes"}', "true or false"),
    ('{"prompt": "x", "max_tokens": 0}', "use 1 or more"),
    ('{"prompt": "x", "mirostat": 3}', "mirostat is 0, 1 or 2"),
    ('{"prompt": "x", "json_schema": {"type": 5}}', "the JSON schema has a mistake"),
    ('{"prompt": "x", "grammar": "root ::= \\n x"}', "line 2, column 2"),
    ('{"prompt": "x", "grammar": 5}', "grammar must be a text"),
    (json.dumps("word " * 6000), "the context holds 4,096"),
    ('{"prompt": "\\ud83d"}', "half a character"),
    ("[" * 100_000, "not JSON"),
    ('"\udcff"', "not UTF-8 text: byte 0xff"),
]


def test_a_bad_row_is_an_error_with_its_line_and_the_run_goes_on(cli: Cli) -> None:
    lines = ['"What is 2+3?"', *(row for row, _ in BAD_ROWS), '"What is the capital of France?"']
    done = cli("--jsonl", "--parallel", "2", input="\n".join(lines).encode(errors="surrogateescape"))
    first, *bad, last = objects(done.out)
    assert done.code == 1
    assert done.one_line.endswith(f"{len(BAD_ROWS)} of {len(lines)} rows failed, the first in line 2")
    assert (first["text"], last["text"]) == ("2 + 3 = 5.", "The capital of France is Paris.")
    for number, ((_, words), told) in enumerate(zip(BAD_ROWS, bad, strict=True), 2):
        assert told["line"] == number
        assert words in told["error"]["message"], told
    assert bad[3]["id"] == "x"


def test_short_rows_share_a_cache_and_each_has_a_context_of_its_own(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": question, "max_tokens": 16} for question, _ in sums(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "word " * 6000}]))
    done = cli("--jsonl", file, "--parallel", "4", "-c", "512", "--verbose")
    *told, too_long = objects(done.out)
    assert done.code == 1
    assert "n_ctx_slot = 512, kv_unified = 'true'" in done.err
    assert [each["text"] for each in told] == [answer for _, answer in sums(40)]
    assert "the context holds 512" in too_long["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (["-p", "x"], '"x"', 2, "contradict"),
        (["-f", "x"], '"x"', 2, "contradict"),
        (["--stream-json"], '"x"', 2, "contradict"),
        (["--tokenize"], '"x"', 2, "contradict"),
        (["-o", "/nowhere/out"], '"x"', 2, "cannot write /nowhere/out"),
        (["-o", "/"], '"x"', 2, "cannot write"),
        (["-j", '{"type": 5}'], '"x"', 2, "the JSON schema has a mistake at #"),
        (["--grammar", "root ::= ("], '"x"', 2, "line 1, column 11"),
        (["-np", "0"], '"x"', 2, "out of range"),
    ],
)
def test_mistakes_end_it_before_the_first_row(
    cli: Cli, arguments: list[str], stdin: str, code: int, words: str
) -> None:
    done = cli("--jsonl", "-", *arguments, input=stdin)
    assert (done.code, done.out) == (code, "")
    assert words in done.one_line


def test_no_rows_are_no_failure_and_no_file_is_one(cli: Cli, tmp_path: Path) -> None:
    assert cli("--jsonl", input=b"\n\n").code == 0
    lost = cli("--jsonl", tmp_path / "nothing")
    assert (lost.code, lost.out) == (2, "")
    assert "no such file" in lost.one_line


def wait_for_lines(path: Path, count: int, child: "subprocess.Popen[bytes]") -> None:
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)


def test_a_run_that_is_killed_twice_ends_with_every_row_answered_once(cli: Cli, tmp_path: Path) -> None:
    count = 2000
    rows, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    write_sums(rows, count)
    for enough, number in ((400, signal.SIGKILL), (1100, signal.SIGINT)):
        child = cli.start("--jsonl", rows, "-o", out, "--parallel", "8")
        wait_for_lines(out, enough, child)
        child.send_signal(number)
        _, err = child.communicate(timeout=TIMEOUT)
        assert (child.returncode, err) == (-9 if number == signal.SIGKILL else 130, b"")
    before = out.read_bytes()
    assert before.count(b"\n") < count
    out.write_bytes(before + b'{"line": 1999, "te')  # as a kill in the middle of a write leaves it
    done = cli("--jsonl", rows, "-o", out, "--parallel", "8")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert out.read_bytes().startswith(before)
    told = objects(out.read_text())
    assert [each["line"] for each in told] == list(range(1, count + 1))
    assert [each["text"] for each in told] == [answer for _, answer in sums(count)]


def test_rows_that_failed_are_tried_again_and_put_into_their_place(cli: Cli, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    rows.write_text('"What is 1+1?"\n{"prompt": 5}\n"What is 1+2?"\n')
    assert cli("--jsonl", rows, "-o", out).code == 1
    assert ["error" in each for each in objects(out.read_text())] == [False, True, False]
    rows.write_text('"What is 1+1?"\n"What is 1+3?"\n"What is 1+2?"\n"What is 1+4?"\n')
    assert cli("--jsonl", rows, "-o", out).code == 0
    told = objects(out.read_text())
    assert [each["line"] for each in told] == [1, 2, 3, 4]
    assert [each["text"][-2:] for each in told] == ["2.", "4.", "3.", "5."]
    assert list(tmp_path.iterdir()) == [rows, out] or list(tmp_path.iterdir()) == [out, rows]


def test_answers_to_another_input_are_not_mixed(cli: Cli, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    write_sums(rows, 3)
    assert cli("--jsonl", rows, "-o", out).code == 0
    before = out.read_bytes()
    for change in (("--jsonl", rows, "-n", "5"), ("--jsonl", rows, "-sys", "Be brief.")):
        done = cli(*change, "-o", out)
        assert (done.code, out.read_bytes()) == (2, before)
        assert "line 1 differs" in done.one_line
    foreign = tmp_path / "notes.txt"
    foreign.write_text("precious")
    done = cli("--jsonl", rows, "-o", foreign)
    assert (done.code, foreign.read_text()) == (2, "precious")
    assert "something else than answers" in done.one_line
    same = cli("--jsonl", rows, "-o", rows)
    assert same.code == 2
    write_sums(foreign, 3)
    assert rows.read_text() == foreign.read_text()


def test_two_runs_do_not_write_the_same_file(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    first = cli.start("--jsonl", "-n", "2", "-o", out, stdin=subprocess.PIPE)
    assert first.stdin is not None
    first.stdin.write(b'"Hello!"\n')
    first.stdin.flush()
    wait_for_lines(out, 1, first)
    second = cli("--jsonl", "-o", out, input='"Hello!"')
    assert second.code == 2
    assert "another run is writing" in second.one_line
    assert first.communicate(timeout=TIMEOUT) == (b"", b"")
    assert first.returncode == 0


def peak(cli: Cli, rows: Path) -> int:
    """Resident bytes at the most, of a run over these rows."""
    with subprocess.Popen(
        [cli.bundle, "--cli", *STEADY, "--jsonl", rows, "--parallel", "2", "-o", os.devnull],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(cli.run.env),
    ) as child:  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 1
    return usage.ru_maxrss * 1024


def test_memory_does_not_grow_with_the_rows(cli: Cli, tmp_path: Path) -> None:
    """Most rows are bad ones, for they cost least; each would take a kilobyte if it were kept."""
    bad, good = json.dumps({"prompt": 5, "id": "x" * 500}) + "\n", '{"prompt": "Hello!", "max_tokens": 1}\n'
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    few.write_text(good + bad * 999)
    many.write_text((good + bad * 999) * 100)
    assert peak(cli, many) < peak(cli, few) + 20_000_000


def test_vectors_of_rows(cli: Cli) -> None:
    done = cli("--embedding", "--jsonl", input='"Hello!"\n{"prompt": "Bye!", "id": "b"}\n')
    told = objects(done.out)
    assert done.code == 0
    assert [each.get("id") for each in told] == [None, "b"]
    assert len({len(each["embedding"]) for each in told}) == 1
    assert told[0]["embedding"] != told[1]["embedding"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_rows(cli: Cli, tmp_path: Path, number: signal.Signals, code: int) -> None:
    rows = tmp_path / "rows.jsonl"
    write_sums(rows, 5000)
    child = cli.start("--jsonl", rows)
    assert child.stdout is not None
    first = child.stdout.readline()
    child.send_signal(number)
    rest, err = child.communicate(timeout=TIMEOUT)
    assert (child.returncode, err) == (code, b"")
    told = objects((first + rest).decode())
    assert [each["line"] for each in told] == list(range(1, len(told) + 1))


def test_a_reader_that_leaves_ends_the_rows_quietly(cli: Cli, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    write_sums(rows, 5000)
    done = cli.run("sh", "-c", '"$0" --cli -t 1 --jsonl "$1" | head -n 1', cli.bundle, rows)
    assert (done.code, len(objects(done.out)), done.err) == (0, 1, "")


def test_progress_is_shown_on_a_terminal_and_taken_away(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    write_sums(rows, 400)
    command = [demo_bundle, "--cli", *STEADY, "--jsonl", rows, "-o", out]
    terminal = Terminal(command, run.env, columns=100)
    assert terminal.end() == 0
    seen = terminal.raw.decode()
    assert re.search(r"\[#+\.+\] +\d+%  \d+ rows  [\d.]+ rows/s  [\d,]+ tokens/s  \d:\d\d left", seen), seen
    assert terminal.text == ""
    assert out.read_bytes().count(b"\n") == 400
