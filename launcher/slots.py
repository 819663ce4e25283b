"""How many rows to answer at a time. Imported by the launcher only."""

from launcher.options import LaunchOptions
from launcher.settings import context_plan, model_facts
from runtime.bundle import Manifest
from runtime.memory import Cache, Shape, estimate, machine_memory

# Reading the weights once serves all rows of a batch: on a CPU it pays until its cores are busy, on a GPU longer.
_PER_CORE, _LEAST, _MOST_CPU, _MOST_GPU = 4, 4, 16, 32
# What is left of the memory belongs to the rest of the machine.
_SHARE = 0.5
_UNKNOWN = 4


def choose_slots(options: LaunchOptions, manifest: Manifest, *, gpu: int, cores: int, draft: bool = False) -> int:
    """Slots that keep the processor busy, as far as half of the free memory holds a context for each, and all of it
    the weights besides. `gpu`: bytes free on the GPUs in use, of which the weights take their part; 0 without one.
    `draft`: whether the bundle's draft model is in use. Raises UsageError for a context that cannot be."""
    most = _MOST_GPU if gpu else min(_MOST_CPU, max(_LEAST, _PER_CORE * cores))
    facts = model_facts(options, manifest)
    context = context_plan(options, manifest).size
    if context == 0:
        return 1  # the model's maximum, known only once it is loaded
    shape, available = Shape.from_facts(facts), gpu or machine_memory().available
    if shape is None or not available:
        return min(_UNKNOWN, most)
    guesser = Shape.from_facts(manifest.draft or {}) if draft else None
    weights = estimate(shape, Cache(context=context), draft=guesser).weights
    room = (available - (weights if gpu else 0)) * _SHARE
    if not gpu and weights < available:  # else they are read from the disk again and again
        room = min(room, available - weights)
    needs = ((n, estimate(shape, Cache(context=context * n, slots=n), draft=guesser)) for n in range(most, 1, -1))
    return next((n for n, need in needs if need.own <= room), 1)
