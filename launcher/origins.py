"""--show-settings: every setting, its value, and where it comes from. Imported by the launcher only."""

import itertools
from collections.abc import Iterator, Mapping

from launcher.companions import uses_draft
from launcher.machine import usable_cores
from launcher.options import LaunchOptions
from launcher.settings import context_plan, model_facts, model_name, quantization, rope_given, sampling
from runtime.bundle import CONTROL_PREFIX, DRAFT, LORA_PREFIX, Bundle
from runtime.presets import carried_yarn, is_quantized, preset

USER, BAKED, DEFAULT = "command line", "the bundle's arguments", "default"


def show_settings(options: LaunchOptions, user: LaunchOptions, baked: LaunchOptions, bundle: Bundle) -> str:
    """A table. `options` is what holds; `user` and `baked` are what the command line and the bundle's arguments alone
    would have said. Raises UsageError for a context that cannot be."""
    rows = [*_general(options, user, baked, bundle), *_sampling(options, user, bundle)]
    rows += [(name, value, origin) for name, value, origin in _engine(options, user)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}\n" for name, value, origin in rows)


def _general(
    options: LaunchOptions, user: LaunchOptions, baked: LaunchOptions, bundle: Bundle
) -> Iterator[tuple[str, str, str]]:
    def origin(field: str, otherwise: str = DEFAULT) -> str:
        if getattr(user, field) != getattr(LaunchOptions(), field):
            return USER
        return BAKED if getattr(baked, field) != getattr(LaunchOptions(), field) else otherwise

    manifest = bundle.manifest
    kind = quantization(options, manifest)
    yield "model", model_name(options, manifest), origin("model", "the bundle")
    yield "quantization", kind or "unknown", "the bundle" if options.model is None else "the weights' file"
    plan = context_plan(options, manifest)
    yield "context", f"{plan.size:,} tokens" if plan.size else "the model's maximum", origin("context")
    flags = dict(itertools.pairwise(plan.engine_args))
    if "--rope-scale" in flags:
        yield "position scaling", f"YaRN, factor {flags['--rope-scale']}", "the context is beyond the native one"
    elif (carried := carried_yarn(model_facts(options, manifest))) and not rope_given(options):
        yield "position scaling", f"YaRN up to {carried.context:,} tokens", "the model's own keys"
    threads = options.threads or usable_cores()
    yield "threads", str(threads) if threads else "the engine's choice", origin("threads", "this machine's cores")
    yield "GPU", options.device or options.gpu or "auto", origin("device" if options.device else "gpu")
    if options.gpu_layers is not None:
        yield "layers on a GPU", options.gpu_layers, origin("gpu_layers")
    thinking = {None: "the face's default", True: "on", False: "off"}[options.thinking]
    yield "thinking", thinking, origin("thinking")
    yield "answer length", "no limit" if options.predict is None else f"{options.predict} tokens", origin("predict")
    if manifest.member(DRAFT):
        yield "draft model", "on" if uses_draft(options, bundle) else "off", origin("draft", "the bundle")
    for name, prefix in (("LoRA adapters", LORA_PREFIX), ("control vectors", CONTROL_PREFIX)):
        if members := manifest.prefixed(prefix):
            yield name, str(len(members)) if options.model is None else "off", "the bundle"


def _sampling(options: LaunchOptions, user: LaunchOptions, bundle: Bundle) -> Iterator[tuple[str, str, str]]:
    manifest = bundle.manifest
    quantized = is_quantized(quantization(options, manifest))
    for thinking, mode in ((True, "thinking"), (False, "non_thinking")):
        published = preset(thinking=thinking, quantized=quantized)
        carried: Mapping[str, float | int] = (manifest.sampling or {}).get(mode) or {}
        for name, value in sampling(options, manifest, thinking=thinking).items():
            if name in user.sampling:
                origin = USER
            elif name in options.sampling:
                origin = BAKED
            elif carried.get(name, published.get(name)) != published.get(name):
                origin = "the bundle"
            else:
                for_quantized = quantized and name == "presence_penalty"
                origin = "Qwen3's preset" + (" for quantized weights" if for_quantized else "")
            yield f"{name}, {mode.replace('_', ' ')}", f"{value:g}", origin


def _engine(options: LaunchOptions, user: LaunchOptions) -> Iterator[tuple[str, str, str]]:
    """The engine's own flags, a row each: a flag and what follows it up to the next."""
    flags: list[list[str]] = []
    for word in options.engine_args:
        if word.startswith("-") and not word[1:2].isdigit():
            flags.append([word])
        elif flags:
            flags[-1].append(word)
    for name, *values in flags:
        yield name, " ".join(values) or "on", USER if name in user.engine_args else BAKED
