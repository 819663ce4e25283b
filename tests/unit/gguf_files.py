"""Tiny GGUF files for unit tests, written byte by byte so that each part can be made wrong."""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.writer import Source

F32 = 0
TYPES = {int: (4, "<I"), float: (6, "<f"), bool: (7, "<?")}
HIDDEN, HEADS, KV_HEADS, HEAD, WIDE = 8, 4, 2, 4, 12
# Shapes in GGML's order: the length of a row first.
BLOCK = {
    "attn_norm": (HIDDEN,),
    "attn_q": (HIDDEN, HEADS * HEAD),
    "attn_k": (HIDDEN, KV_HEADS * HEAD),
    "attn_v": (HIDDEN, KV_HEADS * HEAD),
    "attn_output": (HEADS * HEAD, HIDDEN),
    "attn_q_norm": (HEAD,),
    "attn_k_norm": (HEAD,),
    "ffn_norm": (HIDDEN,),
    "ffn_gate": (HIDDEN, WIDE),
    "ffn_up": (HIDDEN, WIDE),
    "ffn_down": (WIDE, HIDDEN),
}
TOKENS = ["a", "b"]
SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (HIDDEN, len(TOKENS)),
    "output_norm.weight": (HIDDEN,),
    **{f"blk.0.{kind}.weight": shape for kind, shape in BLOCK.items()},
}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def key_value(key: str, value: Any) -> bytes:
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        start = text(key) + struct.pack("<I", 9)
        if value and not isinstance(value[0], str):
            number, form = TYPES[type(value[0])]
            return start + struct.pack("<IQ", number, len(value)) + b"".join(struct.pack(form, item) for item in value)
        return start + struct.pack("<IQ", 8, len(value)) + b"".join(map(text, value))
    number, form = TYPES[type(value)]
    return text(key) + struct.pack("<I", number) + struct.pack(form, value)


def default_values() -> dict[str, Any]:
    return {
        "general.architecture": "qwen3",
        "general.name": "Unit",
        "general.file_type": 0,
        "qwen3.context_length": 4096,
        "qwen3.embedding_length": HIDDEN,
        "qwen3.feed_forward_length": WIDE,
        "qwen3.block_count": 1,
        "qwen3.attention.head_count": HEADS,
        "qwen3.attention.head_count_kv": KV_HEADS,
        "qwen3.attention.key_length": HEAD,
        "qwen3.attention.value_length": HEAD,
        "qwen3.attention.layer_norm_rms_epsilon": 1e-6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": list(TOKENS),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.chat_template": "{{ messages }}",
    }


def default_tensors() -> list[str]:
    return list(SHAPES)


@dataclass(kw_only=True)
class TinyGGUF:
    """A one-layer qwen3 of F32; change a field, then take `data()`. `shapes`: of tensors that have another one, or that
    SHAPES does not know (those have eight values)."""

    magic: bytes = b"GGUF"
    version: int = 3
    values: dict[str, Any] = field(default_factory=default_values)
    tensors: list[str] = field(default_factory=default_tensors)
    offsets: dict[str, int] = field(default_factory=dict)
    tensor_type: int = F32
    value_count: int | None = None
    tensor_count: int | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    fill: dict[str, float] = field(default_factory=dict)

    def header(self) -> bytes:
        parts = [
            self.magic,
            struct.pack(
                "<IQQ",
                self.version,
                len(self.tensors) if self.tensor_count is None else self.tensor_count,
                len(self.values) if self.value_count is None else self.value_count,
            ),
        ]
        parts += [key_value(key, value) for key, value in self.values.items()]
        position = 0
        for name in self.tensors:
            shape = self.shape(name)
            parts.append(text(name) + struct.pack("<I", len(shape)))
            offset = self.offsets.get(name, position)
            parts.append(struct.pack(f"<{len(shape)}QIQ", *shape, self.tensor_type, offset))
            position += len(self.content(name))
        return b"".join(parts)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name, SHAPES.get(name, (8,)))

    def content(self, name: str) -> bytes:
        values = struct.pack("<f", self.fill.get(name, 0.0)) * math.prod(self.shape(name))
        return values + bytes(-len(values) % 32)

    def data(self) -> bytes:
        header = self.header()
        return header + bytes(-len(header) % 32) + b"".join(map(self.content, self.tensors))


def mixture() -> TinyGGUF:
    """A one-layer qwen3moe: two of four experts are used for a token."""
    count, used = 4, 2
    values = {key.replace("qwen3.", "qwen3moe."): value for key, value in default_values().items()}
    del values["qwen3moe.feed_forward_length"]
    values |= {
        "general.architecture": "qwen3moe",
        "qwen3moe.expert_count": count,
        "qwen3moe.expert_used_count": used,
        "qwen3moe.expert_feed_forward_length": WIDE,
    }
    dense = ("ffn_gate.weight", "ffn_up.weight", "ffn_down.weight")
    shapes = {name: shape for name, shape in SHAPES.items() if not name.endswith(dense)}
    shapes |= {
        "blk.0.ffn_gate_inp.weight": (HIDDEN, count),
        "blk.0.ffn_gate_exps.weight": (HIDDEN, WIDE, count),
        "blk.0.ffn_up_exps.weight": (HIDDEN, WIDE, count),
        "blk.0.ffn_down_exps.weight": (WIDE, HIDDEN, count),
    }
    return TinyGGUF(values=values, tensors=list(shapes), shapes=shapes)


def shards(folder: Path, count: int = 3, name: str = "m") -> list[Path]:
    """A one-layer model whose tensors hold 1.0, 2.0, ..., split as gguf-split does."""
    tensors = default_tensors()
    paths = []
    for number in range(count):
        own = tensors[number * len(tensors) // count : (number + 1) * len(tensors) // count]
        split = {"split.no": number, "split.count": count, "split.tensors.count": len(tensors)}
        tiny = TinyGGUF(values={**(default_values() if number == 0 else {}), **split}, tensors=own)
        tiny.fill = {tensor: float(tensors.index(tensor) + 1) for tensor in own}
        paths.append(folder / f"{name}-{number + 1:05d}-of-{count:05d}.gguf")
        paths[-1].write_bytes(tiny.data())
    return paths


def content_of(source: Source) -> bytes:
    parts = []
    for piece in source.pieces:
        if isinstance(piece, bytes):
            parts.append(piece)
        else:
            parts.append(piece.path.read_bytes()[piece.start : piece.start + piece.length])
    return b"".join(parts)
