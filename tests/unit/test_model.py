"""Reading and checking a GGUF: what is accepted, and the one line each kind of damage gets."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler import model
from bundler.demo import DEMO_MODEL
from runtime.errors import ExitCode, ModelError
from runtime.gguf_header import read_header
from tests.unit.gguf_files import SHAPES, TinyGGUF, mixture

PARAMETERS = sum(map(math.prod, SHAPES.values()))


def write(folder: Path, tiny: TinyGGUF) -> Path:
    path = folder / "tiny.gguf"
    path.write_bytes(tiny.data())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        model.load(path)
    assert caught.value.exit_code == ExitCode.MODEL == 3
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_model_is_described(tmp_path: Path) -> None:
    loaded = model.load(write(tmp_path, TinyGGUF()))
    facts = loaded.facts()
    assert facts.pop("shape")["weights"] == 4 * PARAMETERS
    assert facts == {
        "file_size": (tmp_path / "tiny.gguf").stat().st_size,
        "architecture": "qwen3",
        "name": "Unit",
        "parameters": PARAMETERS,
        "active_parameters": PARAMETERS,
        "quantization": "F32",
        "context_length": 4096,
        "yarn_context": 0,
        "layers": 1,
        "has_chat_template": True,
        "template": "other",
    }
    assert not loaded.quantized
    assert loaded.sampling()["thinking"]["temperature"] == 0.6
    assert loaded.sampling()["non_thinking"]["temperature"] == 0.7


def test_the_demo_model_is_accepted() -> None:
    loaded = model.load(DEMO_MODEL)
    assert (loaded.architecture, loaded.quantization, loaded.has_chat_template) == ("qwen3", "F16", True)
    assert 1_000_000 < loaded.parameters < 3_000_000


def test_a_model_without_file_type_is_named_by_its_weights(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    del tiny.values["general.file_type"]
    assert model.load(write(tmp_path, tiny)).quantization == "F32"


def test_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\3\4" + bytes(100))
    assert "is not a GGUF file" in refusal(path)


def test_zero_length(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.touch()
    assert "it has 0 bytes" in refusal(path)


def test_a_directory(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nothing.gguf")


@pytest.mark.parametrize("version", [1, 4, 0x03000000])
def test_other_versions(tmp_path: Path, version: int) -> None:
    message = refusal(write(tmp_path, TinyGGUF(version=version)))
    assert ("big-endian" if version > 4 else f"GGUF version {version}") in message


def test_another_architecture_is_named(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.values["general.architecture"] = "llama"
    assert "architecture 'llama'" in refusal(write(tmp_path, tiny))


@pytest.mark.parametrize(
    "key",
    [
        "qwen3.context_length",
        "qwen3.block_count",
        "qwen3.feed_forward_length",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    tiny = TinyGGUF()
    del tiny.values[key]
    assert f"lacks {key}" in refusal(write(tmp_path, tiny))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.tensors[tiny.tensors.index("blk.0.attn_k.weight")] = "something.else"
    assert "blk.0.attn_k.weight" in refusal(write(tmp_path, tiny))


def test_several_missing_tensors_are_counted(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    for name in ("attn_v", "ffn_up"):
        tiny.tensors[tiny.tensors.index(f"blk.0.{name}.weight")] = f"something.{name}"
    assert "lacks 2 tensors, first blk.0.attn_v.weight" in refusal(write(tmp_path, tiny))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tokenizer.ggml.tokens", [1, 2], "lacks text in tokenizer.ggml.tokens"),
        ("tokenizer.ggml.merges", "a b", "lacks tokenizer.ggml.merges"),
        ("tokenizer.ggml.model", "no_vocab", "lacks tokenizer.ggml.model"),
        ("qwen3.attention.layer_norm_rms_epsilon", 1, "layer_norm_rms_epsilon is 1"),
        ("qwen3.feed_forward_length", [12, 12], "feed_forward_length is a list of 2"),
        ("qwen3.embedding_length", 16, "'token_embd.weight' is 8 × 2, by the model's keys it should be 16 × 2"),
        ("qwen3.feed_forward_length", 16, "'blk.0.ffn_gate.weight' is 8 × 12, by the model's keys it should be 8 × 16"),
        ("qwen3.attention.head_count", 3, "'blk.0.attn_q.weight' is 8 × 16, by the model's keys it should be 8 × 12"),
        ("qwen3.attention.head_count_kv", 4, "'blk.0.attn_k.weight' is 8 × 8, by the model's keys it should be 8 × 16"),
        ("qwen3.attention.value_length", 8, "heads of 4 values, but of 8 by qwen3.attention.value_length"),
        ("qwen3.rope.dimension_count", 2, "heads of 4 values, but of 2 by qwen3.rope.dimension_count"),
    ],
)
def test_keys_that_do_not_fit(tmp_path: Path, key: str, value: Any, words: str) -> None:
    tiny = TinyGGUF()
    tiny.values[key] = value
    assert words in refusal(write(tmp_path, tiny))


def test_a_size_of_head_that_is_not_said(tmp_path: Path) -> None:
    """llama.cpp then divides: 8 values by 4 heads."""
    tiny = TinyGGUF()
    for key in ("key_length", "value_length"):
        del tiny.values[f"qwen3.attention.{key}"]
    assert "'blk.0.attn_q.weight' is 8 × 16, by the model's keys it should be 8 × 8" in refusal(write(tmp_path, tiny))
    tiny.values["qwen3.attention.head_count"] = 2  # heads of 4 values again
    tiny.shapes = {"blk.0.attn_q.weight": (8, 8), "blk.0.attn_output.weight": (8, 8)}
    assert model.load(write(tmp_path, tiny)).layers == 1


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if len(shape) == 2 and shape[0] != shape[1]])
def test_a_turned_tensor_is_named(tmp_path: Path, name: str) -> None:
    message = refusal(write(tmp_path, TinyGGUF(shapes={name: SHAPES[name][::-1]})))
    assert "an embedding of 8 rows" in message if name.startswith("token_embd") else f"tensor {name!r} is" in message


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if len(shape) == 1])
def test_a_norm_of_another_size_is_named(tmp_path: Path, name: str) -> None:
    assert f"tensor {name!r} is 5, " in refusal(write(tmp_path, TinyGGUF(shapes={name: (5,)})))


def test_an_output_of_its_own(tmp_path: Path) -> None:
    tiny = TinyGGUF(shapes={"output.weight": (8, 2)})
    tiny.tensors.append("output.weight")
    assert model.load(write(tmp_path, tiny)).parameters == PARAMETERS + 16
    tiny.shapes = {"output.weight": (8, 4)}
    assert "'output.weight' is 8 × 4" in refusal(write(tmp_path, tiny))


def test_a_one_at_the_end_of_a_shape_means_nothing(tmp_path: Path) -> None:
    assert model.load(write(tmp_path, TinyGGUF(shapes={"output_norm.weight": (8, 1)}))).layers == 1


def test_what_each_layer_has_of_its_own_is_not_held_against_the_tensors(tmp_path: Path) -> None:
    tiny = TinyGGUF(shapes={"blk.0.attn_q.weight": (8, 20), "blk.0.ffn_up.weight": (8, 20)})
    tiny.values |= {"qwen3.attention.head_count": [5], "qwen3.feed_forward_length": [20]}
    assert model.load(write(tmp_path, tiny)).layers == 1


def test_a_mixture_of_experts(tmp_path: Path) -> None:
    loaded = model.load(write(tmp_path, mixture()))
    assert loaded.parameters - loaded.active == 2 * 3 * 8 * 12


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("expert_used_count", 5, "it uses 5 of 4 experts"),
        ("expert_used_count", 0, "qwen3moe.expert_used_count is 0"),
        ("expert_count", 8, "'blk.0.ffn_gate_inp.weight' is 8 × 4, by the model's keys it should be 8 × 8"),
        ("expert_feed_forward_length", 6, "'blk.0.ffn_gate_exps.weight' is 8 × 12 × 4, by the model's keys it should"),
    ],
)
def test_a_mixture_whose_keys_do_not_fit(tmp_path: Path, key: str, value: int, words: str) -> None:
    moe = mixture()
    moe.values[f"qwen3moe.{key}"] = value
    assert words in refusal(write(tmp_path, moe))


def test_experts_whose_width_is_not_said_share_that_of_the_whole(tmp_path: Path) -> None:
    moe = mixture()
    del moe.values["qwen3moe.expert_feed_forward_length"]
    assert "lacks qwen3moe.expert_feed_forward_length" in refusal(write(tmp_path, moe))
    moe.values["qwen3moe.feed_forward_length"] = 12
    assert "is 8 × 12 × 4, by the model's keys it should be 8 × 6 × 4" in refusal(write(tmp_path, moe))
    moe.values["qwen3moe.feed_forward_length"] = 25
    assert model.load(write(tmp_path, moe)).layers == 1


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ({"output_norm.weight": 16}, "not aligned to 32"),
        ({"output_norm.weight": 0}, "overlap"),
        ({"blk.0.ffn_down.weight": 1 << 40}, "is truncated: its tensors need"),
    ],
)
def test_wrong_offsets(tmp_path: Path, offsets: dict[str, int], words: str) -> None:
    assert words in refusal(write(tmp_path, TinyGGUF(offsets=offsets)))


def test_a_tensor_that_stands_twice(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.tensors.append("output_norm.weight")
    assert "'output_norm.weight' stands twice" in refusal(write(tmp_path, tiny))


def test_an_unknown_tensor_type(tmp_path: Path) -> None:
    assert "unknown type 999" in refusal(write(tmp_path, TinyGGUF(tensor_type=999)))


@pytest.mark.parametrize("tiny", [TinyGGUF(value_count=1 << 60), TinyGGUF(tensor_count=1 << 60)])
def test_absurd_counts_cost_nothing(tmp_path: Path, tiny: TinyGGUF) -> None:
    assert "it claims" in refusal(write(tmp_path, tiny))


def test_counts_that_the_file_is_too_short_for(tmp_path: Path) -> None:
    assert "cannot stand in" in refusal(write(tmp_path, TinyGGUF(tensor_count=60_000)))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = TinyGGUF().data()
    path = tmp_path / "cut.gguf"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 4000), patch=st.binary(min_size=1, max_size=16))
def test_a_damaged_header_is_read_or_refused(tmp_path: Path, position: int, patch: bytes) -> None:
    """Never a crash or a hang: either a description or one ModelError."""
    whole = bytearray(TinyGGUF().data())
    position %= len(whole)
    whole[position : position + len(patch)] = patch[: len(whole) - position]
    path = tmp_path / "fuzz.gguf"
    path.write_bytes(whole)
    try:
        assert model.load(path).layers > 0
    except ModelError as error:
        assert str(path) in str(error)  # noqa: PT017 - both outcomes are right


def test_long_arrays_are_counted_not_kept(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.values["tokenizer.ggml.tokens"] = [f"token{index}" for index in range(5000)]
    tokens = read_header(write(tmp_path, tiny)).values["tokenizer.ggml.tokens"]
    assert (tokens.length, tokens.items) == (5000, ())


def test_control_characters_of_a_file_reach_no_terminal(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.values["general.name"] = "\x1b[2Jevil\n" + "x" * 500
    name = model.load(write(tmp_path, tiny)).name
    assert name.startswith("?[2Jevil?x")
    assert len(name) == 200


def test_another_architecture_is_described_as_far_as_it_can_be(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.values["general.architecture"] = "gpt-oss"
    tiny.values |= {"gpt-oss.context_length": 512, "gpt-oss.block_count": 3}
    loaded = model.load(write(tmp_path, tiny), any_architecture=True)
    assert (loaded.foreign, loaded.layers, loaded.shape) == (True, 3, None)


def test_a_vocabulary_that_does_not_fit_the_embedding(tmp_path: Path) -> None:
    tiny = TinyGGUF(shapes={"token_embd.weight": (1, 3)})
    assert "an embedding of 3 rows for 2 tokens" in refusal(write(tmp_path, tiny))


def test_ten_thousand_numbers_are_no_shards(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.values["split.count"] = 2**32 - 1
    assert "which its name does not say" in refusal(write(tmp_path, tiny))


def test_yarn_keys_of_the_file(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.values |= {
        "qwen3.context_length": 40_960,
        "qwen3.rope.scaling.type": "yarn",
        "qwen3.rope.scaling.factor": 4.0,
        "qwen3.rope.scaling.original_context_length": 32_768,
    }
    assert model.load(write(tmp_path, tiny)).facts()["yarn_context"] == 131_072
