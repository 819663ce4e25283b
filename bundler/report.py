"""What `qwenfile` shows: progress on stderr, tables and JSON on stdout. The only module here that prints."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundler.assemble import Built
from bundler.model import Model
from bundler.writer import Progress
from runtime.bundle import ENGINE_PREFIX, LAUNCHER, LICENSE_PREFIX, Bundle


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


def summary(built: Built, model: Model, context: int) -> None:
    """The end of `build`: what came out and how to start it."""
    beside = f" and {built.weights}" if built.weights else ""
    rows = {
        "written": f"{built.out}{beside}",
        "size": f"{size(built.size)}, of it {size(built.added)} added to the weights",
        "model": f"{model.name}, {parameters(model.parameters)} parameters, {model.quantization}",
        "context": f"{context:,} tokens by default, {model.context_length:,} at most",
        "run it": f"{_runnable(built.out)}   (chat; --server: web page and API; --cli -p TEXT: scripting)",
    }
    table(rows)


def _runnable(path: Path) -> str:
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
    if as_json:
        _write_json({"kind": "gguf", "path": str(model.path), **model.facts(), "sampling": model.sampling()})
        return
    table({"kind": "GGUF model", "file": str(model.path), **_model_rows(model.facts()), **_sampling(model.sampling())})


def describe_bundle(bundle: Bundle, args: str, *, as_json: bool) -> None:
    """`inspect` of a base or bundle."""
    manifest = bundle.manifest
    kind = "bundle" if manifest.model else "base"
    if as_json:
        fields = json.loads(manifest.to_json())
        _write_json({"kind": kind, "path": str(bundle.path), "size": bundle.size, "args": args, **fields})
        return
    stored: Callable[[str], int] = lambda prefix: sum(m.size for m in manifest.prefixed(prefix))  # noqa: E731
    rows = {
        "kind": f"qwenfile {kind}, made by qwenfile {manifest.qwenfile}",
        "file": str(bundle.path),
        "size": f"{size(bundle.size)} ({bundle.size:,} bytes)",
        "target": manifest.target,
        "engine": f"llama.cpp {manifest.engine.get('llama_cpp', '?')}",
        "stored": f"launcher {size(stored(LAUNCHER))}, engine {size(stored(ENGINE_PREFIX))}, "
        f"licences {size(stored(LICENSE_PREFIX))}",
    }
    if manifest.model:
        rows |= {"name": manifest.name, **_model_rows(manifest.model), **_sampling(manifest.sampling or {})}
        rows["weights"] = (
            f"beside the bundle: {manifest.external['name']}" if manifest.external else "inside, mapped in place"
        )
        rows["arguments"] = args or "none baked in"
    table(rows)


def _model_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        "model": f"{facts['name']} ({facts['architecture']}, {facts['layers']} layers)",
        "parameters": f"{parameters(facts['parameters'])} ({facts['parameters']:,})",
        "weights size": size(facts["file_size"]),
        "quantization": facts["quantization"],
        "context": f"{facts['context_length']:,} tokens",
        "chat template": "in the model" if facts["has_chat_template"] else "none in the model",
    }


def _sampling(sampling: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        mode.replace("_", "-"): ", ".join(f"{name} {value}" for name, value in values.items())
        for mode, values in sampling.items()
    }


def _write_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
