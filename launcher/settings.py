"""What the engine is told: its command line, and the sampling of each request. Pure functions of the options, the
bundle's manifest and the machine. Imported by the launcher only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.options import Face, LaunchOptions, Work
from runtime.bundle import Manifest
from runtime.errors import UsageError
from runtime.presets import ContextPlan, Sampling, carried_yarn, is_quantized, most_context, plan_context, preset

# The engine's flags for the sampling fields of its HTTP API.
_SAMPLING_FLAGS = {
    "temperature": "--temp",
    "top_p": "--top-p",
    "top_k": "--top-k",
    "min_p": "--min-p",
    "presence_penalty": "--presence-penalty",
    "seed": "--seed",
    "mirostat": "--mirostat",
}
# Tokens of a prompt that are read at once in a chat: progress is told, and Ctrl-C heard, after each. The engine
# computes 512 at a time anyway; upstream's batch of 2,048 is of use for many prompts at once only.
_CHAT_BATCH = 512
_ROPE_FLAGS = ("--rope-", "--yarn-")

# Seconds that a client may take between two pieces of its request, or to take the next piece of an answer.
_PATIENCE = 60
# MiB of one request: text for the longest context is about one, pictures and files of a page are more.
DEFAULT_MAX_BODY = 64


@dataclass(frozen=True, kw_only=True)
class Listen:
    """Where the engine listens: a Unix socket's path (it must end in `.sock`), or a TCP address with its port.

    `private`: for this process alone, so that it serves one conversation and no page; on a port, which the system
    chooses, it answers only to `key`.
    """

    host: str
    port: int = 0
    private: bool = True
    prefix: str = ""  # of all paths
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class EngineCommand:
    """The engine's arguments, without the program's name, and what the user should know about them. `context`: tokens,
    0 if only the model's file knows; `slots`: the conversations that have equal parts of it, each as large as `-c`."""

    args: tuple[str, ...]
    notices: tuple[str, ...] = ()
    context: int = 0
    slots: int = 1


def engine_command(
    options: LaunchOptions, manifest: Manifest, listen: Listen, *, gpu: bool, cores: int, slots: int = 1
) -> EngineCommand:
    """Compose the engine's command line. `gpu`: whether it uses one (`launcher.gpu` has its arguments);
    `cores`: threads to use unless `-t` says; `slots`: conversations at a time on a private engine, each with a
    context of its own.

    The user's own engine flags come last, so they win. Raises UsageError for a context that cannot be.
    """
    plan = context_plan(options, manifest)
    notices = [plan.notice] if plan.notice else []
    threads = options.threads or cores
    slots = slots if listen.private else 1
    context = plan.size * slots
    args = ["-c", str(context), *plan.engine_args, "--host", listen.host, "--reasoning-format", "deepseek"]
    args += ["--alias", model_name(options, manifest)]
    if listen.port:
        args += ["--port", str(listen.port)]
    if threads:
        args += ["-t", str(threads)]
    if not gpu:
        args += ["--fit", "off"]  # it loads the model twice to find out what fits a GPU
    if listen.key:
        args += ["--port", "0", "--api-key", listen.key]
    args += _private(options, slots, plan.size) if listen.private else _public(options, manifest, listen)
    return EngineCommand(args=(*args, *options.engine_args), notices=tuple(notices), context=context, slots=slots)


def context_plan(options: LaunchOptions, manifest: Manifest) -> ContextPlan:
    """How long a conversation may be. Raises UsageError for a context that cannot be."""
    facts = model_facts(options, manifest)
    return plan_context(
        options.context,
        facts.get("context_length"),
        rope_given=rope_given(options),
        carried=carried_yarn(facts),
        architecture=str(facts.get("architecture") or ""),
    )


def rope_given(options: LaunchOptions) -> bool:
    """Whether the person scales positions himself, and so decides how far the model reaches."""
    return any(flag.startswith(_ROPE_FLAGS) for flag in options.engine_args)


def reach(options: LaunchOptions, manifest: Manifest) -> int:
    """The most tokens of context that the model can use; 0 if unknown."""
    facts = model_facts(options, manifest)
    trained, carried = int(facts.get("context_length") or 0), carried_yarn(facts)
    if rope_given(options) or not trained:
        return 0
    return max(trained, carried.context) if carried else most_context(trained)


