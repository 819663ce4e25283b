"""What each slash command does to a conversation with a scripted engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import files
from launcher.archive import Archive
from launcher.chat import Chat
from launcher.client import ChatEvent, Content, Progress
from runtime.errors import ContextError, UsageError
from tests.unit.manifests import manifest
from tests.unit.scripted_chat import Paper, Script, chat_with, end

Turns = list[ChatEvent | BaseException]


def answer(text: str) -> Turns:
    return [Content(text), end()]


def talk(*answers: str, **options: Any) -> tuple[Chat, Script, Paper]:
    chat, script, paper = chat_with(*map(answer, answers), **options)
    for number in range(len(answers)):
        chat.handle(f"q{number}")
    return chat, script, paper


def contents(chat: Chat) -> list[str]:
    return [turn.content for turn in chat.turns]


def test_undo_forget_and_clear() -> None:
    chat, _, paper = talk("a0", "a1", "a2")
    chat.handle("/undo")
    assert contents(chat) == ["q0", "a0", "q1", "a1"]
    assert paper.lines[-1] == "shows taken back: q2"
    chat.handle("/forget")
    assert contents(chat) == ["q1", "a1"]
    assert "forgotten: q0" in paper.lines[-1]
    chat.handle("/clear")
    assert contents(chat) == []
    for command in ("/undo", "/forget", "/retry"):
        with pytest.raises(UsageError, match="nothing"):
            chat.handle(command)


def test_retry_answers_again_with_a_seed_of_its_own() -> None:
    chat, script, _ = chat_with(answer("a"), answer("b"))
    chat.handle("q")
    chat.handle("/retry")
    assert contents(chat) == ["q", "b"]
    assert "seed" not in script.requests[0][1]
    assert isinstance(script.requests[1][1]["seed"], int)
    assert script.requests[0][0] == script.requests[1][0]


def test_what_was_not_sent_is_sent_by_retry() -> None:
    chat, script, _ = chat_with([KeyboardInterrupt()], answer("a"), answer("b"))
    chat.handle("first")
    assert contents(chat) == []
    chat.handle("/retry")
    assert contents(chat) == ["first", "a"]
    script.token = 5000
    with pytest.raises(
        ContextError, match=r"15,000 tokens of conversation, the context holds 4,096 \(/forget"
    ) as error:
        chat.handle("x" * 5000)
    assert "-c " in str(error.value)
    assert contents(chat) == ["first", "a"]
    script.token = 5
    chat.handle("/retry")
    assert contents(chat)[2:] == ["x" * 5000, "b"]


def test_auto_forget_drops_the_oldest_and_says_so() -> None:
    chat, script, paper = chat_with(*(answer("a" * 900) for _ in range(4)), size=2000, auto_forget=True)
    script.token = 500
    for number in range(4):
        chat.handle(f"q{number}")
    assert contents(chat)[0] != "q0"
    assert contents(chat)[-2] == "q3"
    assert any("forgot the oldest exchange" in line for line in paper.lines)


def test_a_context_that_fills_up_is_told_once_before_it_is_full() -> None:
    full = end(prompt_tokens=85, completion_tokens=5)
    chat, _, paper = chat_with([Content("a"), full], [Content("b"), full], size=100)
    chat.handle("x")
    chat.handle("y")
    assert [line for line in paper.lines if "fills up: 90 of 100" in line] == [
        "notice the context fills up: 90 of 100 tokens used. /forget the oldest exchange, or /clear all"
    ]


def test_edit_sends_what_was_written() -> None:
    chat, script, paper = chat_with(answer("a"))
    chat.handle("/edit draft")
    assert paper.lines == ["edits draft", "shows nothing written, nothing sent"]
    paper.written = "from the editor\n"
    chat.handle("/edit")
    assert script.requests[0][0][-1]["content"] == "from the editor"


def test_think_modes_and_views() -> None:
    chat, _, paper = chat_with(*(answer("a") for _ in range(4)))
    chat.handle("hi /no_think")
    assert not chat.thinks()
    chat.handle("/think on")
    chat.handle("hi")
    assert chat.thinks()
    chat.handle("/think auto")
    assert not chat.thinks()
    chat.handle("/think off")
    assert chat.request()["chat_template_kwargs"] == {"enable_thinking": False}
    chat.handle("/think show")
    assert "view show" in paper.lines


def test_greedy_thinking_is_warned_of_once() -> None:
    chat, _, paper = chat_with(*(answer("a") for _ in range(3)), sampling={"temperature": 0.0})
    for text in ("a /no_think", "b /think", "c"):
        chat.handle(text)
    assert sum("temperature 0 can repeat" in line for line in paper.lines) == 1


def test_set_and_show_say_where_values_come_from() -> None:
    chat, script, paper = chat_with(answer("a"), sampling={"temperature": 0.3, "top_k": 5})
    chat.settings.baked = {"top_k": 5}
    chat.handle("/set top_p 0.5")
    chat.handle("/show")
    rows = {line.split()[0]: line.split()[1:] for line in paper.lines[-1].splitlines()[1:]}
    assert rows["temperature"] == ["0.3", "flag"]
    assert rows["top_k"] == ["5", "baked"]
    assert rows["top_p"] == ["0.5", "set"]
    assert rows["min_p"] == ["0", "preset"]
    chat.handle("hi")
    assert script.requests[0][1]["top_p"] == 0.5
    chat.handle("/set top_p default")
    assert chat.request()["top_p"] == 0.95


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("/set temp", "temperature is"),
        ("/set temp hot", "needs a number"),
        ("/set top_k 1.5", "needs a whole number"),
        ("/set temp 1000", "out of range"),
        ("/set temp nan", "out of range"),
        ("/set colour 1", "no sampling value colour"),
        ("/set", "needs more"),
        ("/load", "needs more"),
    ],
)
def test_bad_values(text: str, problem: str) -> None:
    chat, _, paper = chat_with()
    try:
        chat.handle(text)
    except UsageError as error:
        paper.lines.append(str(error))
    assert problem in paper.lines[-1]


def test_files_are_counted_before_they_are_added(tmp_path: Path) -> None:
    chat, script, paper = chat_with(answer("a"), size=100)
    book = tmp_path / "a book.txt"
    book.write_text("word " * 20)
    chat.handle(f"/file {book}")
    assert paper.lines == ["notice a book.txt: 20 tokens", "notice 90 of 100 tokens are left"]
    assert script.prepared[-1][0]["content"].startswith("File a book.txt:\n\nword")
    long = tmp_path / "long.txt"
    long.write_text("word " * 200)
    with pytest.raises(
        ContextError, match=r"long.txt has 200 tokens, the context holds 100, 10 of them used \(start with -c 1024"
    ):
        chat.handle(f'/upload "{long}"')
    (tmp_path / "x.bin").write_bytes(b"\x7fELF\x00\xff")
    (tmp_path / "zeros.txt").write_bytes(b"a\x00b")
    (tmp_path / "empty.txt").write_bytes(b"")
    for name, problem in (
        ("x.bin", "not UTF-8"),
        ("zeros.txt", "NUL"),
        ("empty.txt", "empty"),
        ("no", "no such"),
        (".", "no file"),
    ):
        with pytest.raises(UsageError, match=problem):
            chat.handle(f"/file {tmp_path / name}")
    assert len(chat.turns) == 1


def test_a_file_is_cut_only_when_asked(tmp_path: Path) -> None:
    from launcher.files import add

    chat, _, paper = chat_with(size=100)
    long = tmp_path / "long.txt"
    long.write_text("word " * 200)
    add(chat, long, truncate=True)
    assert "long.txt: cut after its first 75 tokens (--truncate)" in paper.lines[1]
    assert len(chat.turns[0].content.split()) == 75


@pytest.mark.parametrize(
    ("facts", "size", "flags", "said"),
    [
        ({"context_length": 40_960}, 8192, (),
         "start with -c 16384 for 8,192 more (the model takes up to 131,072 by YaRN: -c 131072)"),
        ({"context_length": 40_960}, 131_072, (), "this is all that the model can use (131,072)"),
        ({"context_length": 40_960, "yarn_context": 131_072}, 40_960, (),
         "start with -c 81920 for 40,960 more (the model takes up to 131,072: -c 131072)"),
        ({"context_length": 4096}, 4096, (), "this is all that the model can use (4,096)"),
        ({"context_length": 262_144}, 200_000, (),
         "start with -c 262144 for 62,144 more (the model takes up to 262,144: -c 262144)"),
        ({"context_length": 40_960}, 200_000, ("--rope-scale", "8"), "start with -c 400000 for 200,000 more"),
        ({}, 4096, (), "start with -c 8192 for 4,096 more"),
    ],
)  # fmt: skip
def test_how_far_the_context_can_grow(facts: dict[str, int], size: int, flags: tuple[str, ...], said: str) -> None:
    chat, _, paper = chat_with(size=size, engine_args=flags)
    chat.settings.manifest = manifest({"quantization": "F16", **facts})
    chat.handle("/context")
    assert paper.lines[-1].splitlines()[-1] == f"  {said}"


def test_push_pop_and_stack() -> None:
    chat, _, paper = talk("a0", "a1")
    chat.handle("/push")
    chat.handle("/undo")  # what is remembered is gone with it
    chat.handle("/push")
    chat.handle("/stack")
    assert paper.lines[-1] == "shows   1  after 1 turn, q0"
    chat.handle("/pop")
    with pytest.raises(UsageError, match="no position"):
        chat.handle("/pop")


def test_pop_goes_back() -> None:
    chat, script, _ = talk("a0")
    chat.handle("/push")
    script.turns.append(answer("a1"))
    chat.handle("q1")
    chat.handle("/pop")
    assert contents(chat) == ["q0", "a0"]


def test_export_copy_and_dump(tmp_path: Path) -> None:
    chat, _, paper = talk("**a0**", system="Be brief.")
    with pytest.raises(UsageError, match=r"\.md or \.json"):
        chat.handle(f"/export {tmp_path}/x.txt")
    chat.handle(f"/export {tmp_path}/x y.md")
    assert (
        tmp_path / "x y.md"
    ).read_text() == "# Conversation with Tiny\n\n## System\n\nBe brief.\n\n## You\n\nq0\n\n## Answer\n\n**a0**\n"
    with pytest.raises(UsageError, match="there already"):
        chat.handle(f"/export {tmp_path}/x y.md")
    with pytest.raises(UsageError, match="cannot write"):
        chat.handle(f"/export {tmp_path}/no/x.md")
    chat.handle(f"/export {tmp_path}/x.json")
    assert json.loads((tmp_path / "x.json").read_text())["messages"][-1] == {"role": "assistant", "content": "**a0**"}
    chat.handle("/copy")
    assert "copies **a0**" in paper.lines
    chat.handle("/dump")
    assert paper.lines[-1] == "tells <system>Be brief.<user>q0<assistant>**a0**"


def test_without_an_archive_nothing_can_be_saved() -> None:
    chat, _, _ = talk("a")
    for command in ("/save x", "/load x", "/sessions"):
        with pytest.raises(UsageError, match="not kept here"):
            chat.handle(command)


def test_save_sessions_and_load(tmp_path: Path) -> None:
    chat, _, paper = chat_with(answer("a0"))
    chat.archive = Archive(tmp_path, "Tiny", paper.notice)
    chat.archive.keep(chat.conversation)
    with pytest.raises(UsageError, match="nothing to save"):
        chat.handle("/save")
    chat.handle("q0")
    chat.handle("/save first")
    chat.handle("/sessions")
    assert "* first" in paper.lines[-1]
    assert "1 turn  q0" in paper.lines[-1]
    other, _, told = chat_with(answer("a1"))
    other.archive = Archive(tmp_path, "Tiny", told.notice)
    other.handle("/load first")
    assert "loaded 1 turn, in a copy" in told.lines[-1]
    assert contents(other) == ["q0", "a0"]
    chat.archive.close()
    other.archive.close()


def test_reading_is_shown() -> None:
    chat, _, paper = chat_with([Progress(done=5, total=10, cached=0, milliseconds=1.0), *answer("a")])
    chat.handle("x")
    assert paper.lines[0] == "reads 5 of 10"


def test_lone_surrogates_do_not_reach_the_engine() -> None:
    chat, script, _ = chat_with(answer("a"))
    chat.handle("a\udcff\x00b")
    assert script.requests[0][0][0]["content"] == "a?\x00b"


def test_files_are_named_as_their_system_names_them(tmp_path: Path) -> None:
    assert files.names(r"a\ b.txt 'c d.txt'", escapes=True) == [Path("a b.txt"), Path("c d.txt")]
    paths = ["\\\\server\\x y\\a.txt", "C:\\b.txt"]
    assert files.names(f'"{paths[0]}" {paths[1]}', escapes=False) == [Path(path) for path in paths]
    (tmp_path / "it's one.txt").touch()
    assert files.names(str(tmp_path / "it's one.txt")) == [tmp_path / "it's one.txt"]
