"""Read a GGUF file's header: key-values and tensor table, checked against the file's size. Everybody may import it.

The package gguf reads a header by making one numpy object per array element: seconds for a vocabulary of 150,000
tokens. This reader walks strings and skips them; long arrays are kept as a length only. It never reads tensor data
and never allocates more than the header holds. Format: "GGUF specification", ggml documentation.
"""

import mmap
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from runtime.errors import ModelError

SUPPORTED_VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
KEPT_ARRAY = 64  # elements; longer arrays (vocabulary, merges) are only counted
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
# Far more than any model has, so that a damaged count or length costs no memory: the largest Qwen3 has 1,131 tensors,
# some 40 keys, and a few kB of text in them (arrays are not kept).
MAX_COUNT = 65_536
MAX_TEXT = 32 * 1024 * 1024  # bytes of strings kept altogether


class ValueType(IntEnum):
    """Types of key-values, as numbered by the GGUF specification."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_SCALARS = {
    ValueType.UINT8: struct.Struct("<B"),
    ValueType.INT8: struct.Struct("<b"),
    ValueType.UINT16: struct.Struct("<H"),
    ValueType.INT16: struct.Struct("<h"),
    ValueType.UINT32: struct.Struct("<I"),
    ValueType.INT32: struct.Struct("<i"),
    ValueType.FLOAT32: struct.Struct("<f"),
    ValueType.BOOL: struct.Struct("<?"),
    ValueType.UINT64: struct.Struct("<Q"),
    ValueType.INT64: struct.Struct("<q"),
    ValueType.FLOAT64: struct.Struct("<d"),
}
_U32 = _SCALARS[ValueType.UINT32]
_U64 = _SCALARS[ValueType.UINT64]


@dataclass(frozen=True, kw_only=True)
class ArrayValue:
    """An array key-value: how many elements of which type; `items` only if there are at most KEPT_ARRAY."""

    type: ValueType
    length: int
    items: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One row of the tensor table. `shape` in GGML's order, fastest dimension first; `offset` from the data's start."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class GGUFHeader:
    """A parsed header. `data_start` is the file offset of the tensor data, a multiple of `alignment`; `spans` says
    where in the file each key-value's bytes are, from the length of the key to the end of the value."""

    path: Path
    file_size: int
    version: int
    values: dict[str, Any]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_start: int
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    def integer(self, key: str, default: int = 0) -> int:
        """A whole number of the header; `default` if there is none. Raises ModelError if it is something else."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or not 0 <= value < 1 << 62:
            raise ModelError(f"{self.path} is damaged: {key} is {_short(value)}")
        return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(kw_only=True)
class _Cursor:
    """A position in the mapped file; every read is checked against its end."""

    path: Path
    data: mmap.mmap
    position: int = 0
    text: int = 0
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.data)

    def truncated(self, what: str, wanted: int) -> ModelError:
        return ModelError(
            f"{self.path} is truncated or damaged: its {what} at byte {self.position:,} needs {wanted:,} bytes, "
            f"the file ends after {self.size:,}",
            "copy or download it again",
        )

    def scalar(self, form: struct.Struct, what: str) -> Any:
        if self.position + form.size > self.size:
            raise self.truncated(what, form.size)
        (value,) = form.unpack_from(self.data, self.position)
        self.position += form.size
        return value

    def skip(self, length: int, what: str) -> None:
        if length > self.size - self.position:
            raise self.truncated(what, length)
        self.position += length

    def string(self, what: str) -> str:
        length = self.scalar(_U64, what)
        start = self.position
        self.skip(length, what)
        self.text += length
        if self.text > MAX_TEXT:
            raise ModelError(f"{self.path} is damaged: its {what} has {length:,} bytes of text")
        return self.data[start : start + length].decode("utf-8", "replace")

    def skip_strings(self, count: int, what: str) -> None:
        """Walk over `count` strings; the loop that a large vocabulary spends its time in."""
        unpack, data, size, position = _U64.unpack_from, self.data, self.size, self.position
        for _ in range(count):
            if position + 8 > size:
                break
            position += 8 + unpack(data, position)[0]
        else:
            if position <= size:
                self.position = position
                return
        raise self.truncated(what, 8)


def _value(cursor: _Cursor, kind: int, key: str) -> Any:
    try:
        kind = ValueType(kind)
    except ValueError:
        raise ModelError(f"{cursor.path} is damaged: key {_short(key)} has the unknown type {kind}") from None
    if kind is ValueType.STRING:
        return cursor.string(f"key {_short(key)}")
    if kind is ValueType.ARRAY:
        return _array(cursor, key)
    return cursor.scalar(_SCALARS[kind], f"key {_short(key)}")


def _array(cursor: _Cursor, key: str) -> ArrayValue:
    what = f"array {_short(key)}"
    number = cursor.scalar(_U32, what)
    length = cursor.scalar(_U64, what)
    if number not in list(ValueType) or number == ValueType.ARRAY:
        raise ModelError(f"{cursor.path} is damaged: array {_short(key)} has elements of the unsupported type {number}")
    kind = ValueType(number)
    least = 8 if kind is ValueType.STRING else _SCALARS[kind].size
    if length * least > cursor.size - cursor.position:
        raise cursor.truncated(what, length * least)
    if length <= KEPT_ARRAY:
        return ArrayValue(type=kind, length=length, items=tuple(_value(cursor, kind, key) for _ in range(length)))
    if kind is ValueType.STRING:
        cursor.skip_strings(length, what)
    else:
        cursor.skip(length * least, what)
    return ArrayValue(type=kind, length=length)


def _tensor(cursor: _Cursor, index: int) -> Tensor:
    what = f"tensor {index}"
    name = cursor.string(what)
    dimensions = cursor.scalar(_U32, what)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ModelError(f"{cursor.path} is damaged: tensor {_short(name)} has {dimensions} dimensions")
    shape = tuple(cursor.scalar(_U64, what) for _ in range(dimensions))
    return Tensor(name=name, shape=shape, type=cursor.scalar(_U32, what), offset=cursor.scalar(_U64, what))


def _big_endian(path: Path) -> ModelError:
    return ModelError(f"{path} is a big-endian GGUF", "convert the model again on a little-endian machine")


def _parse(cursor: _Cursor) -> GGUFHeader:
    magic = cursor.data[:4]
    if magic == b"FUGG":
        raise _big_endian(cursor.path)
    if magic != b"GGUF":
        raise ModelError(f"{cursor.path} is not a GGUF file: it starts with {magic!r}", "name a model in GGUF form")
    cursor.position = 4
    version = cursor.scalar(_U32, "version")
    if version not in SUPPORTED_VERSIONS:
        if version & 0xFFFF == 0:
            raise _big_endian(cursor.path)
        raise ModelError(f"{cursor.path} has GGUF version {version}; 2 and 3 are supported", "convert the model again")
    tensor_count = cursor.scalar(_U64, "tensor count")
    value_count = cursor.scalar(_U64, "key count")
    if max(tensor_count, value_count) > MAX_COUNT:
        raise ModelError(f"{cursor.path} is damaged: it claims {tensor_count:,} tensors and {value_count:,} keys")
    # A key takes at least 13 bytes (length, type, one byte of value), a tensor at least 32.
    if value_count * 13 + tensor_count * 32 > cursor.size - cursor.position:
        raise ModelError(
            f"{cursor.path} is truncated or damaged: {tensor_count:,} tensors and {value_count:,} keys cannot stand in "
            f"{cursor.size:,} bytes",
            "copy or download it again",
        )
    values: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    for index in range(value_count):
        start = cursor.position
        key = cursor.string(f"key {index}")
        if key in values:
            raise ModelError(f"{cursor.path} is damaged: key {_short(key)} stands twice")
        values[key] = _value(cursor, cursor.scalar(_U32, f"key {_short(key)}"), key)
        spans[key] = (start, cursor.position)
    tensors = tuple(_tensor(cursor, index) for index in range(tensor_count))
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1) or alignment > 1 << 20:
        raise ModelError(f"{cursor.path} is damaged: alignment {alignment} is no power of two from 8 to 1,048,576")
    return GGUFHeader(
        path=cursor.path,
        file_size=cursor.size,
        version=version,
        values=values,
        tensors=tensors,
        alignment=alignment,
        data_start=-(-cursor.position // alignment) * alignment,
        spans=spans,
    )


def read_header(path: Path) -> GGUFHeader:
    """Parse the header of the GGUF file `path`. Raises ModelError with the reason; cost: the header's pages."""
    if path.is_dir():
        raise ModelError(f"{path} is a directory", "name a model in GGUF form")
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:  # magic, version, two counts
                raise ModelError(
                    f"{path} is not a GGUF file: it has {path.stat().st_size} bytes", "name a model in GGUF form"
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(_Cursor(path=path, data=data))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
