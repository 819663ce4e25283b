"""Write a GGUF with the exact shape of a Qwen3 dense model, the real vocabulary and random weights.

    python build_scripts/make_shape_model.py 0.6B [--quant Q8_0|Q4_0|F16] [--layers N] [--seed N] -o OUT.gguf

For the benchmark and for tests that need weights of a real size: same tensors, same speed, same memory as the model
it is named after, and text that means nothing. The header is written first, then tensor after tensor, so that memory
stays small. Vocabulary and chat template come from the engine's source (`build_native.py` unpacks it).
"""

import argparse
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from gguf import GGMLQuantizationType, GGUFWriter  # noqa: E402

from llama_source import source  # noqa: E402
from runtime.errors import QwenfileError  # noqa: E402
from runtime.paths import build_cache  # noqa: E402
from steps import StepError, Steps  # noqa: E402

# Qwen3's published configurations; the smaller ones use the embedding as output too.
HEAD = 128
NATIVE_CONTEXT = 40_960
EOS, PAD = 151_645, 151_643
_CHUNK_ROWS = 4096  # rows made at a time: some tens of MB


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of one dense Qwen3 model."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int = 8
    tied: bool


SHAPES = {
    "0.6B": Shape(layers=28, hidden=1024, feed_forward=3072, heads=16, tied=True),
    "1.7B": Shape(layers=28, hidden=2048, feed_forward=6144, heads=16, tied=True),
    "4B": Shape(layers=36, hidden=2560, feed_forward=9728, heads=32, tied=True),
    "8B": Shape(layers=36, hidden=4096, feed_forward=12288, heads=32, tied=False),
    "14B": Shape(layers=40, hidden=5120, feed_forward=17408, heads=40, tied=False),
    "32B": Shape(layers=64, hidden=5120, feed_forward=25600, heads=64, tied=False),
}
# bytes per block, values per block
QUANTS = {
    "F16": (GGMLQuantizationType.F16, 2, 1),
    "Q8_0": (GGMLQuantizationType.Q8_0, 34, 32),
    "Q4_0": (GGMLQuantizationType.Q4_0, 18, 32),
}
FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens, their types and merges, as a GGUF keeps them."""

    tokens: list[bytes]
    types: list[int]
    merges: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write a random-weights GGUF of a Qwen3 model's exact shape.")
    parser.add_argument("model", choices=SHAPES, help="the model whose shape to take")
    parser.add_argument("--quant", choices=QUANTS, default="Q8_0", help="type of the weights (default: Q8_0)")
    parser.add_argument("--layers", type=int, help="only this many layers, for a smaller file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    shape = SHAPES[arguments.model]
    try:
        cache = build_cache(os.environ)
        llama = source(cache, Steps(cache / "logs" / f"shape-{os.getpid()}.log"))
        write_model(llama, arguments.output, arguments.model, arguments.quant, arguments.layers, arguments.seed)
    except (StepError, QwenfileError) as error:
        print(f"make_shape_model: {error}", file=sys.stderr)
        return 1
    print(
        f"{arguments.output}: {shape.layers if arguments.layers is None else arguments.layers} layers, "
        f"{arguments.output.stat().st_size / 1e6:.1f} MB"
    )
    return 0


def write_model(llama: Path, output: Path, model: str, quant: str, layers: int | None = None, seed: int = 0) -> None:
    """Write `output` beside its name first. `llama` is the unpacked source; `layers` None means all."""
    shape = SHAPES[model]
    count = shape.layers if layers is None else layers
    vocabulary = read_vocabulary(llama / "models" / "ggml-vocab-qwen2.gguf")
    work = output.with_name(f"{output.name}.work-{os.getpid()}")
    writer = GGUFWriter(work, "qwen3")
    _describe(writer, shape, count, f"Random weights in the shape of Qwen3 {model}", quant)
    _add_vocabulary(writer, vocabulary, (llama / "models/templates/Qwen-Qwen3-0.6B.jinja").read_text(encoding="utf-8"))
    tensors = list(_tensors(shape, count, len(vocabulary.tokens)))
    kind, block_bytes, block_values = QUANTS[quant]
    for name, rows, columns in tensors:
        if rows == 1:
            writer.add_tensor_info(name, [columns], np.dtype(np.float32), columns * 4)
        else:
            stored = columns // block_values * block_bytes
            dtype = np.dtype(np.float16 if quant == "F16" else np.uint8)
            size = [rows, columns] if quant == "F16" else [rows, stored]
            raw = None if quant == "F16" else kind
            writer.add_tensor_info(name, size, dtype, rows * stored, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    try:
        with work.open("ab") as file:
            _pad(file)
            generator = np.random.default_rng(seed)
            for _, rows, columns in tensors:
                _write_tensor(file, rows, columns, quant, generator)
        work.replace(output)
    finally:
        work.unlink(missing_ok=True)


def _describe(writer: GGUFWriter, shape: Shape, layers: int, name: str, quant: str) -> None:
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[quant])
    writer.add_context_length(NATIVE_CONTEXT)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, template: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)


def _tensors(shape: Shape, layers: int, vocabulary: int) -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns (values) of every tensor; a norm has one row."""
    yield "token_embd.weight", vocabulary, shape.hidden
    yield "output_norm.weight", 1, shape.hidden
    if not shape.tied:
        yield "output.weight", vocabulary, shape.hidden
    for i in range(layers):
        yield f"blk.{i}.attn_norm.weight", 1, shape.hidden
        yield f"blk.{i}.ffn_norm.weight", 1, shape.hidden
        yield f"blk.{i}.attn_q_norm.weight", 1, HEAD
        yield f"blk.{i}.attn_k_norm.weight", 1, HEAD
        yield f"blk.{i}.attn_q.weight", shape.heads * HEAD, shape.hidden
        yield f"blk.{i}.attn_k.weight", shape.kv_heads * HEAD, shape.hidden
        yield f"blk.{i}.attn_v.weight", shape.kv_heads * HEAD, shape.hidden
        yield f"blk.{i}.attn_output.weight", shape.hidden, shape.heads * HEAD
        yield f"blk.{i}.ffn_gate.weight", shape.feed_forward, shape.hidden
        yield f"blk.{i}.ffn_up.weight", shape.feed_forward, shape.hidden
        yield f"blk.{i}.ffn_down.weight", shape.hidden, shape.feed_forward


