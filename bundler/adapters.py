"""What can be carried beside a model: a draft model, LoRA adapters, control vectors. Checks that they fit it."""

from dataclasses import dataclass
from pathlib import Path

from bundler.gguf_tensors import checked_sizes
from bundler.model import Model, load
from bundler.writer import Source
from runtime.bundle import CONTROL_PREFIX, LORA_PREFIX
from runtime.errors import ModelError, UsageError
from runtime.gguf_header import GGUFHeader, read_header

TOKENS = "tokenizer.ggml.tokens"
# llama.cpp's rule for a draft: the sizes may differ by this many tokens (common/speculative.cpp).
_MAX_DIFFERENCE = 128


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
        raise ModelError(f"{path} is no LoRA adapter", "make one with llama.cpp's convert_lora_to_gguf.py")
    _check_architecture(header, model)
    checked_sizes(header)
    shapes = {tensor.name: tensor.shape for tensor in model.whole.header.tensors}
    for tensor in header.tensors:
        base, _, part = tensor.name.rpartition(".lora_")
        if base not in shapes:
            raise ModelError(f"{path} changes the tensor {base or tensor.name!r}, which {model.path.name} has not")
        # a is (columns of the weight, rank), b is (rank, rows)
        side = 0 if part == "a" else 1
        if len(tensor.shape) != 2 or tensor.shape[side] != shapes[base][side]:
            raise ModelError(
                f"{path}: {tensor.name!r} is {tensor.shape} for a weight of {shapes[base]}",
                "the adapter is for a Qwen3 of another size",
            )
    return Adapter(path=path, size=header.file_size, member=f"{LORA_PREFIX}{number}.gguf")


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
