"""What a chat tells the engine beside its messages: whether the turn thinks, and the sampling of that mode. Knows no
terminal. Imported by the launcher only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.conversation import USER, Turn
from launcher.options import LaunchOptions
from launcher.settings import quantization, request, sampling
from runtime.bundle import Manifest
from runtime.presets import is_quantized, preset

# Qwen3 model card, "Advanced usage": /think and /no_think anywhere in a turn switch its thinking and that of the
# turns after it; the last one counts.
_SWITCH = re.compile(r"(?<!\S)/(no_)?think(?!\S)")
ON, OFF, AUTO = "on", "off", "auto"


@dataclass(kw_only=True)
class TurnSettings:
    """The settings of each turn. `baked`: sampling values of the bundle's own arguments; `chosen`: those that /set set;
    `mode`: on, off or auto, as /think says."""

    options: LaunchOptions
    manifest: Manifest
    baked: Mapping[str, float | int] = field(default_factory=dict)
    chosen: dict[str, float | int] = field(default_factory=dict)
    mode: str = ""

    def __post_init__(self) -> None:
        self.mode = self.mode or {None: AUTO, True: ON, False: OFF}[self.options.thinking]

    def thinks(self, turns: Sequence[Turn]) -> bool:
        """Whether the turn at hand thinks. Off is final; with auto the last switch in any turn counts, with on
        the turn's own."""
        if self.mode == OFF:
            return False
        words = [turn.content for turn in reversed(turns) if turn.role == USER]
        for text in words if self.mode == AUTO else words[:1]:
            if (switch := soft_switch(text)) is not None:
                return switch
        return True

    def request(self, turns: Sequence[Turn]) -> dict[str, Any]:
        """Sampling for the turn's mode. The template's own switch is off only for /think off: soft ones are text."""
        body = request(self.options, self.manifest, thinking=self.thinks(turns))
        body["chat_template_kwargs"] = {"enable_thinking": self.mode != OFF}
        return body | self.chosen

    def origins(self, turns: Sequence[Turn]) -> dict[str, str]:
        """Where each sampling value of the turn at hand comes from."""
        thinking = self.thinks(turns)
        published = preset(thinking=thinking, quantized=is_quantized(quantization(self.options, self.manifest)))
        carried = (self.manifest.sampling or {}).get("thinking" if thinking else "non_thinking") or {}

        def origin(name: str) -> str:
            if name in self.chosen:
                return "set"
            if name in self.options.sampling:
                return "baked" if self.baked.get(name) == self.options.sampling[name] else "flag"
            return "the bundle" if name in carried and carried[name] != published.get(name) else "preset"

        names = {**sampling(self.options, self.manifest, thinking=thinking), **self.chosen}
        return {name: origin(name) for name in names}


def soft_switch(text: str) -> bool | None:
    """The thinking mode that a turn asks for in its text, or None."""
    switches = _SWITCH.findall(text)
    return not switches[-1] if switches else None
