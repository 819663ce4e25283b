"""What computes, in words: for the banner, /stats and --bench. Imported by the launcher only."""

from launcher.machine import kernels, usable_cores
from launcher.options import LaunchOptions
from runtime.layers import Layers, Share


def computing(layers: Layers, options: LaunchOptions) -> str:
    """The devices that hold the model's layers, with how many of how many, or the processor and its threads."""
    threads = options.threads or usable_cores()
    own = " ".join(filter(None, ("CPU", kernels()))) + (f", {threads} thread{'s' * (threads > 1)}" if threads else "")
    if not layers.offloaded:
        return own
    parts = [f"{share.description} ({share.name}), {_count(share, layers)}" for share in layers.beside_cpu]
    if layers.split:
        parts.append(f"{layers.split} layers in several memories")
    rest = layers.total - layers.offloaded
    return " + ".join(parts) + (f" + {own}, {rest} layer{'s' * (rest > 1)}" if rest else "")


def _count(share: Share, layers: Layers) -> str:
    return f"all {layers.total} layers" if share.layers == layers.total else f"{share.layers} of {layers.total} layers"
