"""Where a loaded model's layers lie: what the engine says about the buffers of its weights. Everybody may import it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a device holds of the model: whole layers, and bytes of weights. `kind` as Device's."""

    name: str
    description: str
    kind: str
    backend: str
    layers: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Where a loaded model's layers lie, by the buffers of their weights. The output counts as one, as in `-ngl`;
    `split` are layers in the memories of several devices, which are in nobody's share."""

    total: int
    split: int
    shares: tuple[Share, ...]

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """From the engine's own text, which is also `compute` in /props."""
        shares = [
            Share(
                name=item["name"],
                description=item["description"].strip(),
                kind=item["type"],
                backend=item["backend"],
                layers=item["layers"],
                bytes=item["bytes"],
            )
            for item in told.get("devices", ())
        ]
        return cls(total=told.get("layers", 0), split=told.get("split", 0), shares=tuple(shares))

    @property
    def beside_cpu(self) -> tuple[Share, ...]:
        """The shares of all devices but the processor."""
        return tuple(share for share in self.shares if share.kind != "cpu")

    @property
    def offloaded(self) -> int:
        """Layers that lie on such devices, at least in part."""
        return sum(share.layers for share in self.beside_cpu) + (self.split if self.beside_cpu else 0)
