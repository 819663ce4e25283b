"""What `qwenfile` shows: progress on stderr, tables and JSON on stdout. The only module here that prints."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bundler import elf, memory
from bundler.assemble import Built
from bundler.model import Model
from bundler.writer import Progress
from runtime.bundle import ADAPTER_PREFIX, ENGINE_PREFIX, LAUNCHER, LICENSE_PREFIX, Bundle
from runtime.memory import Shape, machine_memory
from runtime.paths import host_target
from runtime.presets import MAXIMUM_CONTEXT, NATIVE_CONTEXT, most_context, native_context

TEMPLATES = {
    "Qwen3": "in the model",
    "other": "in the model, not Qwen3's",
    "qwenfile's": "qwenfile's own, the model has none",
    "none": "none in the model; a bundle gets qwenfile's own",
}


def say(line: str) -> None:
    """One line to the person who waits, on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def size(count: int) -> str:
    """Bytes for people: 1,234 bytes, 12.3 MB, 4.56 GB (decimal units, as disks and downloads are sold)."""
    for unit, digits, scale in (("GB", 2, 10**9), ("MB", 1, 10**6), ("kB", 0, 10**3)):
        if count >= scale:
            return f"{count / scale:,.{digits}f} {unit}"
    return f"{count:,} bytes"


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress]:
    """A bar with bytes, rate and time left on a terminal; one line at the end elsewhere."""
    start = time.monotonic()
    done = 0
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
            task = bars.add_task(label, total=total)
            yield lambda count: bars.advance(task, count)
        return

    def count(amount: int) -> None:
        nonlocal done
        done += amount

    yield count
    seconds = time.monotonic() - start
    say(f"{label}: {size(done)} in {seconds:.1f} s ({size(int(done / max(seconds, 1e-3)))}/s)")


def summary(built: Built, model: Model, context: int, target: str) -> None:
    """The end of `build`: what came out and how to start it."""
    beside = f" and {built.weights}" if built.weights else ""
    rows = {
        "written": f"{built.out}{beside}",
        "size": f"{size(built.size)}, of it {size(built.added)} added to the weights",
        "model": f"{model.name}, {parameters(model.parameters)} parameters, {model.quantization}",
        "context": f"{context:,} tokens by default, {most_context(model.reach):,} at most",
        "run it": f"{_runnable(built.out, target)}   (chat; --server: web page and API; --cli -p TEXT: scripting)",
    }
    table(rows)


def _runnable(path: Path, target: str) -> str:
    if target != host_target():
        return f"{path.name} on {target}"
    return str(path) if path.is_absolute() else f"./{path}"


def parameters(count: int) -> str:
    """8.19B, 596M, 1.4M."""
    for unit, scale in (("B", 10**9), ("M", 10**6)):
        if count >= scale:
            return f"{count / scale:.3g}{unit}"
    return f"{count:,}"


def table(rows: Mapping[str, str]) -> None:
    """Names and values in two columns."""
    width = max(map(len, rows))
    for name, value in rows.items():
        sys.stdout.write(f"{name:<{width}}  {value}\n")


def describe_model(model: Model, *, as_json: bool) -> None:
    """`inspect` of a GGUF."""
    files = [str(path) for path in model.whole.files]
    if as_json:
        details = {
            "tensor_types": model.tensor_types,
            "tokenizer": model.tokenizer,
            "files": files,
            "tensors": len(model.whole.header.tensors),
            "alignment": model.whole.header.alignment,
            **_contexts(model.facts()),
            "memory": memory.as_json(model.shape, model.reach),
        }
        _write_json({"kind": "gguf", "path": str(model.path), **model.facts(), "sampling": model.sampling(), **details})
        return
    shards = f"  ({len(files)} shards)" if len(files) > 1 else ""
    rows = {"kind": "GGUF model", "file": f"{model.path}{shards}", **_model_rows(model.facts()), **_details(model)}
    table(rows | _sampling(model.sampling()))
    if model.shape:
        _memory_table(model.shape, model.reach)
    if model.foreign:
        sys.stdout.write("no Qwen3: build takes it with --allow-any-architecture only\n")


