"""The memory that a model needs, as rows for a table and as JSON. For `report`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from runtime.memory import Cache, Fit, MachineMemory, Need, Shape, estimate, judge, machine_memory, repacked_types
from runtime.presets import DEFAULT_CONTEXT, most_context, native_context

CACHE_TYPES = ("f16", "q8_0")


def contexts(trained: int) -> tuple[int, ...]:
    """The sizes worth knowing about, in tokens: what a bundle starts with, the native one, the largest."""
    native = native_context(trained)
    return tuple(sorted({min(DEFAULT_CONTEXT, native), native, most_context(trained)}))


def needs(shape: Shape, trained: int, draft: Shape | None = None) -> Iterator[tuple[int, str, Need]]:
    """(context, type of the KV cache, need on this machine's processor), with the draft model's."""
    repacked = repacked_types()
    for context in contexts(trained):
        for kind in CACHE_TYPES:
            yield context, kind, estimate(shape, Cache(context=context, keys=kind, values=kind), repacked, draft=draft)


def as_json(shape: Shape | None, trained: int, draft: Shape | None = None) -> dict[str, Any] | None:
    """All of it, in bytes; None if the model's shape is unknown."""
    if shape is None:
        return None
    rows = [
        {"context": context, "cache_type": kind, **asdict(need), "total": need.total}
        for context, kind, need in needs(shape, trained, draft)
    ]
    return {"needed": rows, "machine": asdict(machine_memory())}


def verdict(need: Need, machine: MachineMemory) -> str:
    """Whether it runs here, in a word or two; what the launcher refuses is too large."""
    if not machine.available:
        return ""
    now, freed = judge(need, machine.available), judge(need, machine.total)
    if now in (Fit.WELL, Fit.MAPPED):
        return "fits"
    if freed in (Fit.WELL, Fit.MAPPED):
        return "fits once memory is freed"
    if now is Fit.FROM_DISK:
        return "reads weights from disk all the time"
    return "too large" if freed is Fit.NOT else "too large until memory is freed"
