"""Reading and checking a GGUF: what is accepted, and the one line each kind of damage gets."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler import model
from bundler.demo import DEMO_MODEL
from runtime.errors import ExitCode, ModelError
from runtime.gguf_header import read_header
from tests.unit.gguf_files import TinyGGUF


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
    assert facts.pop("shape")["weights"] == 13 * 32
    assert facts == {
        "file_size": (tmp_path / "tiny.gguf").stat().st_size,
        "architecture": "qwen3",
        "name": "Unit",
        "parameters": 8 * 13,
        "active_parameters": 8 * 13,
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


@pytest.mark.parametrize("key", ["qwen3.context_length", "qwen3.block_count", "tokenizer.ggml.tokens"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    tiny = TinyGGUF()
    del tiny.values[key]
    assert f"lacks {key}" in refusal(write(tmp_path, tiny))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.tensors[tiny.tensors.index("blk.0.attn_k.weight")] = "something.else"
    assert "blk.0.attn_k.weight" in refusal(write(tmp_path, tiny))


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
    assert "2 tokens and an embedding of 3 rows" in refusal(write(tmp_path, tiny))


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
