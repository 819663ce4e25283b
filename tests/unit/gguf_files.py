"""Tiny GGUF files for unit tests, written byte by byte so that each part can be made wrong."""

import struct
from dataclasses import dataclass, field
from typing import Any

F32 = 0
TYPES = {int: (4, "<I"), float: (6, "<f"), bool: (7, "<?")}
BLOCK = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm", "ffn_norm",
         "ffn_gate", "ffn_up", "ffn_down")  # fmt: skip


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def key_value(key: str, value: Any) -> bytes:
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    number, form = TYPES[type(value)]
    return text(key) + struct.pack("<I", number) + struct.pack(form, value)


def default_values() -> dict[str, Any]:
    return {
        "general.architecture": "qwen3",
        "general.name": "Unit",
        "general.file_type": 0,
        "qwen3.context_length": 4096,
        "qwen3.embedding_length": 8,
        "qwen3.block_count": 1,
        "qwen3.attention.head_count": 1,
        "qwen3.attention.layer_norm_rms_epsilon": 1e-6,
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.chat_template": "{{ messages }}",
    }


def default_tensors() -> list[str]:
    return ["token_embd.weight", "output_norm.weight", *(f"blk.0.{kind}.weight" for kind in BLOCK)]


@dataclass(kw_only=True)
class TinyGGUF:
    """A one-layer qwen3 with tensors of eight F32 values; change a field, then take `data()`."""

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
        for index, name in enumerate(self.tensors):
            offset = self.offsets.get(name, index * 32)
            shape = self.shapes.get(name, (8,))
            parts.append(text(name) + struct.pack("<I", len(shape)))
            parts.append(struct.pack(f"<{len(shape)}QIQ", *shape, self.tensor_type, offset))
        return b"".join(parts)

    def data(self) -> bytes:
        header = self.header()
        data = b"".join(struct.pack("<8f", *[self.fill.get(name, 0.0)] * 8) for name in self.tensors)
        return header + bytes(-len(header) % 32) + data
