"""The chat's first lines: which model runs here, on what, with how much context. Imported by `launcher.repl` only."""

from launcher.computing import computing
from launcher.options import LaunchOptions
from launcher.session import Session
from launcher.settings import model_facts, model_name, quantization
from runtime.bundle import Manifest

LEAVE_HINT = "Ctrl-D or /exit leaves"


def banner(options: LaunchOptions, manifest: Manifest, session: Session, used: int, size: int) -> str:
    """Which model, how large, computed by what, with how much context, `used` of it; and how to get help. Tokens."""
    facts = model_facts(options, manifest)
    parts = [model_name(options, manifest)]
    if count := facts.get("parameters"):
        parts.append(_count(int(count)))
    if kind := quantization(options, manifest):
        parts.append(kind)
    by = computing(session.layers(), options)
    return f"{', '.join(parts)}; context {used:,} of {size:,} tokens; {by}\n/help for help, {LEAVE_HINT}"


def _count(parameters: int) -> str:
    """A number of parameters as people say it: 1.39M, 596M, 8.19B."""
    for limit, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1000, "K")):
        if parameters >= limit:
            return f"{parameters / limit:.3g}{unit}"
    return str(parameters)
