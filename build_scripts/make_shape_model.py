"""Write a GGUF with the exact shape of a Qwen3 model, the real vocabulary and random weights.

    python build_scripts/make_shape_model.py 8B [--quant Q8_0|Q4_0|F16] [--layers N] [--shards N] [--yarn F] -o OUT.gguf

For the benchmark and for tests that need weights of a real size: same tensors, same speed, same memory as the model
it is named after, and text that means nothing. With --shards, OUT-00001-of-0000N.gguf and so on, as llama.cpp's
gguf-split names and fills them. The header is written first, then tensor after tensor in pieces of a few MB, so that
memory stays small. Vocabulary and chat template come from the engine's source (`build_native.py` unpacks it), which
has Qwen2's vocabulary; Qwen3 gave names to twelve tokens that were free there.
"""

import argparse
import mmap
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType  # noqa: E402

from llama_source import source  # noqa: E402
from runtime.errors import QwenfileError  # noqa: E402
from runtime.paths import build_cache  # noqa: E402
from shapes import NATIVE_CONTEXT, SHAPES, Shape, TensorShape, tensors  # noqa: E402
from steps import StepError, Steps  # noqa: E402

EOS, PAD = 151_645, 151_643
# Qwen3's tokenizer_config.json, added_tokens_decoder: tokens that are text (type 4 of llama.cpp, user-defined).
NEW_TOKENS = dict(
    enumerate(
        (
            "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
            "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
        ),
        start=151_657,
    )
)  # fmt: skip
_USER_DEFINED = 4
NATIVE = 32_768  # before YaRN
_CHUNK = 16 * 1024 * 1024  # bytes made at a time
# bytes per block, values per block
QUANTS = {
    "F16": (GGMLQuantizationType.F16, 2, 1),
    "Q8_0": (GGMLQuantizationType.Q8_0, 34, 32),
    "Q4_0": (GGMLQuantizationType.Q4_0, 18, 32),
}
FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to write. `layers` None: all of the shape's."""

    model: str
    quant: str = "Q8_0"
    layers: int | None = None
    shards: int = 1
    yarn: float | None = None
    seed: int = 0

    @property
    def shape(self) -> Shape:
        """The sizes of the model whose name was given."""
        return SHAPES[self.model]

    @property
    def count(self) -> int:
        """How many layers."""
        return self.shape.layers if self.layers is None else self.layers


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens, their types and merges, as a GGUF keeps them."""

    tokens: list[bytes]
    types: list[int]
    merges: list[str]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no count of at least 1")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, write, say what was written."""
    parser = argparse.ArgumentParser(description="Write a random-weights GGUF of a Qwen3 model's exact shape.")
    parser.add_argument("model", choices=SHAPES, help="the model whose shape to take")
    parser.add_argument("--quant", choices=QUANTS, default="Q8_0", help="type of the weights (default: Q8_0)")
    parser.add_argument("--layers", type=_count, help="only this many layers, for a smaller file")
    parser.add_argument("--shards", type=_count, default=1, help="split the tensors over this many files")
    parser.add_argument("--yarn", type=float, metavar="FACTOR", help="with YaRN keys, as converters write them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    fields = vars(parser.parse_args(argv))
    output = fields.pop("output")
    order = Order(**fields)
    try:
        cache = build_cache(os.environ)
        llama = source(cache, Steps(cache / "logs" / f"shape-{os.getpid()}.log"))
        files = write_model(llama, output, order)
    except (StepError, QwenfileError) as error:
        print(f"make_shape_model: {error}", file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in files)
    print(f"{files[0]}: {order.count} layers, {size / 1e6:.1f} MB")
    return 0


def write_model(llama: Path, output: Path, order: Order) -> list[Path]:
    """Write the model, each file beside its name first; returns the files. `llama` is the unpacked source."""
    vocabulary = read_vocabulary(llama / "models" / "ggml-vocab-qwen2.gguf")
    template = (llama / "models/templates/Qwen-Qwen3-0.6B.jinja").read_text(encoding="utf-8")
    rows = list(tensors(order.shape, order.count, len(vocabulary.tokens)))
    generator = np.random.Generator(np.random.SFC64(order.seed))
    files = [shard_name(output, index, order.shards) for index in range(order.shards)]
    for index, file in enumerate(files):
        work = file.with_name(f"{file.name}.work-{os.getpid()}")
        writer = GGUFWriter(work, order.shape.architecture)
        if index == 0:
            _describe(writer, order)
            _add_vocabulary(writer, vocabulary, template)
        else:
            writer.kv_data[0].clear()  # as gguf-split: everything stands in the first file
        if order.shards > 1:
            writer.add_uint16("split.no", index)
            writer.add_uint16("split.count", order.shards)
            writer.add_int32("split.tensors.count", len(rows))
        share = rows[index * len(rows) // order.shards : (index + 1) * len(rows) // order.shards]
        try:
            _write_file(writer, work, share, order.quant, generator)
            work.replace(file)
        finally:
            work.unlink(missing_ok=True)
    return files


def shard_name(output: Path, index: int, count: int) -> Path:
    """`output` itself, or its name with llama.cpp's `-00001-of-00003` (numbers from 1)."""
    return output if count == 1 else output.with_name(f"{output.stem}-{index + 1:05d}-of-{count:05d}.gguf")


def _write_file(
    writer: GGUFWriter, work: Path, rows: Sequence[TensorShape], quant: str, generator: np.random.Generator
) -> None:
    kind, block_bytes, block_values = QUANTS[quant]
    for row in rows:
        if row.plain:
            writer.add_tensor_info(row.name, row.dimensions, np.dtype(np.float32), row.all_rows * row.columns * 4)
            continue
        stored = row.columns // block_values * block_bytes
        shape = row.dimensions if quant == "F16" else [*row.dimensions[:-1], stored]
        dtype = np.dtype(np.float16 if quant == "F16" else np.uint8)
        raw = None if quant == "F16" else kind
        writer.add_tensor_info(row.name, shape, dtype, row.all_rows * stored, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with work.open("ab") as file:
        _pad(file)
        for row in rows:
            _write_tensor(file, row, quant, generator)


def _describe(writer: GGUFWriter, order: Order) -> None:
    shape = order.shape
    writer.add_name(f"Random weights in the shape of Qwen3 {order.model}")
    writer.add_file_type(FILE_TYPES[order.quant])
    writer.add_context_length(NATIVE_CONTEXT)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(order.count)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    if order.yarn:
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(order.yarn)
        writer.add_rope_scaling_orig_ctx_len(NATIVE)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
        writer.add_expert_feed_forward_length(shape.expert_feed_forward)


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


def _write_tensor(file: BinaryIO, row: TensorShape, quant: str, generator: np.random.Generator) -> None:
    if row.rows == 1:
        file.write(np.ones(row.columns, dtype=np.float32).tobytes())
    elif row.keep:
        file.write((generator.standard_normal((row.rows, row.columns), dtype=np.float32) * np.float32(0.02)).tobytes())
    else:
        _, block_bytes, block_values = QUANTS[quant]
        left = row.all_rows * row.columns // block_values
        while left:
            count = min(left, _CHUNK // block_bytes)
            file.write(_random_blocks(count, quant, generator))
            left -= count
    _pad(file)


def _random_blocks(count: int, quant: str, generator: np.random.Generator) -> memoryview:
    """Weights with a standard deviation near 0.02, as initialised networks have, as fast as random bits come."""
    _, block_bytes, _ = QUANTS[quant]
    words = generator.integers(0, 2**64 - 1, -(-count * block_bytes // 8), dtype=np.uint64, endpoint=True)
    blocks = words.view(np.uint8)[: count * block_bytes]
    if quant == "F16":
        # random sign and mantissa under a fixed exponent: plus or minus 2^-6 to 2^-5, 0.0239 on the average
        halves = blocks.view(np.uint16)
        halves &= 0x83FF
        halves |= (15 - 6) << 10
    else:
        # a block begins with its scale; uniform int8 deviates by 74, uniform 4 bits by 4.6
        scale = np.array([0.02 / (74 if quant == "Q8_0" else 4.6)], dtype=np.float16)
        blocks.reshape(-1, block_bytes)[:, :2] = scale.view(np.uint8)
    return blocks.data


def _pad(file: BinaryIO, alignment: int = 32) -> None:
    file.write(b"\0" * (-file.tell() % alignment))


def read_vocabulary(path: Path) -> Vocabulary:
    """Tokens, types and merges of a GGUF that holds a vocabulary. gguf.GGUFReader takes seconds for the same."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = dict(_key_values(data))
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    for number, text in NEW_TOKENS.items():
        tokens[number], types[number] = text.encode(), _USER_DEFINED
    return Vocabulary(
        tokens=tokens,
        types=types,
        merges=[merge.decode() for merge in found["tokenizer.ggml.merges"]],
    )


def _key_values(data: mmap.mmap) -> Iterator[tuple[str, object]]:
    at = 24
    (count,) = struct.unpack_from("<Q", data, 16)

    def take(kind: int) -> object:
        nonlocal at
        if kind == _STRING:
            (length,) = struct.unpack_from("<Q", data, at)
            at += 8 + length
            return data[at - length : at]
        if kind == _ARRAY:
            item, length = struct.unpack_from("<IQ", data, at)
            at += 12
            return [take(item) for _ in range(length)]
        (value,) = struct.unpack_from(_SCALARS[kind], data, at)
        at += struct.calcsize(_SCALARS[kind])
        return value

    for _ in range(count):
        name = take(_STRING)
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        assert isinstance(name, bytes)
        yield name.decode(), take(kind)


if __name__ == "__main__":
    raise SystemExit(main())
