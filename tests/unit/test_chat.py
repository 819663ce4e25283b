import pytest

from launcher.client import ChatEvent, Content, Reasoning
from launcher.commands import COMMANDS, find
from launcher.turn_settings import soft_switch
from runtime.errors import ContextError, QwenfileError, UsageError
from tests.unit.scripted_chat import chat_with, end


def test_a_turn_streams_and_is_remembered_without_its_thinking() -> None:
    chat, script, paper = chat_with([Reasoning("hm"), Content("\n\nHel"), Content("lo"), end()], [Content("x"), end()])
    assert chat.handle("hi")
    assert paper.lines == ["thinks hm", "says Hel", "says lo", "over"]
    chat.handle("again")
    assert script.requests[1][0] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "again"},
    ]


def test_ctrl_c_keeps_what_was_said_and_closes_the_stream() -> None:
    chat, script, paper = chat_with([Content("one two"), KeyboardInterrupt()])
    assert chat.handle("count")
    assert script.closed == 1
    assert paper.lines == ["says one two", "interrupted"]
    assert chat.turns[-1].content == "one two"
    assert chat.turns[-1].interrupted


def test_ctrl_c_before_a_word_takes_the_turn_back() -> None:
    chat, _, _ = chat_with([Reasoning("hm"), KeyboardInterrupt()])
    chat.handle("count")
    assert chat.turns == []


@pytest.mark.parametrize("error", [UsageError("no"), ContextError("too long", "use -c")])
def test_a_refused_turn_is_taken_back_and_raised(error: QwenfileError) -> None:
    chat, script, _ = chat_with([error])
    with pytest.raises(type(error), match=error.message):
        chat.handle("x")
    assert chat.turns == []
    assert script.closed == 1


def test_what_was_asked_and_said_stays_when_the_engine_dies() -> None:
    chat, _, _ = chat_with([Content("half an"), QwenfileError("died")])
    with pytest.raises(QwenfileError, match="died"):
        chat.handle("x")
    assert [(turn.content, turn.interrupted) for turn in chat.turns] == [("x", False), ("half an", True)]


def test_an_answer_cut_by_the_context_or_by_n_is_explained() -> None:
    chat, _, paper = chat_with(
        [Content("a"), end("length", prompt_tokens=4086, completion_tokens=10)],
        [Content("a"), end("length", prompt_tokens=10, completion_tokens=5)],
    )
    chat.handle("x")
    assert "context of 4,096 tokens is full" in paper.lines[-1]
    chat.handle("x")
    assert "limit of 5 tokens" in paper.lines[-1]


def test_sampling_follows_the_mode_of_the_turn() -> None:
    answer: list[ChatEvent | BaseException] = [Content("a"), end()]
    chat, script, _ = chat_with(*(list(answer) for _ in range(5)))
    for text in ("hi", "hi /no_think", "and now?", "/think hard about it"):
        chat.handle(text)
    chat.handle("/think off")
    chat.handle("please /think")
    requests = [request for _, request in script.requests]
    assert [request["temperature"] for request in requests] == [0.6, 0.7, 0.7, 0.6, 0.7]
    kwargs = [request["chat_template_kwargs"]["enable_thinking"] for request in requests]
    assert kwargs == [True, True, True, True, False]


def test_the_next_turn_of_think_on_does_not_follow_an_earlier_switch() -> None:
    chat, _, paper = chat_with([Content("a"), end()])
    chat.handle("hi /no_think")
    chat.handle("/show")
    assert paper.lines[-1].startswith("shows the next turn, not thinking:")
    chat.handle("/think on")
    chat.handle("/show")
    assert paper.lines[-1].startswith("shows the next turn, thinking:")
    chat.handle("/set top_p default")
    assert paper.lines[-1] == "shows top_p is 0.95"


