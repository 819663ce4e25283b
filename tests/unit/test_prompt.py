import os
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from launcher.pastes import Pastes
from launcher.prompt import CommandCompleter, SafeHistory, file_completions, history


def completions(text: str) -> list[str]:
    found = CommandCompleter(lambda: ["one talk", "two"]).get_completions(Document(text), CompleteEvent())
    return [text[: len(text) + each.start_position] + each.text for each in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/th", ["/think"]),
        ("/up", ["/upload"]),
        ("/think f", ["/think fold"]),
        ("/help st", ["/help stats", "/help stack"]),
        ("/set top", ["/set top_p ", "/set top_k "]),
        ("/load o", ["/load one talk"]),
        ("/clear ", []),
        ("hello", []),
        ("/nothing x", []),
    ],
)
def test_commands_and_their_words(text: str, expected: list[str]) -> None:
    assert completions(text) == expected


def test_files_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my notes.txt").touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more/in here.txt").touch()
    (tmp_path / ".hidden").touch()
    monkeypatch.chdir(tmp_path)
    assert completions("/file m") == ["/file more/", '/file "my notes.txt"']
    assert completions("/file more/i") == ['/file "more/in here.txt"']
    assert completions('/file x.txt "my n') == ['/file x.txt "my notes.txt"']
    assert completions("/export my n") == ["/export my notes.txt"]
    assert completions(f"/file {tmp_path}/mo") == [f"/file {tmp_path}/more/"]
    assert list(file_completions("/no/such/folder/x", many=True)) == []


def test_long_pastes_stand_as_notes() -> None:
    pastes = Pastes()
    assert pastes.note("short\ntext") == "short\ntext"
    text = "x" * 999_999 + "\n"
    note = pastes.note(text)
    assert note == "[pasted text 1: 1,000,000 characters, 2 lines]"
    assert pastes.expand(f"look: {note}!") == f"look: {text}!"


def test_text_that_comes_in_pieces_is_one_note() -> None:
    pastes = Pastes()
    line = ""
    for _ in range(100):
        line = pastes.add(line, "y" * 1000)
    assert len(line) < 100
    assert pastes.expand(line) == "y" * 100_000


def test_the_history_takes_anything_and_complains_once(tmp_path: Path) -> None:
    complaints: list[str] = []
    file = tmp_path / "history"
    file.write_bytes(b"\n# x\n+\xff\xfe\n")
    past = history(file, complaints.append)
    assert isinstance(past, SafeHistory)
    past.append_string("lone \udcff surrogate")
    past.append_string("x" * 1_000_000)
    assert file.stat().st_size < 1000
    assert list(history(file, complaints.append).load_history_strings()) == ["lone ? surrogate", "\ufffd\ufffd"]
    file.unlink()
    file.mkdir()
    past.append_string("a")
    past.append_string("b")
    assert complaints == ["permission denied" if os.name == "nt" else "is a directory"]
    history(file, complaints.append)
    assert len(complaints) == 2
