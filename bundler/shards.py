"""A model's files as one GGUF: a whole file as it is, shards joined, a chat template put in; nothing is written here.

Joining shards (runtime/shard_set.py) means one new header, then the tensor data of every shard as it is; the result is
a list of pieces that the writer copies.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.gguf_tensors import checked_sizes, end_of_data
from bundler.writer import Range, Source
from runtime.errors import ModelError
from runtime.gguf_header import GGUFHeader, Tensor, ValueType, read_header
from runtime.shard_set import shard_set

_SPLIT = "split."
_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A model as one GGUF. `sizes`: bytes of each tensor; `files`: what it is made of; `source`: its bytes; `data`:
    those behind its header."""

    header: GGUFHeader
    sizes: tuple[int, ...]
    files: tuple[Path, ...]
    source: Source
    data: tuple[Range | bytes, ...]

    def with_values(self, added: Mapping[str, str]) -> "Whole":
        """The same model with text key-values added; the tensors' data is not touched."""
        return _rebuilt(self.header, self.sizes, self.files, self.data, added)

    def home(self, tensor: Tensor) -> Path:
        """The file that a tensor of its header lies in."""
        end = 0
        for piece in self.data:
            end += piece.length if isinstance(piece, Range) else len(piece)
            if isinstance(piece, Range) and tensor.offset < end:
                return piece.path
        raise ValueError(f"{tensor.name} is no tensor of {self.files[0]}")


def open_whole(path: Path) -> Whole:
    """Read and check the file `path`, or the set of shards that it belongs to. Raises ModelError."""
    header = read_header(path)
    if header.integer("split.count") > 1:
        return _join(shard_set(header))
    sizes = tuple(checked_sizes(header))
    return Whole(
        header=header,
        sizes=sizes,
        files=(path,),
        source=Source.of(path, header.file_size),
        data=(Range(path=path, start=header.data_start, length=end_of_data(header, sizes)),),
    )


def _join(shards: Sequence[GGUFHeader]) -> Whole:
    first = shards[0]
    tensors: list[Tensor] = []
    sizes: list[int] = []
    data: list[Range | bytes] = []
    homes: dict[str, Path] = {}
    base = 0
    for shard in shards:
        _check_kin(first, shard)
        own = checked_sizes(shard)
        for tensor in shard.tensors:
            if tensor.name in homes:
                raise ModelError(
                    f"tensor {tensor.name!r} stands in both {homes[tensor.name].name} and {shard.path.name}",
                    "the shards are of different models; download them again",
                )
            homes[tensor.name] = shard.path
            tensors.append(replace(tensor, offset=base + tensor.offset))
        sizes += own
        length = end_of_data(shard, own)
        padding = -length % first.alignment
        data.append(Range(path=shard.path, start=shard.data_start, length=length))
        if padding:
            data.append(bytes(padding))
        base += length + padding
    expected = first.integer("split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise ModelError(
            f"the {len(shards)} shards of {first.path.name} hold {len(tensors):,} tensors, {expected:,} expected",
            "a shard is of another model; download them again",
        )
    files = tuple(shard.path for shard in shards)
    joined = replace(first, tensors=tuple(tensors))
    return _rebuilt(joined, tuple(sizes), files, tuple(data), {})


def _check_kin(first: GGUFHeader, shard: GGUFHeader) -> None:
    """What can be told from a shard's own header about whether it belongs to the first."""
    for key in ("general.architecture", "general.name", "split.tensors.count"):
        mine, its = first.values.get(key), shard.values.get(key)
        if its is not None and its != mine:
            raise ModelError(
                f"{shard.path} is a shard of another model: {key} is {its!r}, in {first.path.name} {mine!r}",
                "download it again",
            )
    if shard.alignment != first.alignment:
        raise ModelError(
            f"{shard.path} is aligned to {shard.alignment} bytes, {first.path.name} to {first.alignment}",
            "make the shards again with llama.cpp's gguf-split",
        )


def _rebuilt(
    header: GGUFHeader,
    sizes: tuple[int, ...],
    files: tuple[Path, ...],
    data: tuple[Range | bytes, ...],
    added: Mapping[str, str],
) -> Whole:
    """A new header, without the keys of splitting and with `added`, before the data."""
    start = _encode(header, added)
    source = Source(pieces=(start, *data))
    values = {key: value for key, value in header.values.items() if not key.startswith(_SPLIT)}
    return Whole(
        header=replace(header, values={**values, **added}, data_start=len(start), file_size=source.length),
        sizes=sizes,
        files=files,
        source=source,
        data=data,
    )


def _encode(header: GGUFHeader, added: Mapping[str, str]) -> bytes:
    """The header's bytes: key-values as they stand in its file, then the tensor table, padded to the alignment."""
    kept = [span for key, span in header.spans.items() if not key.startswith(_SPLIT) and key not in added]
    parts = [b"GGUF", struct.pack("<IQQ", _VERSION, len(header.tensors), len(kept) + len(added))]
    with header.path.open("rb") as file:
        for start, end in kept:
            file.seek(start)
            parts.append(file.read(end - start))
    for key, value in added.items():
        parts += [_text(key), struct.pack("<I", ValueType.STRING), _text(value)]
    for tensor in header.tensors:
        parts.append(_text(tensor.name) + struct.pack("<I", len(tensor.shape)))
        parts.append(struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, tensor.type, tensor.offset))
    encoded = b"".join(parts)
    return encoded + bytes(-len(encoded) % header.alignment)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data
