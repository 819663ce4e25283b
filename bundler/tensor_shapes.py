"""The shape that each tensor of a Qwen3 has by its header's keys, as llama.cpp's loader wants it. For bundler.model.

Sources: llama.cpp, models/qwen3.cpp and models/qwen3moe.cpp (load_arch_tensors), llama-model.cpp (load_hparams).
"""

import re
from dataclasses import dataclass

from bundler.shards import Whole
from runtime.errors import ModelError
from runtime.gguf_header import ArrayValue, GGUFHeader

_NAME = re.compile(r"(?:blk\.\d+\.)?([a-z_]+)\.weight")


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """What the header says. None: each layer has its own, which are not held against anything here."""

    hidden: int | None
    heads: int | None
    kv_heads: int | None
    head: int | None
    feed_forward: int | None
    experts: int | None
    expert_feed_forward: int | None
    vocabulary: int


def check_shapes(whole: Whole, architecture: str) -> None:
    """Hold the tensors of a Qwen3 against its header. Raises ModelError naming the first that differs and its file."""
    rules = _rules(_sizes(whole.header, architecture))
    for tensor in whole.header.tensors:
        match = _NAME.fullmatch(tensor.name)
        wanted = rules.get(match[1]) if match else None
        if wanted is None or None in wanted or _short(tensor.shape) == _short(wanted):
            continue
        found, expected = (" × ".join(map(str, shape)) for shape in (tensor.shape, wanted))
        raise ModelError(
            f"{whole.home(tensor)}: tensor {tensor.name!r} is {found}, by the model's keys it should be {expected}",
            "a shard is of another model; download them again"
            if len(whole.files) > 1
            else "convert the model again with llama.cpp",
        )


def _sizes(header: GGUFHeader, architecture: str) -> _Sizes:
    def number(key: str, default: int | None = 0) -> int | None:
        name = f"{architecture}.{key}"
        if name not in header.values:
            return default
        return None if isinstance(header.values[name], ArrayValue) else header.integer(name)

    hidden, heads = number("embedding_length"), number("attention.head_count")
    default = hidden // heads if hidden and heads else None
    head = number("attention.key_length", default)
    # the graph of llama.cpp's Qwen3 knows one size of head
    for key, other in (
        ("attention.value_length", number("attention.value_length", default)),
        ("rope.dimension_count", number("rope.dimension_count", head)),
    ):
        if None not in (head, other) and head != other:
            raise ModelError(
                f"{header.path} has heads of {head:,} values, but of {other:,} by {architecture}.{key}",
                "convert the model again with llama.cpp",
            )
    feed_forward, used = number("feed_forward_length"), number("expert_used_count")
    share = feed_forward // used if feed_forward is not None and used else None
    width = number("expert_feed_forward_length")
    return _Sizes(
        hidden=hidden,
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head=head,
        feed_forward=feed_forward,
        experts=number("expert_count"),
        expert_feed_forward=share if width == 0 else width,
        vocabulary=header.values["tokenizer.ggml.tokens"].length,
    )


def _rules(sizes: _Sizes) -> dict[str, tuple[int | None, ...]]:
    """By the name of the tensor in its layer, its shape in GGML's order: the length of a row first."""
    hidden, wide, narrow = sizes.hidden, sizes.feed_forward, sizes.expert_feed_forward
    query = None if sizes.heads is None or sizes.head is None else sizes.heads * sizes.head
    cached = None if sizes.kv_heads is None or sizes.head is None else sizes.kv_heads * sizes.head
    return {
        "token_embd": (hidden, sizes.vocabulary),
        "output": (hidden, sizes.vocabulary),
        "output_norm": (hidden,),
        "attn_norm": (hidden,),
        "attn_q": (hidden, query),
        "attn_k": (hidden, cached),
        "attn_v": (hidden, cached),
        "attn_output": (query, hidden),
        "attn_q_norm": (sizes.head,),
        "attn_k_norm": (sizes.head,),
        "ffn_norm": (hidden,),
        "ffn_gate": (hidden, wide),
        "ffn_up": (hidden, wide),
        "ffn_down": (wide, hidden),
        "ffn_gate_inp": (hidden, sizes.experts),
        "ffn_gate_exps": (hidden, narrow, sizes.experts),
        "ffn_up_exps": (hidden, narrow, sizes.experts),
        "ffn_down_exps": (narrow, hidden, sizes.experts),
    }


def _short(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Without ones at the end: to GGML, n and n × 1 are the same."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
