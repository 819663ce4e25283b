"""base + weights + manifest -> bundle, written beside its name and renamed. The heart of `qwenfile build`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bundler.edit import encode_args
from bundler.model import Model
from bundler.platforms import platform_of
from bundler.writer import Progress, check_output, create
from runtime.bundle import ALIGNMENT, ARGS, MODEL, Bundle
from runtime.errors import QwenfileError, UsageError

TAIL_ROOM = 1024 * 1024  # bytes; arguments, manifest and ZIP directory are far smaller


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to assemble. `args`: baked arguments as text, empty for none."""

    model: Model
    base: Bundle
    out: Path
    name: str
    args: str = ""
    external_weights: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Built:
    """What came out. `added` is what the bundle adds to the weights, in bytes; `weights` is set if they lie beside."""

    out: Path
    size: int
    added: int
    weights: Path | None


def assemble(order: Order, progress: Progress) -> Built:
    """Write the bundle. Raises UsageError or QwenfileError; then nothing of it is left."""
    out = order.out
    weights = out.with_suffix(".gguf") if order.external_weights else None
    for path in filter(None, (out, weights)):
        _check_not_input(path, order)
        check_output(path, force=order.force)
    platform = platform_of(order.base.manifest.target)
    size = order.base.size + ALIGNMENT + order.model.file_size + TAIL_ROOM
    if platform.MAX_BUNDLE is not None and not weights and size > platform.MAX_BUNDLE:
        raise UsageError(
            f"{order.base.manifest.target} starts no file of {size:,} bytes; its limit is {platform.MAX_BUNDLE:,}",
            "add --external-weights",
        )
    _check_room(out.parent, size)
    source = order.model.source
    with _copied_weights(weights, order, progress) as external, create(out, force=order.force) as writer:
        writer.copy_base(order.base)
        if not external:
            writer.add_weights(MODEL, source, progress)
        if order.args:
            writer.add(ARGS, encode_args(order.args))
        writer.finish(
            replace(
                order.base.manifest,
                name=order.name,
                model=order.model.facts(),
                sampling=order.model.sampling(),
                external=external,
            )
        )
    written = out.stat().st_size
    return Built(out=out, size=written, added=written - (0 if weights else order.model.file_size), weights=weights)


@contextmanager
def _copied_weights(weights: Path | None, order: Order, progress: Progress) -> Iterator[dict[str, Any] | None]:
    """Copy the weights beside the bundle if so ordered; they go again if the bundle itself then fails."""
    if weights is None:
        yield None
        return
    existed = weights.exists()
    source = order.model.source
    with create(weights, force=order.force) as writer:
        size, sha256 = writer.add_plain(source, progress)
    weights.chmod(0o666 & ~_umask())
    try:
        yield {"name": weights.name, "size": size, "sha256": sha256}
    except BaseException:
        if not existed:
            weights.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check_not_input(path: Path, order: Order) -> None:
    for given in (*order.model.whole.files, order.base.path):
        if path.exists() and given.exists() and path.samefile(given):
            raise UsageError(f"the output {path} is the input {given}", "choose another -o")


def _check_room(folder: Path, size: int) -> None:
    if not folder.is_dir():
        raise UsageError(f"there is no directory {folder}", "make it first")
    free = shutil.disk_usage(folder).free
    if free < size:
        raise QwenfileError(
            f"{folder} has {free:,} bytes free; the bundle needs {size:,}", "free some room, or choose another -o"
        )
