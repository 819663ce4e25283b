"""base + weights + manifest -> bundle, written beside its name and renamed. The heart of `qwenfile build`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bundler.adapters import Adapter
from bundler.edit import encode_args
from bundler.model import Model
from bundler.platforms import platform_of
from bundler.writer import Progress, Source, check_output, create, hash_file
from runtime.bundle import ALIGNMENT, ARGS, DRAFT, ENGINE_PREFIX, LICENSE_PREFIX, MODEL, Bundle, edges_sha256
from runtime.errors import QwenfileError, UsageError

TAIL_ROOM = 1024 * 1024  # bytes; arguments, manifest and ZIP directory are far smaller


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to assemble. `args`: baked arguments as text, empty for none. `inputs`: files that must not be written
    over, beside those of the model and the base."""

    model: Model
    base: Bundle
    out: Path
    name: str
    args: str = ""
    draft: Model | None = None
    adapters: tuple[Adapter, ...] = ()
    inputs: tuple[Path, ...] = ()
    external_weights: bool = False
    force: bool = False
    without_gpu: bool = False

    @property
    def beside(self) -> int:
        """Bytes of all that is carried beside the model, each with room for its alignment."""
        sizes = [adapter.size for adapter in self.adapters] + ([self.draft.file_size] if self.draft else [])
        return sum(size + ALIGNMENT for size in sizes)

    @property
    def size(self) -> int:
        """Bytes of the bundle with its weights inside, rounded up."""
        return self.base.size + ALIGNMENT + self.model.file_size + self.beside + TAIL_ROOM


@dataclass(frozen=True, kw_only=True)
class Built:
    """What came out. `added` is what the bundle adds to the weights, in bytes; `weights` is set if they lie beside;
    `written`: the files that were not there before."""

    out: Path
    size: int
    added: int
    weights: Path | None
    written: tuple[Path, ...]


def needs_external(order: Order) -> bool:
    """Whether the target cannot start a file as large as the bundle would be."""
    limit = platform_of(order.base.manifest.target).MAX_BUNDLE
    return limit is not None and order.size > limit


def assemble(order: Order, progress: Progress) -> Built:
    """Write the bundle. Raises UsageError or QwenfileError; then nothing of it is left."""
    out = order.out
    check(order)
    weights = _beside(order)
    made = (out, weights) if weights and not _lie_there(weights, order) else (out,)
    with _copied_weights(weights, order, progress) as external, create(out, force=order.force) as writer:
        writer.copy_base(order.base, gpu_members(order.base) if order.without_gpu else frozenset())
        if not external:
            writer.add_weights(MODEL, order.model.source, progress)
        if order.draft:
            writer.add_weights(DRAFT, order.draft.source, progress)
        for adapter in order.adapters:
            writer.add_weights(adapter.member, adapter.source, progress)
        if order.args:
            writer.add(ARGS, encode_args(order.args))
        writer.finish(
            replace(
                order.base.manifest,
                engine=order.base.manifest.engine | ({"gpu": None} if order.without_gpu else {}),
                name=order.name,
                model=order.model.facts(),
                sampling=order.model.sampling(),
                external=external,
                draft=order.draft.facts() if order.draft else None,
            )
        )
    size = out.stat().st_size
    added = size - (0 if weights else order.model.file_size)
    return Built(out=out, size=size, added=added, weights=weights, written=made)


def gpu_members(base: Bundle) -> frozenset[str]:
    """The members of a base that only its GPU backend needs."""
    facts = base.manifest.engine.get("gpu") or {}
    libraries = (ENGINE_PREFIX + name for name in facts.get("libraries", ()))
    return frozenset({*libraries, *(f"{LICENSE_PREFIX}engine-{name}.txt" for name in facts.get("licenses", ()))})


def check(order: Order) -> None:
    """Raise what would keep the bundle from being written, as far as it can be told before."""
    weights = _beside(order)
    for path in filter(None, (order.out, None if _lie_there(weights, order) else weights)):
        _check_not_input(path, order)
        check_output(path, force=order.force)
    limit = platform_of(order.base.manifest.target).MAX_BUNDLE
    size = order.size - (order.model.file_size if order.external_weights else 0)
    if limit is not None and size > limit:
        raise UsageError(
            f"{order.base.manifest.target} starts no file of {size:,} bytes; its limit is {limit:,}",
            "leave the draft or the adapters away" if order.external_weights else "add --external-weights",
        )
    check_room(order.out.parent, order.size)


def check_room(folder: Path, size: int) -> None:
    """Raises QwenfileError unless `folder` has `size` bytes free."""
    if not folder.is_dir():
        raise UsageError(f"there is no directory {folder}", "make it first")
    free = shutil.disk_usage(folder).free
    if free < size:
        raise QwenfileError(
            f"{folder} has {free:,} bytes free; the bundle needs {size:,}", "free some room, or choose another -o"
        )


def _beside(order: Order) -> Path | None:
    return order.out.with_suffix(".gguf") if order.external_weights else None


def _lie_there(weights: Path | None, order: Order) -> bool:
    """Whether the model, whole and unchanged, has the name of the bundle's weights already."""
    path = order.model.path
    if weights is None or not weights.exists() or not weights.samefile(path):
        return False
    return order.model.source == Source.of(path, path.stat().st_size)


@contextmanager
def _copied_weights(weights: Path | None, order: Order, progress: Progress) -> Iterator[dict[str, Any] | None]:
    """Copy the weights beside the bundle if so ordered; they go again if the bundle itself then fails."""
    if weights is None:
        yield None
        return
    if _lie_there(weights, order):
        size, sha256 = hash_file(weights, progress)
        yield {"name": weights.name, **edges_sha256(weights), "size": size, "sha256": sha256}
        return
    existed = weights.exists()
    with create(weights, force=order.force) as writer:
        size, sha256 = writer.add_plain(order.model.source, progress)
    weights.chmod(0o666 & ~_umask())
    try:
        yield {"name": weights.name, **edges_sha256(weights), "size": size, "sha256": sha256}
    except BaseException:
        if not existed:
            weights.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check_not_input(path: Path, order: Order) -> None:
    inputs = (*order.model.whole.files, *(order.draft.whole.files if order.draft else ()), order.base.path)
    for given in (*inputs, *(adapter.path for adapter in order.adapters), *order.inputs):
        if path.exists() and given.exists() and path.samefile(given):
            raise UsageError(f"the output {path} is the input {given}", "choose another -o")
