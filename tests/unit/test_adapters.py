"""LoRA adapters: which fit a model, and the one line that the others get. Drafts and control vectors run in bundles."""

from pathlib import Path

import pytest

from bundler import adapters, model
from runtime.errors import ExitCode, ModelError
from tests.unit.gguf_files import TinyGGUF, mixture

Shapes = dict[str, tuple[int, ...]]
QUERY = "blk.0.attn_q.weight"  # 8 x 16
EXPERTS = "blk.0.ffn_down_exps.weight"  # 12 x 8 for each of 4
EMBEDDING = "token_embd.weight"  # 8 x 2


def halves(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Shapes:
    return {f"{name}.lora_a": a, f"{name}.lora_b": b}


def make(folder: Path, shapes: Shapes, architecture: str = "qwen3", **values: object) -> Path:
    kind = {"general.architecture": architecture, "general.type": "adapter", "adapter.type": "lora"}
    path = folder / "lora.gguf"
    path.write_bytes(TinyGGUF(values={**kind, **values}, tensors=list(shapes), shapes=shapes).data())
    return path


def loaded(folder: Path, tiny: TinyGGUF) -> model.Model:
    path = folder / "tiny.gguf"
    path.write_bytes(tiny.data())
    return model.load(path)


def with_output() -> TinyGGUF:
    tiny = TinyGGUF(shapes={"output.weight": (8, 2)})
    tiny.tensors.append("output.weight")
    return tiny


def refusal(folder: Path, path: Path, tiny: TinyGGUF) -> str:
    with pytest.raises(ModelError) as caught:
        adapters.load_lora(path, 1, loaded(folder, tiny))
    assert caught.value.exit_code == ExitCode.MODEL
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "shapes",
    [
        halves(QUERY, (8, 3), (3, 16)),
        halves(QUERY, (8, 1), (1, 16)),
        halves(QUERY, (8, 3), (3, 16)) | {"blk.0.attn_norm.weight": (8,)},  # llama.cpp skips norms
        halves(QUERY, (8, 3), (3, 16)) | halves("blk.0.ffn_down.weight", (12, 5), (5, 8)),
    ],
)
def test_an_adapter_that_fits(tmp_path: Path, shapes: Shapes) -> None:
    path = make(tmp_path, shapes, **{"adapter.lora.alpha": 4.0})
    adapter = adapters.load_lora(path, 2, loaded(tmp_path, TinyGGUF()))
    assert (adapter.member, adapter.size) == ("adapters/lora-2.gguf", path.stat().st_size)


def test_an_adapter_for_experts(tmp_path: Path) -> None:
    path = make(tmp_path, halves(EXPERTS, (12, 3, 4), (3, 8, 4)), "qwen3moe")
    assert adapters.load_lora(path, 1, loaded(tmp_path, mixture())).path == path
    path = make(tmp_path, halves(EXPERTS, (12, 3, 5), (3, 8, 5)), "qwen3moe")
    assert "do not fit a weight of (12, 8, 4)" in refusal(tmp_path, path, mixture())
    path = make(tmp_path, halves(EXPERTS, (12, 3), (3, 8)), "qwen3moe")
    assert "do not fit a weight of (12, 8, 4)" in refusal(tmp_path, path, mixture())


def test_an_adapter_for_the_embedding(tmp_path: Path) -> None:
    """Its halves are turned; and llama.cpp cannot use it where the embedding is the output, too."""
    path = make(tmp_path, halves(EMBEDDING, (3, 2), (3, 8)))
    assert adapters.load_lora(path, 1, loaded(tmp_path, with_output())).path == path
    assert "which is the output of tiny.gguf, too" in refusal(tmp_path, path, TinyGGUF())
    path = make(tmp_path, halves(EMBEDDING, (8, 3), (3, 2)))
    assert "are of the ranks 8 and 3" in refusal(tmp_path, path, with_output())


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (halves(QUERY, (16, 3), (3, 16)), "the adapter is for a Qwen3 of another size"),
        (halves(QUERY, (8, 3), (3, 32)), "the adapter is for a Qwen3 of another size"),
        (halves(QUERY, (8, 3), (4, 16)), "are of the ranks 3 and 4"),
        (halves("blk.9.attn_q.weight", (8, 3), (3, 16)), "'blk.9.attn_q.weight', which tiny.gguf has not"),
        (halves("blk.0.attn_norm.weight", (8, 3), (3, 8)), "which is a row of 8 values"),
        ({f"{QUERY}.lora_a": (8, 3)}, f"lacks '{QUERY}.lora_b'"),
        ({f"{QUERY}.lora_b": (3, 16)}, f"lacks '{QUERY}.lora_a'"),
        ({f"{QUERY}.lora_c": (8, 3)}, f"'{QUERY}.lora_c', which is no part of a LoRA"),
        ({QUERY: (8, 16)}, f"'{QUERY}', which is no part of a LoRA"),
        ({".lora_a": (8, 3), ".lora_b": (3, 16)}, "changes the tensor ''"),
        ({"a": (8, 3)}, "'a', which is no part of a LoRA"),
    ],
)
def test_an_adapter_that_does_not_fit(tmp_path: Path, shapes: Shapes, words: str) -> None:
    assert words in refusal(tmp_path, make(tmp_path, shapes), TinyGGUF())


def test_what_is_no_adapter_for_this_model(tmp_path: Path) -> None:
    shapes = halves(QUERY, (8, 3), (3, 16))
    path = make(tmp_path, shapes, "qwen3moe")
    assert "is an adapter for 'qwen3moe', tiny.gguf is qwen3" in refusal(tmp_path, path, TinyGGUF())
    path = make(tmp_path, shapes, **{"adapter.lora.alpha": 4})
    assert "adapter.lora.alpha is 4" in refusal(tmp_path, path, TinyGGUF())
    path = make(tmp_path, shapes, **{"general.type": "model"})
    assert "is no LoRA adapter" in refusal(tmp_path, path, TinyGGUF())
