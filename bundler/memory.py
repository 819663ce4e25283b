"""The memory that a model needs, as rows for a table and as JSON. For `report`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from runtime.memory import Cache, MachineMemory, Need, Shape, estimate, machine_memory, repacked_types
from runtime.presets import DEFAULT_CONTEXT, most_context, native_context

CACHE_TYPES = ("f16", "q8_0")


def contexts(trained: int) -> tuple[int, ...]:
    """The sizes worth knowing about, in tokens: what a bundle starts with, the native one, the largest."""
    native = native_context(trained)
    return tuple(sorted({min(DEFAULT_CONTEXT, native), native, most_context(trained)}))


def needs(shape: Shape, trained: int) -> Iterator[tuple[int, str, Need]]:
    """(context, type of the KV cache, need on this machine's processor)."""
    repacked = repacked_types()
    for context in contexts(trained):
        for kind in CACHE_TYPES:
            yield context, kind, estimate(shape, Cache(context=context, keys=kind, values=kind), repacked)


def as_json(shape: Shape | None, trained: int) -> dict[str, Any] | None:
    """All of it, in bytes; None if the model's shape is unknown."""
    if shape is None:
        return None
    rows = [
        {"context": context, "cache_type": kind, **asdict(need), "total": need.total}
        for context, kind, need in needs(shape, trained)
    ]
    return {"needed": rows, "machine": asdict(machine_memory())}


def verdict(need: Need, machine: MachineMemory) -> str:
    """Whether it runs here, in a word or two."""
    if not machine.available:
        return ""
    if need.total <= machine.available:
        return "fits"
    if need.own > machine.total:
        return "too large"
    return "fits once memory is freed" if need.total <= machine.total else "reads weights from disk all the time"
