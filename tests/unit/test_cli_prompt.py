import io
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import AnswerWriter
from launcher.console import Console
from launcher.options import Face, LaunchOptions
from launcher.texts import decode, gather_prompt, read_text, system_prompt, unescape
from runtime.errors import UsageError


def options(**fields: Any) -> LaunchOptions:
    return LaunchOptions(face=Face.CLI, **fields)


def test_context_comes_before_the_prompt() -> None:
    assert gather_prompt(options(prompt="Sum up."), ["file\n"], "stdin\n") == "file\n\nstdin\n\nSum up."


def test_stdin_alone_is_the_prompt() -> None:
    assert gather_prompt(options(), [], "What?\n") == "What?"
    assert gather_prompt(options(prompt="-"), [], "What?\n") == "What?"


def test_plain_completions_join_as_they_are() -> None:
    assert gather_prompt(options(prompt="c ", raw=True), ["a\n"], "b\n") == "a\nb\nc "


def test_escapes_only_when_asked_for() -> None:
    assert gather_prompt(options(prompt=r"a\nb"), [], None) == r"a\nb"
    assert gather_prompt(options(prompt=r"a\nb", escapes=True), [], None) == "a\nb"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(r"\t\"\\n", '\t"\\n'), (r"\d", r"\d"), ("end\\", "end\\"), (r"\\\\", r"\\"), (r"\\\n", "\\\n"), ("", "")],
)
def test_escapes(text: str, expected: str) -> None:
    assert unescape(text) == expected


@pytest.mark.parametrize("stdin", [None, "", " \n"])
def test_nothing_to_answer(stdin: str | None) -> None:
    with pytest.raises(UsageError, match="prompt is empty"):
        gather_prompt(options(prompt=""), [], stdin)


def test_bytes_that_are_no_utf8_are_named() -> None:
    with pytest.raises(UsageError, match="standard input is not UTF-8 text: byte 0xff at offset 2"):
        decode(b"ab\xff", "standard input")
    assert decode("\ufeffGrüße".encode(), "x") == "Grüße"


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "system.txt"
    file.write_text("Be brief.")
    assert system_prompt(options(system_file=file)) == "Be brief."
    with pytest.raises(UsageError, match=r"cannot read .*: is a directory"):
        read_text(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        read_text(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("pieces", "keep_start", "expected"),
    [
        (["\n\n", "\nHel", "lo\n", "\n", "you\n\n"], False, "Hello\n\nyou\n"),
        (["\n", "a"], True, "\na\n"),
        ([], False, "\n"),
        (["a", "", "b"], False, "ab\n"),
    ],
)
def test_exactly_one_new_line_ends_the_answer(pieces: list[str], keep_start: bool, expected: str) -> None:
    out = io.StringIO()
    writer = AnswerWriter(Console(stdin=out, stdout=out, stderr=out, env={}), keep_start=keep_start)
    for piece in pieces:
        writer.write(piece)
    writer.end()
    assert out.getvalue() == expected
