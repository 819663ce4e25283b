"""The demo model's training data (right, repeatable, apart from what it is measured on) and its committed files."""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from random import Random

import gguf
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build_scripts"))

from demo_f32 import write_f32  # noqa: E402
from demo_model import words  # noqa: E402
from demo_model.conversations import Conversation, conversation  # noqa: E402
from demo_model.draw import Draw, Split  # noqa: E402
from demo_model.endpoint import right  # noqa: E402

MANY = 4000


def conversations(split: Split, count: int = MANY, seed: int = 1) -> list[Conversation]:
    draw = Draw(Random(seed), split)
    return [conversation(draw) for _ in range(count)]


@pytest.fixture(scope="module")
def taught() -> list[Conversation]:
    return conversations("train")


@pytest.fixture(scope="module")
def held_out() -> list[Conversation]:
    return conversations("held-out")


def asked(made: Conversation) -> str:
    text: str = made.messages[-1]["content"]
    return text.removesuffix(" /no_think").removesuffix(" /think")


def test_same_seed_gives_the_same_conversations() -> None:
    assert conversations("train", 300) == conversations("train", 300)
    assert conversations("train", 300) != conversations("train", 300, seed=2)


def test_both_splits_show_every_skill(taught: list[Conversation], held_out: list[Conversation]) -> None:
    assert {made.skill for made in taught} == {made.skill for made in held_out}
    assert min(Counter(made.skill for made in held_out).values()) >= 10


@pytest.mark.parametrize(
    "skill",
    ["capital", "count to n", "echo", "fact", "greeting", "identity", "spelling", "sum of two digits", "unknown"],
)
def test_held_out_questions_are_never_taught(
    skill: str, taught: list[Conversation], held_out: list[Conversation]
) -> None:
    """Surface details are ignored where the fact itself is held out."""

    def key(made: Conversation) -> str:
        text = asked(made)
        return text if skill in ("greeting", "identity") else re.sub(r"[^\w+*/{} -]", "", text.lower())

    questions = [{key(made) for made in part if made.skill == skill} for part in (taught, held_out)]
    assert questions[0]
    assert questions[1]
    assert not questions[0] & questions[1]


def test_held_out_names_are_never_taught(taught: list[Conversation]) -> None:
    text = " ".join(str(message["content"]) for made in taught for message in made.messages)
    assert set(words.HELD_OUT_NAMES).isdisjoint(re.findall(r"\w+", text))


def test_sums_are_right(taught: list[Conversation]) -> None:
    sums = [made for made in taught if made.skill.startswith("sum of")]
    assert len(sums) > 100
    for made in sums:
        a, b = map(int, re.findall(r"\d+", asked(made)))
        assert made.answer.endswith(f"{a} + {b} = {a + b}.")
        for terms, total in re.findall(r"([\d +]+) = (\d+)", made.thought):
            assert sum(map(int, terms.split("+"))) == int(total)


def test_counts_run_from_the_first_to_the_last_number_asked_for(taught: list[Conversation]) -> None:
    counts = [made for made in taught if made.skill == "count to n"]
    assert len(counts) > 100
    for made in counts:
        asked_for = [int(n) for n in re.findall(r"\d+", asked(made))]
        first, last = asked_for if len(asked_for) == 2 else (1, asked_for[0])
        assert [int(n) for n in made.answer.split()] == list(range(first, last + 1))


def test_recalled_values_were_told(held_out: list[Conversation]) -> None:
    recalls = [made for made in held_out if made.skill.startswith("recall")]
    assert len(recalls) > 100
    for made in recalls:
        value = made.answer.rstrip(".").split()[-1]
        assert value in " ".join(message["content"] for message in made.messages if message["role"] == "user")


def test_calls_use_a_declared_function_and_arguments_from_the_question(taught: list[Conversation]) -> None:
    calls = [made for made in taught if made.call]
    assert len(calls) > 100
    for made in calls:
        assert made.call is not None
        assert made.tools is not None
        name, arguments = made.call
        declared = {tool["function"]["name"]: tool["function"]["parameters"] for tool in made.tools}
        assert set(arguments) <= set(declared[name]["properties"])
        assert all(value in asked(made) for value in arguments.values())


def test_completion_starts_with_what_the_mode_of_thinking_asks_for(taught: list[Conversation]) -> None:
    for made in taught:
        text = made.completion()
        opening = {"think": f"<think>\n{made.thought}\n</think>\n\n", "no_think": "<think>\n\n</think>\n\n"}
        assert text.startswith(opening.get(made.mode, made.answer))
        assert text.endswith("<|im_end|>") != made.endless
        if made.mode == "no_think" and made.messages[-1]["role"] == "user":
            assert made.messages[-1]["content"].endswith(" /no_think")


def test_an_answer_of_the_server_is_right_only_if_thought_and_content_are() -> None:
    made = next(made for made in conversations("held-out", 500) if made.mode == "think" and made.skill == "capital")
    message = {"reasoning_content": made.thought + "\n", "content": made.answer}
    assert right(made, {"finish_reason": "stop", "message": message})
    assert not right(made, {"finish_reason": "stop", "message": message | {"content": "Paris"}})
    assert not right(made, {"finish_reason": "stop", "message": message | {"reasoning_content": ""}})


def test_a_call_of_the_server_is_right_whatever_its_spacing() -> None:
    made = next(made for made in conversations("held-out", 500) if made.call and made.mode != "think")
    assert made.call is not None
    function = {"name": made.call[0], "arguments": json.dumps(made.call[1], indent=2)}
    assert right(made, {"finish_reason": "tool_calls", "message": {"tool_calls": [{"function": function}]}})
    assert not right(made, {"finish_reason": "stop", "message": {"content": json.dumps(function)}})


def test_an_endless_answer_is_right_only_if_the_server_had_to_cut_it_off() -> None:
    made = next(made for made in conversations("held-out", 2000) if made.endless and made.mode != "think")
    message = {"content": made.answer + made.answer}
    assert right(made, {"finish_reason": "length", "message": message})
    assert not right(made, {"finish_reason": "stop", "message": message})
    assert not right(made, {"finish_reason": "length", "message": {"content": "1"}})


def test_the_committed_model_carries_the_committed_template_and_stays_small() -> None:
    demo = ROOT / "bundler" / "demo"
    model = (demo / "demo.gguf").read_bytes()
    assert len(model) <= 6_000_000
    assert model.startswith(b"GGUF")
    assert (demo / "chat.jinja").read_bytes() in model


def test_the_f32_copy_differs_only_in_its_precision(tmp_path: Path) -> None:
    copy = tmp_path / "f32.gguf"
    write_f32(ROOT / "bundler" / "demo" / "demo.gguf", copy)
    ours, theirs = gguf.GGUFReader(ROOT / "bundler" / "demo" / "demo.gguf"), gguf.GGUFReader(copy)
    changed = [key for key in ours.fields if ours.fields[key].contents() != theirs.fields[key].contents()]
    assert [key for key in changed if not key.startswith("GGUF.")] == ["general.file_type"]
    assert {tensor.tensor_type for tensor in theirs.tensors} == {gguf.GGMLQuantizationType.F32}
    for mine, copied in zip(ours.tensors, theirs.tensors, strict=True):
        assert mine.name == copied.name
        assert (mine.data.astype("float32") == copied.data).all()