def _memory_table(shape: Shape, trained: int, draft: Shape | None = None) -> None:
    """A row for each context and type of KV cache, with what this machine has below."""
    machine = machine_memory()
    rows = [["memory needed", "KV cache as", "weights", "KV cache", "compute", "together", ""]]
    for context, kind, need in memory.needs(shape, trained, draft):
        numbers = [size(count) for count in (need.weights, need.cache, need.compute, need.total)]
        rows.append([f"-c {context}", kind, *numbers, memory.verdict(need, machine)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        left, *cells, last = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{left}  {'  '.join(cells)}  {last}".rstrip() + "\n")
    if machine.total:
        free = f", {size(machine.available)} of it free" if machine.available else ""  # macOS does not tell
        sys.stdout.write(f"this machine has {size(machine.total)}{free}\n")


def _details(model: Model) -> dict[str, str]:
    return {
        "stored as": "; ".join(f"{kind} {types}" for kind, types in model.tensor_types.items()),
        "tokenizer": f"{model.tokenizer}, {model.vocabulary:,} tokens",
        "file layout": f"{len(model.whole.header.tensors):,} tensors aligned to {model.whole.header.alignment} bytes, "
        f"data from byte {model.whole.header.data_start:,}",
    }


def describe_bundle(bundle: Bundle, args: str, *, as_json: bool) -> None:
    """`inspect` of a base or bundle."""
    manifest = bundle.manifest
    kind = "bundle" if manifest.model else "base"
    system = elf.needs(bundle)
    if as_json:
        fields = json.loads(manifest.to_json())
        facts = manifest.model or {}
        needs = memory.as_json(Shape.from_facts(facts), _reach(facts), Shape.from_facts(manifest.draft or {}))
        _write_json(
            {"kind": kind, "path": str(bundle.path), "size": bundle.size, "args": args, "system": asdict(system)}
            | fields
            | ({**_contexts(facts), "memory": needs} if facts else {"memory": needs})
        )
        return
    stored: Callable[[str], int] = lambda prefix: sum(m.size for m in manifest.prefixed(prefix))  # noqa: E731
    rows = {
        "kind": f"qwenfile {kind}, made by qwenfile {manifest.qwenfile}",
        "file": str(bundle.path),
        "size": f"{size(bundle.size)} ({bundle.size:,} bytes)",
        "target": manifest.target,
        **({"needs": _system(system)} if system.versions else {}),
        "engine": f"llama.cpp {manifest.engine.get('llama_cpp', '?')}",
        "GPU backend": _gpu(bundle),
        "stored": f"launcher {size(stored(LAUNCHER))}, engine {size(stored(ENGINE_PREFIX))}, "
        f"licences {size(stored(LICENSE_PREFIX))}",
    }
    if manifest.model:
        rows |= {"name": manifest.name, **_model_rows(manifest.model), **_sampling(manifest.sampling or {})}
        rows["weights"] = (
            f"beside the bundle: {manifest.external['name']}" if manifest.external else "inside, mapped in place"
        )
        if manifest.draft:
            rows["draft"] = f"{manifest.draft['name']}, {size(manifest.draft['file_size'])}"
        if adapters := manifest.prefixed(ADAPTER_PREFIX):
            rows["adapters"] = ", ".join(f"{m.name.removeprefix(ADAPTER_PREFIX)} {size(m.size)}" for m in adapters)
        rows["arguments"] = args or "none baked in"
    table(rows)
    if shape := Shape.from_facts(manifest.model or {}):
        _memory_table(shape, _reach(manifest.model or {}), Shape.from_facts(manifest.draft or {}))


def _system(needs: elf.Needs) -> str:
    """The oldest system libraries that will do, as measured on the programs inside."""
    names = {"GLIBC": "glibc {}", "GLIBCXX": "libstdc++ with GLIBCXX_{}"}
    versions = [text.format(needs.versions[name]) for name, text in names.items() if name in needs.versions]
    return f"{', '.join(versions)} or newer; {' '.join(needs.libraries)}".rstrip("; ")


def _gpu(bundle: Bundle) -> str:
    facts = bundle.manifest.engine.get("gpu") or {}
    stored = sum(
        member.size for name in facts.get("libraries", ()) if (member := bundle.manifest.member(ENGINE_PREFIX + name))
    )
    return f"{facts['backend']}, {size(stored)}" if facts else "none"


def _model_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    active = facts.get("active_parameters", facts["parameters"])
    mixture = f", {parameters(active)} active" if active != facts["parameters"] else ""
    shape = Shape.from_facts(facts)
    return {
        "model": f"{facts['name']} ({facts['architecture']}, {facts['layers']} layers)",
        "parameters": f"{parameters(facts['parameters'])} ({facts['parameters']:,}){mixture}",
        **({"sizes": _sizes(shape)} if shape else {}),
        "weights size": size(facts["file_size"]),
        "quantization": facts["quantization"],
        "context": _context(facts),
        "chat template": TEMPLATES[facts.get("template", "Qwen3")],
    }


def _sizes(shape: Shape) -> str:
    experts = (
        f", {shape.experts_used} experts a token, {shape.expert_feed_forward:,} wide" if shape.experts_used else ""
    )
    return (
        f"hidden {shape.hidden:,}, {shape.heads} heads, {shape.kv_heads} for keys and values, "
        f"feed-forward {shape.feed_forward:,}{experts}"
    )


def _reach(facts: Mapping[str, Any]) -> int:
    """Tokens up to which the model's file asks to be used."""
    return max(int(facts.get("context_length", 0)), int(facts.get("yarn_context", 0)))


def _contexts(facts: Mapping[str, Any]) -> dict[str, int]:
    """Tokens up to which the model is used plainly, and at the most."""
    return {"native_context": native_context(facts["context_length"]), "maximum_context": most_context(_reach(facts))}


def _context(facts: Mapping[str, Any]) -> str:
    if facts.get("yarn_context"):
        return f"{_reach(facts):,} tokens, by YaRN keys of its own"
    native = native_context(facts["context_length"])
    if native != NATIVE_CONTEXT:
        return f"{native:,} tokens"
    return f"{native:,} tokens, {MAXIMUM_CONTEXT:,} with YaRN"


def _sampling(sampling: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        mode.replace("_", "-"): ", ".join(f"{name} {value}" for name, value in values.items())
        for mode, values in sampling.items()
    }


def _write_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
