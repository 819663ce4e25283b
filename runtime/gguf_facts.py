"""What a GGUF's header says about a model, as a manifest's `model` object tells it. Everybody may import it.

The bundler checks models far more closely; this is what both sides agree on, and all that a bundle asks of other
weights (`-m`).
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.errors import ModelError
from runtime.gguf_header import ArrayValue, GGUFHeader, read_header
from runtime.memory import Shape
from runtime.presets import NATIVE_CONTEXT
from runtime.shard_set import shard_set

_MAX_FACTOR = 64.0
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
# general.file_type, as llama.cpp numbers it (llama.h, llama_ftype); the commoner ones.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 25: "IQ4_NL", 30: "IQ4_XS",
    32: "BF16", 38: "MXFP4_MOE",
}  # fmt: skip
# Types of tensors that kernels may rearrange (ggml.h, ggml_type); see `runtime.memory`.
_TENSOR_TYPES = {2: "Q4_0", 8: "Q8_0", 10: "Q2_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 20: "IQ4_NL", 39: "MXFP4"}


def file_facts(path: Path) -> dict[str, Any]:
    """Facts about the GGUF file `path`, or the set of shards that it belongs to, with the keys of a manifest's `model`
    as far as they are known; `file`: what an engine is to open, the first shard.

    Raises ModelError if a header is damaged or not of a GGUF. Costs some 30 ms for a vocabulary of 150,000."""
    named = read_header(path)
    files = shard_set(named) if named.integer("split.count") > 1 else [named]
    header = files[0]
    architecture = header.values.get("general.architecture")
    if not isinstance(architecture, str):
        raise ModelError(f"{header.path} names no architecture", "name a model in GGUF form")
    kind = header.values.get("general.file_type")
    facts: dict[str, Any] = {
        "file": str(header.path),
        "file_size": sum(file.file_size for file in files),
        "architecture": architecture,
        "quantization": _FILE_TYPES.get(kind, "") if isinstance(kind, int) else "",
    }
    if context := header.integer(f"{architecture}.context_length"):
        facts["context_length"] = context
    if yarn := yarn_context(header):
        facts["yarn_context"] = yarn
    if layers := header.integer(f"{architecture}.block_count"):
        facts["layers"] = layers
    if architecture in ("qwen3", "qwen3moe"):
        whole = replace(header, tensors=tuple(tensor for file in files for tensor in file.tensors))
        types = [_TENSOR_TYPES.get(tensor.type, "other") for tensor in whole.tensors]
        facts["shape"] = shape_of(whole, [size for file in files for size in _sizes(file)], types).facts()
    return facts


def yarn_context(header: GGUFHeader) -> int:
    """Tokens up to which the file's own YaRN keys stretch the context; 0 if it has none."""
    prefix = f"{header.values.get('general.architecture')}.rope.scaling"
    factor = header.values.get(f"{prefix}.factor")
    if header.values.get(f"{prefix}.type") != "yarn" or not isinstance(factor, float) or not 1 <= factor <= _MAX_FACTOR:
        return 0
    return round(header.integer(f"{prefix}.original_context_length", NATIVE_CONTEXT) * factor)


def shape_of(header: GGUFHeader, sizes: Sequence[int], types: Sequence[str]) -> Shape:
    """The sizes that memory depends on. `sizes` and `types`: bytes and type of each tensor of the header."""
    architecture = header.values["general.architecture"]
    tokens = header.values.get("tokenizer.ggml.tokens")

    def number(key: str, default: int = 0) -> int:
        value = header.values.get(f"{architecture}.{key}")
        if isinstance(value, ArrayValue):  # one per layer, as pruned models have: the largest
            return max((item for item in value.items if isinstance(item, int)), default=default)
        return header.integer(f"{architecture}.{key}", default)

    matrices: Counter[str] = Counter()
    tied: Counter[str] = Counter()
    has_output = any(tensor.name == OUTPUT for tensor in header.tensors)
    for tensor, size, kind in zip(header.tensors, sizes, types, strict=True):
        # the kernels that want rearranged weights take rows by eights (ggml-cpu/repack.cpp)
        if len(tensor.shape) < 2 or tensor.shape[1] % 8:
            continue
        if tensor.name != EMBEDDING:
            matrices[kind] += size
        elif not has_output:
            tied[kind] += size
    heads = number("attention.head_count")
    head = number("embedding_length") // max(heads, 1)
    return Shape(
        layers=number("block_count"),
        hidden=number("embedding_length"),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        key_length=number("attention.key_length", head),
        value_length=number("attention.value_length", head),
        feed_forward=number("feed_forward_length"),
        vocabulary=getattr(tokens, "length", 0),
        weights=sum(sizes),
        experts_used=number("expert_used_count"),
        expert_feed_forward=number("expert_feed_forward_length"),
        matrices=dict(matrices),
        tied=dict(tied),
    )


def _sizes(header: GGUFHeader) -> list[int]:
    """Bytes from each tensor to the one behind it, which is its size and some padding."""
    end = max(header.file_size - header.data_start, 0)
    starts = sorted({tensor.offset for tensor in header.tensors} | {end})
    following = dict(itertools.pairwise(starts))
    return [max(following.get(tensor.offset, end) - tensor.offset, 0) for tensor in header.tensors]
