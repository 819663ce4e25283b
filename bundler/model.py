"""Check and describe a GGUF model before anything is written. Raises ModelError; prints nothing."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bundler.gguf_tensors import elements, type_name
from bundler.shards import Whole, open_whole
from bundler.tensor_shapes import check_shapes
from bundler.writer import Source
from runtime.errors import ModelError
from runtime.gguf_facts import EMBEDDING, OUTPUT, shape_of, yarn_context
from runtime.gguf_header import ArrayValue, GGUFHeader, ValueType
from runtime.memory import Shape
from runtime.presets import is_quantized, preset

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
PER_LAYER = ("head_count", "feed_forward_length")  # may be arrays, as pruned models have
REQUIRED_TENSORS = ("token_embd.weight", "output_norm.weight")
BLOCK_TENSORS = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm", "ffn_norm")
DENSE_TENSORS = ("ffn_gate", "ffn_up", "ffn_down")
MOE_TENSORS = ("ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
TEMPLATE = "tokenizer.chat_template"
OUR_TEMPLATE = Path(__file__).with_name("qwen3.jinja")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the builder knows about a checked model. Sizes in bytes, `context_length` in tokens.

    `yarn_context`: up to how many tokens YaRN keys of its own stretch it, 0 without. `active`: parameters that a token
    passes through, fewer than `parameters` in a mixture of experts. `template`: `Qwen3`, `other`, `none`, or
    `qwenfile's` once `with_template` has put one in. `tensor_types`: how the tensors of a kind are stored. `foreign`:
    not one of ARCHITECTURES.
    """

    whole: Whole
    architecture: str
    name: str
    parameters: int
    active: int
    quantization: str
    context_length: int
    layers: int
    template: str
    yarn_context: int
    tokenizer: str
    vocabulary: int
    tensor_types: dict[str, str]
    shape: Shape | None

    @property
    def path(self) -> Path:
        """The file, or the first of the shards."""
        return self.whole.files[0]

    @property
    def file_size(self) -> int:
        """Bytes of the GGUF as a bundle carries it."""
        return self.source.length

    @property
    def source(self) -> Source:
        """Where these bytes come from."""
        return self.whole.source

    @property
    def reach(self) -> int:
        """Tokens up to which the file itself asks to be used."""
        return max(self.context_length, self.yarn_context)

    @property
    def foreign(self) -> bool:
        """Let through by `--allow-any-architecture`."""
        return self.architecture not in ARCHITECTURES

    @property
    def has_chat_template(self) -> bool:
        """Whether the GGUF as a bundle carries it has one."""
        return self.template != "none"

    @property
    def quantized(self) -> bool:
        """Whether the weights are quantized, which changes Qwen3's recommended presence penalty."""
        return is_quantized(self.quantization)

    def facts(self) -> dict[str, Any]:
        """The manifest's `model` object."""
        return {
            "file_size": self.file_size,
            "architecture": self.architecture,
            "name": self.name,
            "parameters": self.parameters,
            "active_parameters": self.active,
            "quantization": self.quantization,
            "context_length": self.context_length,
            "yarn_context": self.yarn_context,
            "layers": self.layers,
            "has_chat_template": self.has_chat_template,
            "template": self.template,
            "shape": self.shape.facts() if self.shape else None,
        }

    def sampling(self) -> dict[str, Any]:
        """The manifest's `sampling` object: Qwen3's published settings for both modes."""
        return {
            mode: preset(thinking=mode == "thinking", quantized=self.quantized) for mode in ("thinking", "non_thinking")
        }


