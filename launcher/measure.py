"""--bench: how fast this machine reads a prompt and generates. Imported by the launcher only."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.console import Console
from launcher.machine import kernels, usable_cores
from launcher.options import LaunchOptions
from launcher.session import Place, Session
from launcher.settings import model_name, quantization
from launcher.work import engine_at_work
from runtime.errors import UsageError

if TYPE_CHECKING:
    from launcher.client import Client

PROMPT_TOKENS = 512
GENERATED_TOKENS = 64
_RUNS = 3  # odd, so that there is a middle one
_TEXT = "The quick brown fox jumps over the lazy dog, and the dog takes no notice of it. "


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Tokens, and the median, least and greatest of their tokens per second."""

    tokens: int
    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, tokens: int, rates: list[float]) -> "Speed":
        return cls(tokens=tokens, median=sorted(rates)[len(rates) // 2], least=min(rates), greatest=max(rates))

    def as_json(self) -> dict[str, float]:
        return {
            "tokens": self.tokens,
            "tokens_per_second": round(self.median, 2),
            "least": round(self.least, 2),
            "greatest": round(self.greatest, 2),
        }


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Measure and print a table or, with --json, an object."""
    with engine_at_work(options, place, console) as session:
        client = session.ready()
        prompt, generation = measure(client, options.predict or GENERATED_TOKENS)
        manifest = place.bundle.manifest
        facts = {
            "model": model_name(options, manifest),
            "quantization": quantization(options, manifest) or None,
            "device": _device(session),
            "threads": options.threads or usable_cores() or None,
        }
        compute = client.properties().get("compute")
    if options.json:
        told = {**facts, "prompt": prompt.as_json(), "generation": generation.as_json(), "compute": compute}
        console.answer(json.dumps(told, ensure_ascii=False) + "\n")
        return 0
    kind = f" ({facts['quantization']})" if facts["quantization"] else ""
    threads = f", {facts['threads']} thread{'s' * (facts['threads'] != 1)}" if facts["threads"] else ""
    console.answer(f"{facts['model']}{kind} on {facts['device']}{threads}\n\n")
    console.answer(f"{'':<12}{'tokens':>8}{'tokens/s':>12}   of {_RUNS} runs\n")
    for name, speed in (("prompt", prompt), ("generation", generation)):
        spread = f"{speed.least:,.1f} to {speed.greatest:,.1f}"
        console.answer(f"{name:<12}{speed.tokens:>8,}{speed.median:>12,.1f}   {spread}\n")
    return 0


def measure(client: "Client", generated: int) -> tuple[Speed, Speed]:
    """Read and generate a few times, after once for warming up; the engine itself takes the time."""
    room = client.context_size()
    if generated < 1 or generated + 16 > room:
        raise UsageError(
            f"{generated:,} tokens cannot be generated in a context of {room:,}", "choose another -n or -c"
        )
    tokens = list(client.post("/tokenize", {"content": _TEXT})["tokens"])
    length = min(PROMPT_TOKENS, room - generated - 1)
    prompt = (tokens * (length // len(tokens) + 1))[:length]
    body = {"prompt": prompt, "n_predict": generated, "ignore_eos": True, "cache_prompt": False}
    client.post("/completion", body | {"n_predict": 1})
    timings = [client.post("/completion", body)["timings"] for _ in range(_RUNS)]
    return (
        Speed.of(length, [each["prompt_per_second"] for each in timings]),
        Speed.of(generated, [each["predicted_per_second"] for each in timings]),
    )


def _device(session: Session) -> str:
    """What computes: the devices that hold layers, with how many; the processor with its kernels."""
    layers = session.layers()
    parts = []
    for share in sorted(layers.shares, key=lambda share: share.kind == "cpu"):
        name = f"{share.description}, {kernels()} kernels" if share.kind == "cpu" and kernels() else share.description
        if share.layers:
            parts.append(name if share.layers == layers.total else f"{name} ({share.layers} of {layers.total} layers)")
    return " + ".join(parts) or "unknown"
