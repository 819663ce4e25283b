"""What can be carried beside a model: a draft model, LoRA adapters, control vectors. Checks that they fit it."""

from dataclasses import dataclass
from pathlib import Path

from bundler.gguf_tensors import checked_sizes, full
from bundler.model import Model, load
from bundler.writer import Source
from runtime.bundle import CONTROL_PREFIX, LORA_PREFIX
from runtime.errors import ModelError, UsageError
from runtime.gguf_facts import EMBEDDING, OUTPUT
from runtime.gguf_header import GGUFHeader, read_header

TOKENS = "tokenizer.ggml.tokens"
# llama.cpp's rule for a draft: the sizes may differ by this many tokens (common/speculative.cpp).
_MAX_DIFFERENCE = 128
_HALVES = (".lora_a", ".lora_b")
_MAKE_LORA = "make one with llama.cpp's convert_lora_to_gguf.py"
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A checked LoRA adapter or control vector. `member`: its name in the bundle."""

    path: Path
    size: int
    member: str

    @property
    def source(self) -> Source:
        """Its bytes."""
        return Source.of(self.path, self.size)


def load_draft(path: Path, model: Model) -> Model:
    """The draft model at `path`, whose vocabulary must be that of `model`. Raises ModelError."""
    draft = load(path, any_architecture=model.foreign)
    mine, its = (_vocabulary(each.whole.header) for each in (model, draft))
    if len(mine) > len(its):
        mine, its = its, mine
    difference = abs(model.vocabulary - draft.vocabulary)
    if difference > _MAX_DIFFERENCE:
        raise ModelError(
            f"{path} has {draft.vocabulary:,} tokens, {model.path.name} {model.vocabulary:,}: a draft needs the same",
            "take a smaller model of the same family",
        )
    if not its.startswith(mine) or draft.tokenizer != model.tokenizer:
        raise ModelError(
            f"{path} has another vocabulary than {model.path.name}: a draft needs the same",
            "take a smaller model of the same family",
        )
    if draft.parameters >= model.parameters:
        raise UsageError(
            f"the draft {path} has {draft.parameters:,} parameters, the model {model.parameters:,}: it would slow it",
            "take a smaller model as --draft",
        )
    return draft


def _vocabulary(header: GGUFHeader) -> bytes:
    """The bytes of the list of tokens, without its key, type and length."""
    start, end = header.spans[TOKENS]
    start += 8 + len(TOKENS) + 4 + 4 + 8  # key's length, key, type of value, type of elements, their number
    with header.path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def load_lora(path: Path, number: int, model: Model) -> Adapter:
    """The LoRA adapter at `path`, the `number`th of the bundle. Raises ModelError unless it is one for `model`."""
    header = read_header(path)
    if header.values.get("general.type") != "adapter" or header.values.get("adapter.type") != "lora":
        raise ModelError(f"{path} is no LoRA adapter", _MAKE_LORA)
    alpha = header.values.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float):
        raise ModelError(f"{path} is damaged: adapter.lora.alpha is {alpha!r:.40}", _MAKE_LORA)
    _check_architecture(header, model)
    checked_sizes(header)
    weights = {tensor.name: tensor.shape for tensor in model.whole.header.tensors}
    for name, (a, b) in _pairs(header).items():
        if name not in weights:
            raise ModelError(
                f"{path} changes the tensor {name!r}, which {model.path.name} has not",
                "name an adapter made for this model",
            )
        if name == EMBEDDING and OUTPUT not in weights:
            raise ModelError(
                f"{path} changes {name!r}, which is the output of {model.path.name}, too: llama.cpp cannot do that",
                "train the adapter without the embedding",
            )
        _check_pair(path, name, weights[name], a, b)
    return Adapter(path=path, size=header.file_size, member=f"{LORA_PREFIX}{number}.gguf")


def _pairs(header: GGUFHeader) -> dict[str, tuple[Shape, Shape]]:
    """The shapes of both halves for each weight that the adapter changes (llama-adapter.cpp)."""
    halves: dict[str, dict[str, Shape]] = {}
    for tensor in header.tensors:
        name, half = tensor.name[: -len(_HALVES[0])], tensor.name[-len(_HALVES[0]) :]
        if half in _HALVES:
            halves.setdefault(name, {})[half] = tensor.shape
        elif not tensor.name.endswith("_norm.weight"):  # llama.cpp skips norms
            raise ModelError(f"{header.path} has the tensor {tensor.name!r}, which is no part of a LoRA", _MAKE_LORA)
    for name, found in halves.items():
        for half in _HALVES:
            if half not in found:
                raise ModelError(f"{header.path} lacks {name + half!r}, the other half of its change", _MAKE_LORA)
    return {name: (found[".lora_a"], found[".lora_b"]) for name, found in halves.items()}


def _check_pair(path: Path, name: str, weight: Shape, a: Shape, b: Shape) -> None:
    """a is (columns of the weight, rank), b is (rank, rows), both for each expert; for the embedding, a is turned."""
    if len(weight) < 2:
        raise ModelError(
            f"{path} changes {name!r}, which is a row of {weight[0]:,} values: a LoRA changes matrices only",
            "train the adapter without it",
        )
    columns, rows, *experts = full(weight)
    (a_columns, a_rank, *a_experts), (b_rank, b_rows, *b_experts) = full(a), full(b)
    if name == EMBEDDING:  # a has a row for each token that is looked up (llama-graph.cpp, build_inp_embd)
        a_columns, a_rank, columns, rows = a_rank, a_columns, rows, columns
    if a_rank != b_rank:
        raise ModelError(
            f"{path}: the halves for {name!r}, {a} and {b}, are of the ranks {a_rank} and {b_rank}", _MAKE_LORA
        )
    if (a_columns, b_rows) != (columns, rows) or not experts == a_experts == b_experts:
        raise ModelError(
            f"{path}: the halves for {name!r}, {a} and {b}, do not fit a weight of {weight}",
            "the adapter is for a Qwen3 of another size",
        )


def load_control(path: Path, number: int, model: Model) -> Adapter:
    """The control vector at `path`, the `number`th of the bundle. Raises ModelError unless it is one for `model`."""
    header = read_header(path)
    directions = [tensor for tensor in header.tensors if tensor.name.startswith("direction.")]
    if header.values.get("general.architecture") != "controlvector" or not directions:
        raise ModelError(f"{path} is no control vector", "make one with llama.cpp's cvector-generator")
    checked_sizes(header)
    wanted = model.shape.hidden if model.shape else directions[0].shape[0]
    if any(tensor.shape != (wanted,) for tensor in directions):
        raise ModelError(f"{path} has directions of {directions[0].shape[0]} values, the model's are of {wanted}")
    return Adapter(path=path, size=header.file_size, member=f"{CONTROL_PREFIX}{number}.gguf")


def _check_architecture(header: GGUFHeader, model: Model) -> None:
    architecture = header.values.get("general.architecture")
    if architecture != model.architecture:
        raise ModelError(
            f"{header.path} is an adapter for {architecture!r}, {model.path.name} is {model.architecture}",
            "name an adapter made for this model",
        )