def _private(options: LaunchOptions, slots: int, context: int) -> list[str]:
    """No copies of caches for others, no trial run; the web page only for a chat, which /serve may open. `context`: of
    each slot."""
    if any(flag in ("--api-key", "--api-key-file", "--api-prefix", "--ssl-key-file") for flag in options.engine_args):
        raise UsageError("the engine's door is private here", "such flags belong to --server")
    args = ["--parallel", str(slots), "--no-warmup", "--cache-ram", "0", "--no-slots"]
    if options.face is Face.CHAT:
        args += ["-b", str(_CHAT_BATCH)]
    else:
        args.append("--no-webui")
    if options.work is Work.EMBEDDING:
        args += ["--embedding", "--pooling", "last"]  # as Qwen3's embedding models are trained
    if options.short_rows:  # one cache for all: a batch is computed at once, not once for every length in it
        args += ["--kv-unified", "--kv-unified-per-slot", str(context)]
    return args


def _public(options: LaunchOptions, manifest: Manifest, listen: Listen) -> list[str]:
    """The server's defaults are the preset of its default mode; requests may say otherwise."""
    thinking = options.thinking is not False
    args = [] if options.thinking is None else ["--reasoning", "on" if thinking else "off"]
    for name, value in sampling(options, manifest, thinking=thinking).items():
        args += [_SAMPLING_FLAGS[name], f"{value:g}" if isinstance(value, float) else str(value)]
    if options.predict is not None:
        args += ["-n", str(options.predict)]
    if options.api_key is not None:
        args += ["--api-key", options.api_key]
    args += ["--timeout", str(_PATIENCE)]
    args += ["--cors-origins", options.cors_origins]  # upstream's default is everybody
    if not is_private(listen.host) and "--slots" not in options.engine_args:
        args.append("--no-slots")  # they show everybody's prompts
    return args


def is_private(hosts: str) -> bool:
    """Whether only this machine reaches these addresses (comma-separated): loopback, or a Unix socket."""
    return all(
        host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".sock") for host in hosts.split(",")
    )


def door(options: LaunchOptions, manifest: Manifest) -> dict[str, Any]:
    """What a public engine is told beside its command line: see `engine_configure` in runtime/native/engine.h."""
    return {
        "allowed_hosts": [name for names in options.allowed_hosts for name in names.replace(",", " ").split()],
        "max_body": (options.max_body or DEFAULT_MAX_BODY) * 2**20,
        "model": model_name(options, manifest),
        "sampling": {
            "thinking": sampling(options, manifest, thinking=True),
            "non_thinking": sampling(options, manifest, thinking=False),
        },
    }


def sampling(options: LaunchOptions, manifest: Manifest, *, thinking: bool) -> Sampling:
    """The settings of a turn: Qwen3's preset for its mode, changed by the bundle, changed by the command line."""
    carried = (manifest.sampling or {}).get("thinking" if thinking else "non_thinking") or {}
    quantized = is_quantized(quantization(options, manifest))
    return {**preset(thinking=thinking, quantized=quantized), **carried, **options.sampling}


def request(options: LaunchOptions, manifest: Manifest, *, thinking: bool) -> dict[str, Any]:
    """What the command line and the mode put into a request, beside the messages."""
    body: dict[str, Any] = {
        **sampling(options, manifest, thinking=thinking),
        "chat_template_kwargs": {"enable_thinking": thinking},
    }
    if options.predict is not None:
        body["n_predict"] = options.predict
    if options.stop:
        body["stop"] = list(options.stop)
    if options.schema is not None:
        body["json_schema"] = options.schema
    if options.grammar is not None:
        body["grammar"] = options.grammar
    return body


def model_facts(options: LaunchOptions, manifest: Manifest) -> Mapping[str, Any]:
    """What the manifest says about the weights in use; nothing if it is about others than `-m` names."""
    facts = manifest.model or {}
    return {} if options.model is not None and facts.get("path") != str(options.model) else facts


def model_name(options: LaunchOptions, manifest: Manifest) -> str:
    """The model's name for people and API clients."""
    return options.model.stem if options.model is not None else manifest.name


def quantization(options: LaunchOptions, manifest: Manifest) -> str:
    """The kind of weights, from the manifest, or from the name of the file that `-m` names (`X-Q4_K_M.gguf`)."""
    kind = str(model_facts(options, manifest).get("quantization", ""))
    if kind or options.model is None:
        return kind
    parts = options.model.stem.upper().replace(".", "-").split("-")
    return next((part for part in reversed(parts) if part in ("F32", "F16", "BF16")), "")