def test_the_engine_counts_only_what_may_not_fit() -> None:
    """After a turn its tokens are known; a token has a byte at least."""
    counted: list[int] = []
    known = end(prompt_tokens=900, completion_tokens=50)
    chat, script, _ = chat_with([Content("a"), known], [Content("b"), known], [Content("c"), known], size=1024)
    script.count = lambda messages, request: counted.append(len(messages)) or 950  # type: ignore[method-assign,func-returns-value]
    chat.handle("x" * 500)
    chat.handle("short")
    assert counted == []
    chat.handle("y" * 100)
    assert counted == [5]


def test_flags_beat_the_preset() -> None:
    chat, _, _ = chat_with(sampling={"temperature": 0.0, "seed": 7}, thinking=False, predict=5, stop=("x",))
    assert chat.request() == {
        "temperature": 0.0, "top_p": 0.8, "top_k": 20, "min_p": 0.0, "presence_penalty": 0.0, "seed": 7,
        "n_predict": 5, "stop": ["x"], "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [("hi", None), ("/no_think hi", False), ("hi /think", True), ("/think no /no_think", False), ("a/think", None)],
)
def test_soft_switches(text: str, expected: bool | None) -> None:
    assert soft_switch(text) is expected


@pytest.mark.parametrize(
    "text",
    ["hello", "/etc/hosts is what?", "/usr/bin", "/no_think hi", "/think about it", "/ hm", "/9", "//", "/help\nme"],
)
def test_text_for_the_model(text: str) -> None:
    assert find(text) is None


def test_an_unknown_command_names_the_near_ones() -> None:
    with pytest.raises(UsageError, match=r"there is no command /hlep \(did you mean /help"):
        find("/hlep")
    with pytest.raises(UsageError, match="/help lists them"):
        find("/xyzzyx")


def test_every_command_is_in_the_help_and_has_help_of_its_own() -> None:
    chat, _, paper = chat_with()
    chat.handle("/help")
    for command in COMMANDS:
        assert command.usage in paper.lines[0]
        chat.handle(f"/help {command.name}")
        assert command.help in paper.lines[-1]
    with pytest.raises(UsageError, match="no command bogus"):
        chat.handle("/help bogus")


@pytest.mark.parametrize("word", ["/exit", "/bye", "/quit", "/EXIT", " /bye "])
def test_leaving(word: str) -> None:
    chat, _, _ = chat_with()
    assert chat.handle(word) is False


@pytest.mark.parametrize("text", ["/exit now", "/stats all", "/clear it", "/context x"])
def test_commands_without_arguments_refuse_them(text: str) -> None:
    chat, _, _ = chat_with()
    with pytest.raises(UsageError, match="takes no argument"):
        chat.handle(text)


def test_stats_of_the_last_turn_and_of_the_session() -> None:
    chat, _, paper = chat_with([Content("a"), end()], [Content("a"), end()])
    chat.handle("/stats")
    assert paper.lines == ["shows no turn so far"]
    chat.handle("x")
    chat.handle("/stats")
    assert "3 tokens in 0.01 s, 300.0 tokens/s" in paper.lines[-1]
    assert "2 more from cache" in paper.lines[-1]
    chat.handle("x")
    chat.handle("/stats")
    assert "session, 2 turns" in paper.lines[-1]
    assert "6 tokens in 0.02 s" in paper.lines[-1]


def test_context_system_and_clear() -> None:
    chat, _, paper = chat_with([Content("a"), end()], system="Be brief.")
    chat.handle("x")
    chat.handle("/context")
    assert "30 of 4,096 tokens (1 turn)" in paper.lines[-1]
    chat.handle("/system")
    assert paper.lines[-1] == "tells Be brief."
    chat.handle("/system Be long.")
    assert chat.messages()[0] == {"role": "system", "content": "Be long."}
    earlier = chat.conversation
    chat.handle("/clear")
    assert chat.messages() == [{"role": "system", "content": "Be long."}]
    assert len(earlier.turns) == 2  # as it was kept


def test_empty_lines_are_nothing() -> None:
    chat, script, paper = chat_with()
    assert chat.handle("  \n ")
    assert (script.requests, paper.lines) == ([], [])
