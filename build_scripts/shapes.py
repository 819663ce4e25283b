"""Sizes of the Qwen3 models, and the tensors that follow from them. For the scripts that make models of true shape.

Sources: each model's card ("Model Overview": layers, heads, experts) and its published config.json (hidden_size,
intermediate_size, moe_intermediate_size, tie_word_embeddings; head_dim 128, max_position_embeddings 40,960,
rope_theta 1,000,000, rms_norm_eps 1e-6 and vocab_size 151,936 are the same for all).
"""

from collections.abc import Iterator
from dataclasses import dataclass

HEAD = 128
NATIVE_CONTEXT = 40_960


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of one Qwen3 model. `experts` 0: dense; else `expert_feed_forward` is the width of each of them."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int = 8
    head: int = HEAD
    tied: bool = False
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0

    @property
    def architecture(self) -> str:
        """GGUF's name for it."""
        return "qwen3moe" if self.experts else "qwen3"


@dataclass(frozen=True, kw_only=True)
class TensorShape:
    """One tensor: `rows` x `columns` values; a norm has one row and stays F32, as does the router of experts."""

    name: str
    rows: int
    columns: int
    experts: int = 0
    keep: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is stored as F32 whatever the model's quantization."""
        return self.keep or self.rows == 1

    @property
    def dimensions(self) -> list[int]:
        """As numpy orders them, slowest first."""
        if self.rows == 1:
            return [self.columns]
        return [self.experts, self.rows, self.columns] if self.experts else [self.rows, self.columns]

    @property
    def all_rows(self) -> int:
        """Rows over all experts."""
        return self.rows * (self.experts or 1)


_MOE = {"experts": 128, "experts_used": 8}
SHAPES = {
    "0.6B": Shape(layers=28, hidden=1024, feed_forward=3072, heads=16, tied=True),
    "1.7B": Shape(layers=28, hidden=2048, feed_forward=6144, heads=16, tied=True),
    "4B": Shape(layers=36, hidden=2560, feed_forward=9728, heads=32, tied=True),
    "8B": Shape(layers=36, hidden=4096, feed_forward=12288, heads=32),
    "14B": Shape(layers=40, hidden=5120, feed_forward=17408, heads=40),
    "32B": Shape(layers=64, hidden=5120, feed_forward=25600, heads=64),
    "30B-A3B": Shape(layers=48, hidden=2048, feed_forward=6144, heads=32, kv_heads=4, expert_feed_forward=768, **_MOE),
    "235B-A22B": Shape(
        layers=94, hidden=4096, feed_forward=12288, heads=64, kv_heads=4, expert_feed_forward=1536, **_MOE
    ),
    # No Qwen3 is like these two: everything as in the others but small, so that a test takes a second.
    "tiny": Shape(layers=2, hidden=64, feed_forward=192, heads=4, kv_heads=2, head=32, tied=True),
    "tiny-moe": Shape(
        layers=2, hidden=64, feed_forward=192, heads=4, kv_heads=2, head=32, tied=True,
        experts=8, experts_used=2, expert_feed_forward=64,
    ),
}  # fmt: skip


def tensors(shape: Shape, layers: int, vocabulary: int) -> Iterator[TensorShape]:
    """Every tensor of the first `layers` layers and around them, in the order llama.cpp's converter writes them."""
    yield TensorShape(name="token_embd.weight", rows=vocabulary, columns=shape.hidden)
    yield TensorShape(name="output_norm.weight", rows=1, columns=shape.hidden)
    if not shape.tied:
        yield TensorShape(name="output.weight", rows=vocabulary, columns=shape.hidden)
    for layer in range(layers):
        for name, rows, columns in (
            ("attn_norm", 1, shape.hidden),
            ("ffn_norm", 1, shape.hidden),
            ("attn_q_norm", 1, shape.head),
            ("attn_k_norm", 1, shape.head),
            ("attn_q", shape.heads * shape.head, shape.hidden),
            ("attn_k", shape.kv_heads * shape.head, shape.hidden),
            ("attn_v", shape.kv_heads * shape.head, shape.hidden),
            ("attn_output", shape.hidden, shape.heads * shape.head),
        ):
            yield TensorShape(name=f"blk.{layer}.{name}.weight", rows=rows, columns=columns)
        yield from _feed_forward(shape, layer)


def _feed_forward(shape: Shape, layer: int) -> Iterator[TensorShape]:
    hidden, wide = shape.hidden, shape.expert_feed_forward or shape.feed_forward
    suffix = "_exps" if shape.experts else ""
    if shape.experts:
        yield TensorShape(name=f"blk.{layer}.ffn_gate_inp.weight", rows=shape.experts, columns=hidden, keep=True)
    for name, rows, columns in (("gate", wide, hidden), ("up", wide, hidden), ("down", hidden, wide)):
        yield TensorShape(
            name=f"blk.{layer}.ffn_{name}{suffix}.weight", rows=rows, columns=columns, experts=shape.experts
        )
