"""What the bundle carries beside its weights: a draft model, LoRA adapters, control vectors. Launcher only.

The draft is mapped in place, as the weights are. Adapters are opened by llama.cpp by name, so they are unpacked once
into the run cache; they are small.
"""

from pathlib import Path

from launcher.options import LaunchOptions
from launcher.unpack import unpack_file
from runtime.bundle import ADAPTER_PREFIX, CONTROL_PREFIX, DRAFT, LORA_PREFIX, Bundle
from runtime.engine import Engine

# The engine's flags by which a person chooses a draft or a way of speculating himself.
_DRAFT_FLAGS = ("-md", "--model-draft", "--spec-draft-model", "--spec-type", "--spec-default")


def uses_draft(options: LaunchOptions, bundle: Bundle) -> bool:
    """Whether the bundle's draft model is to guess ahead: not with other weights, nor if the person chose his way."""
    chosen = any(flag in _DRAFT_FLAGS for flag in options.engine_args)
    return options.draft and not chosen and options.model is None and bundle.manifest.member(DRAFT) is not None


def companion_args(options: LaunchOptions, bundle: Bundle, cache: Path, engine: Engine) -> list[str]:
    """The engine's arguments for all that goes with the weights; nothing with other weights (`-m`).

    Raises CacheError, ModelError."""
    if options.model is not None:
        return []
    args: list[str] = []
    if uses_draft(options, bundle):
        engine.add_model(DRAFT, bundle.path, bundle.require(DRAFT).offset)
        args += ["--spec-draft-model", DRAFT, "--spec-type", "draft-simple"]
    for flag, prefix in (("--lora", LORA_PREFIX), ("--control-vector", CONTROL_PREFIX)):
        files = [unpack_file(bundle, member, cache) for member in bundle.manifest.prefixed(prefix)]
        if files:
            args += [flag, ",".join(map(str, files))]
    return args


def other_weights_notice(options: LaunchOptions, bundle: Bundle) -> str:
    """What `-m` leaves unused, in one line; empty for nothing."""
    unused = [member.name.removeprefix(ADAPTER_PREFIX) for member in bundle.manifest.prefixed(ADAPTER_PREFIX)]
    if bundle.manifest.member(DRAFT):
        unused.insert(0, DRAFT)
    return f"not used with other weights: {', '.join(unused)}" if unused and options.model is not None else ""