def load(path: Path, *, any_architecture: bool = False) -> Model:
    """Read and check the model at `path`, or the set of shards it belongs to; its weights are not read.

    `any_architecture`: others than Qwen3's too, about which less can be checked. Raises ModelError.
    """
    whole = open_whole(path)
    header = whole.header
    architecture = header.values.get("general.architecture")
    known = ARCHITECTURES if not any_architecture else (architecture,)
    if not isinstance(architecture, str) or architecture not in known or not re.fullmatch(r"[\w.-]+", architecture):
        raise ModelError(
            f"{path} has the architecture {architecture!r:.60}; qwenfile bundles {' and '.join(ARCHITECTURES)}",
            "name a Qwen3 model, or try your luck with --allow-any-architecture",
        )
    _check_keys(header, architecture)
    if architecture in ARCHITECTURES:
        _check_tensors(whole, architecture)
    parameters = sum(map(elements, header.tensors))
    tokens = header.values["tokenizer.ggml.tokens"]
    tokenizer = " ".join(str(header.values.get(f"tokenizer.ggml.{key}", "?")) for key in ("model", "pre"))
    return Model(
        whole=whole,
        architecture=architecture,
        name=_printable(str(header.values.get("general.name") or path.stem)),
        parameters=parameters,
        active=parameters - _idle(header, architecture),
        quantization=_quantization(header),
        context_length=header.integer(f"{architecture}.context_length"),
        layers=header.integer(f"{architecture}.block_count"),
        template=_template_kind(header),
        yarn_context=yarn_context(header),
        tokenizer=_printable(tokenizer),
        vocabulary=tokens.length,
        tensor_types=_tensor_types(header),
        shape=_shape(whole) if architecture in ARCHITECTURES else None,
    )


def with_template(model: Model) -> Model:
    """The model with qwenfile's own chat template of Qwen3's semantics in its header, if it has none."""
    if model.has_chat_template or model.foreign:
        return model
    template = OUR_TEMPLATE.read_text(encoding="utf-8")
    return replace(model, whole=model.whole.with_values({TEMPLATE: template}), template="qwenfile's")


def _printable(text: str) -> str:
    """Text of the file for a terminal and a manifest: without control characters, and not longer than a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _check_keys(header: GGUFHeader, architecture: str) -> None:
    required = REQUIRED_KEYS if architecture in ARCHITECTURES else ("context_length", "block_count")
    keys = [f"{architecture}.{key}" for key in required]
    if architecture == "qwen3":
        keys.append("qwen3.feed_forward_length")
    if architecture == "qwen3moe":
        keys += [f"{architecture}.{key}" for key in REQUIRED_MOE_KEYS]
        # llama.cpp divides the width of the whole, where that of an expert is not given
        either = [f"{architecture}.{key}" for key in ("expert_feed_forward_length", "feed_forward_length")]
        keys.append(next((key for key in either if header.values.get(key)), either[0]))
    missing = [key for key in keys if key not in header.values] + _missing_of_tokenizer(header)
    if missing:
        raise ModelError(f"{header.path} lacks {', '.join(missing)}", "convert the model again with llama.cpp")
    for key in keys:
        _check_number(header, key, layers=header.values[f"{architecture}.block_count"])
    if architecture == "qwen3moe":
        used, count = (header.integer(f"{architecture}.{key}") for key in ("expert_used_count", "expert_count"))
        if used > count:
            raise ModelError(f"{header.path} is damaged: it uses {used:,} of {count:,} experts")


def _check_number(header: GGUFHeader, key: str, *, layers: Any) -> None:
    value = header.values[key]
    if key.endswith("epsilon"):
        fits = isinstance(value, float)
    elif isinstance(value, ArrayValue):
        fits = key.endswith(PER_LAYER) and value.length == layers
    else:
        fits = isinstance(value, int) and 0 < value < 1 << 31
    if not fits:
        shown = f"a list of {value.length:,}" if isinstance(value, ArrayValue) else f"{value!r:.40}"
        raise ModelError(f"{header.path} is damaged: {key} is {shown}", "convert the model again with llama.cpp")


def _missing_of_tokenizer(header: GGUFHeader) -> list[str]:
    """What llama.cpp needs to make tokens of text and is not there, or is something else (llama-vocab.cpp)."""
    missing = []
    kind = header.values.get("tokenizer.ggml.model")
    if not isinstance(kind, str) or kind in ("", "none", "no_vocab"):
        missing.append("tokenizer.ggml.model")
    lists = ["tokens"]
    if kind == "gpt2" and header.values.get("tokenizer.ggml.pre") != "kimi-k2":  # the one without merges
        lists.append("merges")
    for name in lists:
        value = header.values.get(f"tokenizer.ggml.{name}")
        if not isinstance(value, ArrayValue):
            missing.append(f"tokenizer.ggml.{name}")
        elif value.type is not ValueType.STRING:
            missing.append(f"text in tokenizer.ggml.{name}")
    return missing


def _check_tensors(whole: Whole, architecture: str) -> None:
    """The tensors that llama.cpp's loader needs are there, and of the sizes that the header says."""
    header = whole.header
    present = {tensor.name: tensor for tensor in header.tensors}
    kinds = BLOCK_TENSORS + (MOE_TENSORS if architecture == "qwen3moe" else DENSE_TENSORS)
    layers = header.integer(f"{architecture}.block_count")
    if layers * len(kinds) > len(present):
        raise ModelError(f"{header.path} lacks tensors: {len(present):,} for {layers:,} layers", "download it again")
    wanted = [*REQUIRED_TENSORS, *(f"blk.{layer}.{kind}.weight" for layer in range(layers) for kind in kinds)]
    missing = [name for name in wanted if name not in present]
    if missing:
        what = f"the tensor {missing[0]}" if len(missing) == 1 else f"{len(missing):,} tensors, first {missing[0]}"
        raise ModelError(f"{header.path} lacks {what}", "download it again")
    embedding = present[EMBEDDING]
    tokens = header.values["tokenizer.ggml.tokens"].length
    if len(embedding.shape) == 2 and embedding.shape[1] != tokens:
        raise ModelError(
            f"{whole.home(embedding)} has an embedding of {embedding.shape[1]:,} rows for {tokens:,} tokens",
            "convert the model again",
        )
    check_shapes(whole, architecture)


