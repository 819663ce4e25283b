"""Sizes and places of a GGUF's tensors, checked against the file. For the bundler's readers of GGUF."""

import math
from collections.abc import Sequence

from runtime.errors import ModelError
from runtime.gguf_header import MAX_DIMENSIONS, GGUFHeader, Tensor


def elements(tensor: Tensor) -> int:
    """How many values it has."""
    return math.prod(tensor.shape)


def full(shape: tuple[int, ...]) -> tuple[int, ...]:
    """With a size in every dimension, as GGML has it: columns, rows, experts, 1."""
    return (*shape, *(1,) * (MAX_DIMENSIONS - len(shape)))


def type_name(tensor: Tensor) -> str:
    """Q4_0, F32 and so on."""
    from gguf.constants import GGMLQuantizationType

    return str(GGMLQuantizationType(tensor.type).name)


def checked_sizes(header: GGUFHeader) -> list[int]:
    """Bytes of each tensor's data, after checking that types are known and every tensor is aligned, inside the file,
    named once and over no other. Raises ModelError."""
    sizes = _sizes(header)
    _check_extents(header, sizes)
    return sizes


def end_of_data(header: GGUFHeader, sizes: Sequence[int]) -> int:
    """Where the last tensor ends, in bytes from the start of the data."""
    return max((tensor.offset + size for tensor, size in zip(header.tensors, sizes, strict=True)), default=0)


def _sizes(header: GGUFHeader) -> list[int]:
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
        sizes.append(elements(tensor) // block * block_bytes)
    return sizes


def _check_extents(header: GGUFHeader, sizes: Sequence[int]) -> None:
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
