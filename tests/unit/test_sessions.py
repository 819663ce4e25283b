import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.archive import Archive
from launcher.conversation import ASSISTANT, USER, Conversation, Turn
from launcher.sessions import Journal, checked_name, read, saved
from runtime.errors import UsageError


def said(text: str) -> Turn:
    return Turn(role=USER, content=text)


def answered(text: str) -> Turn:
    return Turn(role=ASSISTANT, content=text)


OPEN: list[Archive] = []


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def archive(folder: Path, complaints: list[str] | None = None) -> Archive:
    OPEN.append(Archive(folder, "Tiny", (complaints if complaints is not None else []).append))
    return OPEN[-1]


def talk(keeper: Archive, *texts: str) -> Conversation:
    conversation = Conversation()
    keeper.keep(conversation)
    for at, text in enumerate(texts):
        conversation.add(answered(text) if at % 2 else said(text))
    return conversation


def test_a_conversation_comes_back_as_it_was(tmp_path: Path) -> None:
    keeper = archive(tmp_path)
    conversation = Conversation()
    keeper.keep(conversation)
    conversation.set_system("Be brief.")
    assert list(tmp_path.iterdir()) == []  # nothing said, nothing written
    conversation.add(Turn(role=USER, content="text", file="a b.txt"))
    conversation.add(said("one\ntwo 千问"))
    conversation.add(Turn(role=ASSISTANT, content="half", interrupted=True))
    conversation.add(said("more"))
    conversation.cut(3, 4)
    (path,) = tmp_path.iterdir()
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600
    again = read(path)
    assert (again.system, again.turns) == (conversation.system, conversation.turns)


def test_what_a_killed_program_leaves_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    journal = Journal(tmp_path, "Tiny", lambda _: None)
    journal.turn(said("count"))
    journal.piece("1 2 3 ")
    journal._flushed = 0.0
    journal.piece("4 5")
    assert journal.path
    path.write_bytes(journal.path.read_bytes() + b'{"piece": "6')
    assert [(turn.content, turn.interrupted) for turn in read(path).turns] == [("count", False), ("1 2 3 4 5", True)]
    journal.close()
    journal.path.unlink()
    keeper = archive(tmp_path)
    conversation, same = keeper.open(path)
    assert same
    conversation.add(said("go on"))
    assert [turn.content for turn in read(path).turns] == ["count", "1 2 3 4 5", "go on"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"hello\n", "is no conversation"),
        (b"\x00\xff\xfe\n", "is no conversation"),
        (b'{"some": "json"}\n', "is no conversation"),
        (b'{"qwenfile": 99}\n', "is no conversation"),
        (b'{"qwenfile": 1}\nrubbish\n{"role": "user", "content": "x"}\n', "damaged in line 2"),
        (b'{"qwenfile": 1}\n{"role": "system", "content": "x"}\n{}\n{"role": "user", "content": "x"}\n', "in line 2"),
        (b'{"qwenfile": 1}\n{"role": "user", "content": 5}\n{"cut": [0, 9]}\n', "damaged in line 2"),
        (b"[" * 100_000, "is no conversation"),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=problem):
        read(path)
    assert saved(tmp_path) == []


def test_a_folder_or_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read(tmp_path)
    with pytest.raises(UsageError, match="no conversation nothing"):
        archive(tmp_path).find("nothing")


def test_two_chats_do_not_write_one_file(tmp_path: Path) -> None:
    one, two = archive(tmp_path), archive(tmp_path)
    first, second = talk(one, "a"), talk(two, "b")
    assert one.name != two.name
    copy, same = two.open(tmp_path / f"{one.name}.jsonl")
    assert not same
    copy.add(answered("only in the copy"))
    first.add(answered("x"))
    assert [turn.content for turn in read(tmp_path / f"{one.name}.jsonl").turns] == ["a", "x"]
    assert [turn.content for turn in read(tmp_path / f"{two.name}.jsonl").turns] == ["a", "only in the copy"]
    assert second.turns == [said("b")]


def test_names(tmp_path: Path) -> None:
    keeper = archive(tmp_path)
    with pytest.raises(UsageError, match="nothing to save"):
        keeper.rename("x")
    talk(keeper, "hello", "hi")
    keeper.rename("my talk")
    assert keeper.find("my talk").name == "my talk.jsonl"
    other = archive(tmp_path)
    conversation = talk(other, "again")
    with pytest.raises(UsageError, match="already"):
        other.rename("my talk")
    other.rename("other")
    conversation.add(answered("still written"))
    assert (saved(tmp_path)[0].name, saved(tmp_path)[0].turns) == ("other", 1)
    assert [each.title for each in saved(tmp_path)] == ["again", "hello"]
    with pytest.raises(UsageError, match=r"no conversation my tlk \(did you mean my talk"):
        keeper.find("my tlk")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 81, "a\0b", "end."])
def test_names_that_cannot_be_files(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a conversation's name"):
        checked_name(name)


def test_a_full_or_broken_disk_is_told_once(tmp_path: Path) -> None:
    complaints: list[str] = []
    keeper = archive(tmp_path / "gone" / "deeper", complaints)
    conversation = talk(keeper, "a", "b")
    conversation.add(said("c"))
    assert len(complaints) == 1
    assert os.name == "nt" or complaints == ["no such file or directory"]
    with pytest.raises(UsageError, match="cannot be saved"):
        keeper.rename("x")


def test_marks_move_with_what_is_cut() -> None:
    conversation = Conversation(turns=[said(str(n)) for n in range(6)], marks=[0, 2, 4, 6])
    conversation.cut(1, 3)
    assert conversation.marks == [0, 2, 4]
    conversation.cut(2, 4)
    assert conversation.marks == [0, 2]


def test_files_and_words_are_one_message() -> None:
    conversation = Conversation(system="s")
    conversation.add(Turn(role=USER, content="content", file="f.txt"))
    conversation.add(said("what is in it?"))
    assert json.loads(json.dumps(conversation.messages())) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "File f.txt:\n\ncontent\n\nwhat is in it?"},
    ]
    conversation.add(answered("a"))
    conversation.add(said("b"))
    assert conversation.oldest_exchange() == (1, 3)
    conversation.cut(1, 3)
    assert [turn.content for turn in conversation.turns] == ["content", "b"]
