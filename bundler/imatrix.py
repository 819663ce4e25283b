"""Importance matrices: how much each column of a weight matters, measured by llama.cpp's llama-imatrix.

For `quantize` and its worker. A file holds, for each weight, the sums of the squares of its inputs and how many there
were, for each expert by itself. Two forms: GGUF (F32 tensors `<weight>.in_sum2` and `<weight>.counts`) and, older,
.dat (llama.cpp's common/imatrix-loader.cpp). Nothing here reads the sums themselves.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bundler.gguf_tensors import checked_sizes, elements, full
from bundler.model import Model
from runtime.errors import ModelError
from runtime.gguf_header import GGUFHeader, Tensor, read_header

_SUMS, _COUNTS = ".in_sum2", ".counts"
_F32 = 0  # GGML_TYPE_F32
_MAKE_ONE = "make one with llama.cpp's llama-imatrix"
_LONGEST_NAME = 128  # bytes; llama.cpp's names of tensors have 64 at most


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The sums for one weight: `size` little-endian float32 at byte `start`. Each of `counts` goes with an equal share
    of them; 0 where an expert was never asked."""

    start: int
    size: int
    counts: tuple[float, ...]


def check(path: Path, model: Model) -> None:
    """Raises ModelError unless the file holds an importance matrix for the model."""
    entries = read(path)
    matrices = {tensor.name: full(tensor.shape) for tensor in model.whole.header.tensors if len(tensor.shape) > 1}
    wanted = {name: columns * experts for name, (columns, _, experts, _) in matrices.items()}
    shared = [name for name in entries if name in wanted]
    other = next((name for name in shared if entries[name].size != wanted[name]), "")
    if other:
        problem = f"{path} has {entries[other].size:,} values for {other!r}, {model.path.name} takes {wanted[other]:,}"
        raise ModelError(problem, "name an importance matrix made with this model")
    if not shared:
        problem = f"{path} has none of the weights of {model.path.name}, but {next(iter(entries))!r} and so on"
        raise ModelError(problem, "name an importance matrix made with this model")


def read(path: Path) -> dict[str, Entry]:
    """The entries of the file by the names of weights, in either form. Raises ModelError."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                return _of_gguf(read_header(path))
            file.seek(0)
            return _of_dat(file, path.stat().st_size)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except (struct.error, ValueError):
        raise ModelError(f"{path} is no importance matrix, or damaged", _MAKE_ONE) from None


def _of_gguf(header: GGUFHeader) -> dict[str, Entry]:
    checked_sizes(header)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    if not names:
        raise ModelError(f"{header.path} is no importance matrix", _MAKE_ONE)
    entries = {}
    with header.path.open("rb") as file:
        for name in names:
            sums, counts = tensors[name + _SUMS], tensors.get(name + _COUNTS)
            fit = counts and sums.type == counts.type == _F32 and elements(sums) % elements(counts) == 0
            numbers = _floats(file, header, counts) if counts and fit else ()
            if not numbers or not all(map(math.isfinite, numbers)):
                raise ModelError(f"{header.path} is damaged: the counts of {name!r} do not go with its sums", _MAKE_ONE)
            entries[name] = Entry(start=header.data_start + sums.offset, size=elements(sums), counts=numbers)
    return entries


def _floats(file: BinaryIO, header: GGUFHeader, tensor: Tensor) -> tuple[float, ...]:
    file.seek(header.data_start + tensor.offset)
    count = elements(tensor)
    return struct.unpack(f"<{count}f", file.read(4 * count))


def _of_dat(file: BinaryIO, file_size: int) -> dict[str, Entry]:
    """An int32 of how many entries; each the length of a name, the name, by what its sums are to be divided, how many
    there are, all int32, and the sums. What follows tells of the text that was read. Raises ValueError, struct.error.
    """

    def number() -> int:
        return int(struct.unpack("<i", file.read(4))[0])

    entries = {}
    for _ in range(number()):
        length = number()
        if not 0 < length <= _LONGEST_NAME:
            raise ValueError(f"a name of {length} bytes")
        name = file.read(length).decode()
        divisor, size = number(), number()
        start = file.tell()
        if size < 1 or start + 4 * size > file_size:
            raise ValueError(f"{size} values")
        entries[name] = Entry(start=start, size=size, counts=(max(divisor, 1),))  # as they are where nothing divides
        file.seek(4 * size, 1)
    if not entries:
        raise ValueError("no entries")
    return entries
