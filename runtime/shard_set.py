"""The files of a model in shards, as llama.cpp's gguf-split names them: NAME-00001-of-00003.gguf and so on.

All key-values stand in the first, with `split.no`, `split.count` and `split.tensors.count`; each has a table of its own
tensors. Everybody may import it.
"""

import re
from pathlib import Path

from runtime.errors import ModelError
from runtime.gguf_header import GGUFHeader, read_header

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def shard_set(named: GGUFHeader) -> list[GGUFHeader]:
    """The headers of all shards of the set that `named` is of, in order. Raises ModelError: what is wrong with it."""
    count = named.integer("split.count")
    match = _NAME.fullmatch(named.path.name)
    if match is None or int(match["count"]) != count:
        raise ModelError(
            f"{named.path} is one of {count} shards, which its name does not say",
            f"name them as they were: NAME-00001-of-{count:05d}.gguf",
        )
    paths = [
        named.path.with_name(f"{match['stem']}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)
    ]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise ModelError(
            f"{named.path.name} is one of {count} shards; missing: {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else ""),
            f"put them all into {named.path.parent}",
        )
    return [_shard(path, number, count) for number, path in enumerate(paths)]


def _shard(path: Path, number: int, count: int) -> GGUFHeader:
    header = read_header(path)
    if "split.no" not in header.values or header.integer("split.count") != count:
        said = header.values.get("split.count", "none")
        raise ModelError(f"{path} is no shard of this model: split.count is {said}, not {count}", "download it again")
    if header.integer("split.no") != number:
        raise ModelError(
            f"{path} is shard {header.integer('split.no') + 1} of {count} by its content, {number + 1} by its name",
            "the files' names are mixed up; rename them, or download them again",
        )
    return header
