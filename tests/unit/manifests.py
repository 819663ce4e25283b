"""A bundle's manifest for tests of what reads one."""

from typing import Any

from runtime.bundle import Manifest


def manifest(facts: dict[str, Any] | None = None, **changes: Any) -> Manifest:
    """One for a model named Tiny. `facts`: what it says about the model."""
    fields: dict[str, Any] = {"name": "Tiny", "stub_size": 1, "stub_sha256": "", **changes}
    return Manifest(target="linux-x86_64", qwenfile="0", engine={}, model=facts or {"quantization": "F16"}, **fields)