def _write_tensor(file: BinaryIO, rows: int, columns: int, quant: str, generator: np.random.Generator) -> None:
    if rows == 1:
        file.write(np.ones(columns, dtype=np.float32).tobytes())
    else:
        for start in range(0, rows, _CHUNK_ROWS):
            file.write(_random_rows(min(_CHUNK_ROWS, rows - start), columns, quant, generator))
    _pad(file)


def _random_rows(rows: int, columns: int, quant: str, generator: np.random.Generator) -> bytes:
    """Weights with a standard deviation near 0.02, as initialised networks have."""
    if quant == "F16":
        values = generator.standard_normal((rows, columns), dtype=np.float32)
        return (values * np.float32(0.02)).astype(np.float16).tobytes()
    _, block_bytes, block_values = QUANTS[quant]
    blocks = np.frombuffer(generator.bytes(rows * columns // block_values * block_bytes), dtype=np.uint8)
    blocks = blocks.reshape(-1, block_bytes).copy()
    # a block begins with its scale; uniform int8 deviates by 74, uniform 4 bits by 4.6
    scale = np.array([0.02 / (74 if quant == "Q8_0" else 4.6)], dtype=np.float16)
    blocks[:, :2] = scale.view(np.uint8)
    return blocks.tobytes()


def _pad(file: BinaryIO, alignment: int = 32) -> None:
    file.write(b"\0" * (-file.tell() % alignment))


def read_vocabulary(path: Path) -> Vocabulary:
    """Tokens, types and merges of a GGUF that holds a vocabulary. gguf.GGUFReader takes seconds for the same."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = dict(_key_values(data))
    return Vocabulary(
        tokens=found["tokenizer.ggml.tokens"],
        types=found["tokenizer.ggml.token_type"],
        merges=[merge.decode() for merge in found["tokenizer.ggml.merges"]],
    )


def _key_values(data: mmap.mmap) -> Iterator[tuple[str, object]]:
    import struct

    # the GGUF specification's value types, but for strings (8) and arrays (9)
    scalars = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
    at = 24
    (count,) = struct.unpack_from("<Q", data, 16)

    def take(kind: int) -> object:
        nonlocal at
        if kind == 8:
            (length,) = struct.unpack_from("<Q", data, at)
            at += 8 + length
            return data[at - length : at]
        if kind == 9:
            item, length = struct.unpack_from("<IQ", data, at)
            at += 12
            return [take(item) for _ in range(length)]
        (value,) = struct.unpack_from(scalars[kind], data, at)
        at += struct.calcsize(scalars[kind])
        return value

    for _ in range(count):
        name = take(8)
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        assert isinstance(name, bytes)
        yield name.decode(), take(kind)


if __name__ == "__main__":
    raise SystemExit(main())
