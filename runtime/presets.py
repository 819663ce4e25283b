"""Qwen3's published sampling settings, context limits and YaRN factors. Everybody may import it.

Sources: the Qwen3 model cards, "Best Practices" (sampling per mode, presence penalty for quantized weights) and
"Processing Long Texts" (native context, YaRN factor and limit); the same numbers for every size of the family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.errors import UsageError

Sampling = dict[str, float | int]

# Qwen3 model card, "Processing Long Texts": 32,768 tokens natively, 131,072 validated with YaRN.
NATIVE_CONTEXT = 32_768
MAXIMUM_CONTEXT = 131_072
# config.json of the first Qwen3 models, max_position_embeddings, and so the context length in their GGUF files.
_TRAINED_CONTEXT = 40_960

# What a bundle uses unless `-c` says otherwise, and the engine's own unit, below which nothing useful fits.
DEFAULT_CONTEXT = 8_192
MINIMUM_CONTEXT = 256

# Qwen3 model card, "Best Practices", item 1.
_THINKING: Sampling = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0}
_DIRECT: Sampling = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0}
# Qwen3 GGUF model cards: "set presence_penalty to 1.5 for quantized models to suppress repetitive outputs".
_QUANTIZED_PRESENCE_PENALTY = 1.5

_UNQUANTIZED = frozenset({"F32", "F16", "BF16"})


def preset(*, thinking: bool, quantized: bool) -> Sampling:
    """The published sampling settings of a mode, by the names of the engine's HTTP API."""
    settings = dict(_THINKING if thinking else _DIRECT)
    settings["presence_penalty"] = _QUANTIZED_PRESENCE_PENALTY if quantized else 0.0
    return settings


def is_quantized(quantization: str) -> bool:
    """Whether weights of this kind (`Q8_0`, `Q4_K_M`, `F16`, ...) count as quantized for the presence penalty."""
    return quantization.upper() not in _UNQUANTIZED


@dataclass(frozen=True, kw_only=True)
class ContextPlan:
    """How many tokens of context to ask the engine for, with which flags, and what the user should know."""

    size: int
    engine_args: tuple[str, ...] = ()
    notice: str = ""


def native_context(trained: int | None) -> int:
    """Up to where a model is used plainly, in tokens. `trained`: the GGUF's context length, None if unknown.

    Qwen3's files say 40,960 (the native context and room for an answer to a full one). A file that says more was made
    for more: by YaRN keys of its own, which the engine follows, or by training (Qwen3-2507: 262,144).
    """
    if trained is None:
        return NATIVE_CONTEXT
    return trained if trained > _TRAINED_CONTEXT else min(trained, NATIVE_CONTEXT)


def most_context(trained: int | None) -> int:
    """The largest context in tokens: by YaRN where that is validated, else the native one."""
    native = native_context(trained)
    return MAXIMUM_CONTEXT if native == NATIVE_CONTEXT else native


@dataclass(frozen=True, kw_only=True)
class Carried:
    """YaRN that a GGUF asks for by keys of its own: up to how many tokens. Converters write it from config.json, where
    the context length often stays what it was; the engine takes that as the limit unless told otherwise."""

    architecture: str
    context: int


def plan_context(
    wanted: int | None,
    trained: int | None,
    *,
    rope_given: bool = False,
    carried: Carried | None = None,
    architecture: str = "",
) -> ContextPlan:
    """Decide the context. Raises UsageError when `wanted` is out of range.

    `wanted`: tokens as in `-c`; None takes the default, capped to what the model was trained for; 0 the trained
    maximum. `trained`: the GGUF's context length in tokens, None if unknown. `rope_given`: the user set the
    rotary embedding's scaling himself, so that only the lower limit holds and nothing is added. `carried`: the file
    has YaRN keys, which are left alone. `architecture`: the GGUF's, for lifting the limit that the engine takes from
    `trained`: beyond it, it would hold the context and not use it.
    """
    if carried and not rope_given:
        return _carried_plan(wanted, trained or 0, carried)
    if wanted is None:
        return ContextPlan(size=min(DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT))
    if wanted == 0:
        return ContextPlan(size=trained or 0)
    if wanted < MINIMUM_CONTEXT:
        remedy = f"use at least {MINIMUM_CONTEXT}, or 0 for the model's maximum"
        raise UsageError(f"a context of {wanted:,} tokens is too small", remedy)
    native = native_context(trained)
    if rope_given or wanted <= native:
        lifted = _lifted(wanted, trained, architecture)
        # YaRN takes the trained context as the original one unless the file or the user names that
        original = ("--yarn-orig-ctx", str(trained)) if lifted and not carried else ()
        return ContextPlan(size=wanted, engine_args=(*lifted, *original))
    limit = max(MAXIMUM_CONTEXT, most_context(trained))
    if wanted > limit:
        remedy = f"use -c {limit} or less, or -c 0 for the model's trained {trained or native:,}"
        raise UsageError(f"a context of {wanted:,} tokens is more than the {limit:,} that the model can use", remedy)
    if native != NATIVE_CONTEXT:
        notice = f"-c {wanted:,} is beyond the {native:,} tokens this model was trained for: expect poor answers there"
        return ContextPlan(size=wanted, engine_args=_lifted(wanted, trained, architecture), notice=notice)
    return ContextPlan(
        size=wanted,
        engine_args=(*yarn_arguments(wanted), *_lifted(wanted, trained, architecture)),
        notice=f"-c {wanted:,} is beyond the native {native:,}: YaRN is on, answers to short texts may suffer",
    )


def _carried_plan(wanted: int | None, trained: int, carried: Carried) -> ContextPlan:
    most = max(trained, carried.context)
    size = min(DEFAULT_CONTEXT, most) if wanted is None else wanted or most
    if size > most:
        raise UsageError(
            f"a context of {size:,} tokens is more than the {most:,} of the model's own YaRN", f"-c {most}"
        )
    if size < MINIMUM_CONTEXT:
        raise UsageError(f"a context of {size:,} tokens is too small", f"use at least {MINIMUM_CONTEXT}")
    return ContextPlan(size=size, engine_args=_lifted(most, trained, carried.architecture) if size > trained else ())


def _lifted(context: int, trained: int | None, architecture: str) -> tuple[str, ...]:
    """The engine's flags that let it use more tokens than the model was trained for."""
    if not trained or not architecture or context <= trained:
        return ()
    return ("--override-kv", f"{architecture}.context_length=int:{context}")


def carried_yarn(facts: Mapping[str, Any]) -> Carried | None:
    """What a manifest says about YaRN keys in the model."""
    context = facts.get("yarn_context")
    return Carried(architecture=str(facts.get("architecture")), context=int(context)) if context else None


def yarn_arguments(context: int) -> tuple[str, ...]:
    """The engine's flags that stretch the native context to `context` tokens (factor = context / native)."""
    factor = context / NATIVE_CONTEXT
    return ("--rope-scaling", "yarn", "--rope-scale", f"{factor:g}", "--yarn-orig-ctx", str(NATIVE_CONTEXT))