def _idle(header: GGUFHeader, architecture: str) -> int:
    """Parameters of experts that a token does not pass through."""
    experts, used = (header.integer(f"{architecture}.expert_{key}") for key in ("count", "used_count"))
    if not experts:
        return 0
    return sum(elements(tensor) for tensor in header.tensors if "_exps." in tensor.name) * (experts - used) // experts


def _quantization(header: GGUFHeader) -> str:
    """The file type as people write it (Q4_K_M, Q8_0, F16); without the key, the type most weights have."""
    from gguf.constants import LlamaFileType

    number = header.values.get("general.file_type")
    if isinstance(number, int) and number in list(LlamaFileType):
        return str(LlamaFileType(number).name).removeprefix("MOSTLY_").removeprefix("ALL_")
    weights: Counter[str] = Counter()
    for tensor in header.tensors:
        weights[type_name(tensor)] += elements(tensor)
    return weights.most_common(1)[0][0] if weights else "unknown"


def _template_kind(header: GGUFHeader) -> str:
    template = header.values.get(TEMPLATE)
    if not isinstance(template, str):
        return "none"
    return "Qwen3" if "<|im_start|>" in template and "<think>" in template else "other"


def _kind(name: str) -> str:
    """What a tensor is for: embedding, output, attention, feed-forward, norms, other."""
    if "norm" in name:
        return "norms"
    if name in (EMBEDDING, OUTPUT):
        return "embedding" if name == EMBEDDING else "output"
    part = name.split(".")[2:3]
    if part and part[0].startswith("attn"):
        return "attention"
    if part and part[0].startswith("ffn"):
        return "router" if part[0] == "ffn_gate_inp" else "experts" if part[0].endswith("exps") else "feed-forward"
    return "other"


def _tensor_types(header: GGUFHeader) -> dict[str, str]:
    """For each kind of tensor, its types, the commonest first, such as `Q4_K, Q6_K`."""
    types: dict[str, Counter[str]] = {}
    for tensor in header.tensors:
        types.setdefault(_kind(tensor.name), Counter())[type_name(tensor)] += 1
    return {kind: ", ".join(name for name, _ in counts.most_common()) for kind, counts in types.items()}


def _shape(whole: Whole) -> Shape:
    return shape_of(whole.header, whole.sizes, [type_name(tensor) for tensor in whole.header.tensors])
