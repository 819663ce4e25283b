"""How the engine is to be started: its whole command line, composed of what was asked for, the weights, the memory and
the GPUs. Imported by `launcher.session` only."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import room
from launcher.companions import companion_args, other_weights_notice, uses_draft
from launcher.gpu import Choice
from launcher.machine import usable_cores
from launcher.options import LaunchOptions
from launcher.settings import Listen, engine_command, model_facts
from runtime.bundle import MODEL
from runtime.engine import Engine

if TYPE_CHECKING:
    from launcher.session import Place


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the engine is started with."""

    options: LaunchOptions
    place: "Place"
    listen: Listen
    choice: Choice

    @property
    def gpu(self) -> bool:
        return bool(self.choice.devices)

    @property
    def _free(self) -> int:
        return sum(device.memory_free for device in self.choice.devices)

    @functools.cached_property
    def cores(self) -> int:
        return usable_cores()

    @functools.cached_property
    def slots(self) -> int:
        """Requests at a time."""
        if self.options.rows is None:
            return 1
        from launcher.slots import choose_slots

        bundle = self.place.bundle
        draft = uses_draft(self.options, bundle)
        return self.options.parallel or choose_slots(
            self.options, bundle.manifest, gpu=self._free, cores=self.cores, draft=draft
        )

    def command(self, engine: Engine) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The engine's arguments, and what the person should know. Registers models with the engine.

        Raises ModelError, UsageError, CacheError, and QwenfileError for too little memory."""
        options, bundle = self.options, self.place.bundle
        facts = model_facts(options, bundle.manifest)
        draft = bundle.manifest.draft if uses_draft(options, bundle) else None
        told = engine_command(options, bundle.manifest, self.listen, gpu=self.gpu, cores=self.cores, slots=self.slots)
        verdict = room.Verdict()
        if not self.gpu:
            verdict = room.check(facts, draft, told, private=self.listen.private, force=options.force)
        args = [*verdict.args, *self.choice.args]
        if self.gpu:
            free = [device.memory_free for device in self.choice.devices]
            args += room.fit(facts, draft, told.args, context=told.context, private=self.listen.private, free=free)
        if not self.listen.private:
            args += room.kept_prompts(facts, told.args, context=told.context)
        model = _register_weights(engine, self.place)
        beside = companion_args(options, bundle, self.place.cache, engine)
        notices = (self.choice.notice, *told.notices, verdict.notice, other_weights_notice(options, bundle))
        return ("-m", model, *beside, *args, *told.args), notices


def _register_weights(engine: Engine, place: "Place") -> str:
    """The name by which the engine opens the weights: inside the bundle in place, or a file."""
    if place.weights is not None:
        return str(place.weights)
    engine.add_model(MODEL, place.bundle.path, place.bundle.require(MODEL).offset)
    return MODEL
