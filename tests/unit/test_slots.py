"""How many rows are answered at a time; see also test_cli_parts."""

from dataclasses import replace
from typing import Any

import pytest

from launcher.options import Face, LaunchOptions
from launcher.slots import choose_slots
from runtime.errors import UsageError
from runtime.memory import MachineMemory, Shape
from tests.unit.manifests import manifest

GB = 10**9
SHAPE = Shape(
    layers=28, hidden=1024, heads=16, kv_heads=8, key_length=128, value_length=128, feed_forward=3072,
    vocabulary=151_936, weights=600_000_000,
)  # fmt: skip


def slots(monkeypatch: pytest.MonkeyPatch, available: int, *, shape: Shape = SHAPE, **options: Any) -> int:
    monkeypatch.setattr("launcher.slots.machine_memory", lambda: MachineMemory(total=available, available=available))
    facts = {"context_length": 40_960, "architecture": "qwen3", "shape": shape.facts(), **options.pop("facts", {})}
    bundle = manifest(facts, draft={"shape": SHAPE.facts()})
    draft = options.pop("draft", False)
    return choose_slots(LaunchOptions(face=Face.CLI, **options), bundle, gpu=0, cores=2, draft=draft)


def test_the_context_is_the_one_that_the_engine_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="131,072"):
        slots(monkeypatch, 200 * GB, context=200_000)
    scaled = ("--rope-scaling", "yarn", "--rope-scale", "8")
    assert slots(monkeypatch, 200 * GB, context=200_000, engine_args=scaled) == 4
    assert slots(monkeypatch, 200 * GB, context=200_000, facts={"yarn_context": 262_144}) == 4


def test_the_weights_have_to_fit_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots(monkeypatch, 10 * GB) == 5
    assert slots(monkeypatch, 10 * GB, shape=replace(SHAPE, weights=7 * GB)) == 3
    assert slots(monkeypatch, 10 * GB, draft=True) == 2
