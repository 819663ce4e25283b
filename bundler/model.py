"""Check and describe a GGUF model before anything is written. Raises ModelError; prints nothing."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundler.gguf_header import ArrayValue, GGUFHeader, Tensor, read_header
from runtime.errors import ModelError
from runtime.presets import preset

ARCHITECTURES = ("qwen3", "qwen3moe")
# Keys llama.cpp's loader needs for both architectures (llama-model.cpp, load_hparams).
REQUIRED_KEYS = (
    "context_length",
    "embedding_length",
    "block_count",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)
REQUIRED_MOE_KEYS = ("expert_count", "expert_used_count")
REQUIRED_TENSORS = ("token_embd.weight", "output_norm.weight")
BLOCK_TENSORS = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm", "ffn_norm")
DENSE_TENSORS = ("ffn_gate", "ffn_up", "ffn_down")
MOE_TENSORS = ("ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
UNQUANTIZED = ("F32", "F16", "BF16")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the builder knows about a checked model. Sizes in bytes, `context_length` in tokens."""

    path: Path
    file_size: int
    architecture: str
    name: str
    parameters: int
    quantization: str
    context_length: int
    layers: int
    has_chat_template: bool

    @property
    def quantized(self) -> bool:
        """Whether the weights are quantized, which changes Qwen3's recommended presence penalty."""
        return self.quantization not in UNQUANTIZED

    def facts(self) -> dict[str, Any]:
        """The manifest's `model` object."""
        facts = asdict(self)
        del facts["path"]
        return facts

    def sampling(self) -> dict[str, Any]:
        """The manifest's `sampling` object: Qwen3's published settings for both modes."""
        return {
            mode: preset(thinking=mode == "thinking", quantized=self.quantized) for mode in ("thinking", "non_thinking")
        }


def load(path: Path) -> Model:
    """Read and check the model at `path`; its weights are not read. Raises ModelError."""
    header = read_header(path)
    architecture = header.values.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{path} has the architecture {architecture!r}; qwenfile bundles {' and '.join(ARCHITECTURES)}",
            "name a Qwen3 model",
        )
    _check_keys(header, architecture)
    sizes = _tensor_sizes(header)
    _check_extents(header, sizes)
    _check_tensors(header, architecture)
    return Model(
        path=path,
        file_size=header.file_size,
        architecture=architecture,
        name=str(header.values.get("general.name") or path.stem),
        parameters=sum(math.prod(tensor.shape) for tensor in header.tensors),
        quantization=_quantization(header),
        context_length=header.values[f"{architecture}.context_length"],
        layers=header.values[f"{architecture}.block_count"],
        has_chat_template=isinstance(header.values.get("tokenizer.chat_template"), str),
    )


def _check_keys(header: GGUFHeader, architecture: str) -> None:
    keys = [f"{architecture}.{key}" for key in REQUIRED_KEYS]
    if architecture == "qwen3moe":
        keys += [f"{architecture}.{key}" for key in REQUIRED_MOE_KEYS]
    missing = [key for key in keys if key not in header.values]
    if not isinstance(header.values.get("tokenizer.ggml.tokens"), ArrayValue):
        missing.append("tokenizer.ggml.tokens")
    if missing:
        raise ModelError(f"{header.path} lacks {', '.join(missing)}", "convert the model again with llama.cpp")
    for key in (f"{architecture}.context_length", f"{architecture}.block_count"):
        value = header.values[key]
        if not isinstance(value, int) or not 0 < value < 1 << 31:
            raise ModelError(f"{header.path} is damaged: {key} is {value!r}")


def _tensor_sizes(header: GGUFHeader) -> list[int]:
    """Bytes of each tensor's data, from its shape and type."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    sizes = []
    for tensor in header.tensors:
        try:
            block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
        except (ValueError, KeyError):
            raise ModelError(f"{header.path}: tensor {tensor.name!r} has the unknown type {tensor.type}") from None
        if 0 in tensor.shape or tensor.shape[0] % block:
            raise ModelError(
                f"{header.path} is damaged: tensor {tensor.name!r} has rows of {tensor.shape[0]}, not {block} × n"
            )
        sizes.append(math.prod(tensor.shape) // block * block_bytes)
    return sizes


def _check_extents(header: GGUFHeader, sizes: list[int]) -> None:
    """Every tensor aligned, inside the file, and none over another."""
    names: set[str] = set()
    end, before = 0, ""
    for tensor, size in sorted(zip(header.tensors, sizes, strict=True), key=lambda row: row[0].offset):
        if tensor.name in names:
            raise ModelError(f"{header.path} is damaged: tensor {tensor.name!r} stands twice")
        names.add(tensor.name)
        if tensor.offset % header.alignment:
            raise ModelError(f"{header.path} is damaged: tensor {tensor.name!r} is not aligned to {header.alignment}")
        if tensor.offset < end:
            raise ModelError(f"{header.path} is damaged: tensors {before!r} and {tensor.name!r} overlap")
        end, before = tensor.offset + size, tensor.name
    needed = header.data_start + end
    if needed > header.file_size:
        raise ModelError(
            f"{header.path} is truncated: its tensors need {needed:,} bytes, the file has {header.file_size:,}",
            "copy or download it again",
        )


def _check_tensors(header: GGUFHeader, architecture: str) -> None:
    """The tensors that llama.cpp's loader needs are there."""
    present = {tensor.name for tensor in header.tensors}
    kinds = BLOCK_TENSORS + (MOE_TENSORS if architecture == "qwen3moe" else DENSE_TENSORS)
    layers = header.values[f"{architecture}.block_count"]
    if layers * len(kinds) > len(present):
        raise ModelError(f"{header.path} lacks tensors: {len(present):,} for {layers:,} layers", "download it again")
    wanted = [*REQUIRED_TENSORS, *(f"blk.{layer}.{kind}.weight" for layer in range(layers) for kind in kinds)]
    missing = [name for name in wanted if name not in present]
    if missing:
        raise ModelError(f"{header.path} lacks {len(missing)} tensors, the first is {missing[0]}", "download it again")


def _quantization(header: GGUFHeader) -> str:
    """The file type as people write it (Q4_K_M, Q8_0, F16); without the key, the type most weights have."""
    from gguf.constants import GGMLQuantizationType, LlamaFileType

    number = header.values.get("general.file_type")
    if isinstance(number, int) and number in list(LlamaFileType):
        return str(LlamaFileType(number).name).removeprefix("MOSTLY_").removeprefix("ALL_")
    weights: dict[int, int] = {}
    for tensor in header.tensors:
        weights[tensor.type] = weights.get(tensor.type, 0) + _elements(tensor)
    return str(GGMLQuantizationType(max(weights, key=lambda kind: weights[kind])).name)


def _elements(tensor: Tensor) -> int:
    return math.prod(tensor.shape)
