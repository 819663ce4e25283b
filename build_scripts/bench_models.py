"""Build, check and run a bundle of every size of Qwen3, against bare llama.cpp on the same file. Not in CI: tens of GB.

`.venv/bin/python build_scripts/bench_models.py [NAME ...] [--folder DIR] [--runs N]`. Random weights of each model's
exact shape are made in DIR, bundled (timed against `cp`), verified, asked through `--cli`, and removed again; then the
next. Every figure but the build is a median of N starts; the two sides take turns.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import Command, Server, ensure_bare, wall
from environment import ROOT
from stages import build_cache


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model to try. `flags`: for both sides, at every start."""

    name: str
    make: tuple[str, ...]
    flags: tuple[str, ...] = ()


CASES = (
    Case(name="0.6B-Q8_0", make=("0.6B", "--quant", "Q8_0")),
    Case(name="1.7B-Q4_0", make=("1.7B", "--quant", "Q4_0")),
    Case(name="8B-Q4_0", make=("8B", "--quant", "Q4_0")),
    Case(
        name="235B-A22B-Q4_0-4-layers-3-shards", make=("235B-A22B", "--quant", "Q4_0", "--layers", "4", "--shards", "3")
    ),
    # the weights stay mapped: rearranged, they would take 17 GB that cannot be given back
    Case(name="30B-A3B-Q4_0", make=("30B-A3B", "--quant", "Q4_0"), flags=("--no-repack",)),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds to the first token, tokens per second, resident MB and those of them that belong to no file."""

    first: float
    rate: float
    resident: float
    own: float


def make(case: Case, folder: Path) -> list[Path]:
    """The model's files."""
    script = ROOT / "build_scripts/make_shape_model.py"
    subprocess.run(
        [sys.executable, script, *case.make, "-o", folder / f"{case.name}.gguf"], check=True, stdout=sys.stderr
    )
    return sorted(folder.glob(f"{case.name}*.gguf"))


def copy_seconds(files: Sequence[Path], folder: Path) -> float:
    """`cp` of the same bytes, onto the same disk."""
    target = folder / "copy"
    target.mkdir()
    try:
        return wall(["cp", *files, target])
    finally:
        shutil.rmtree(target)


def resident(pid: int) -> tuple[float, float]:
    """VmRSS and RssAnon in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    total, own = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "RssAnon"))
    return tuple(int(found[1]) * 1024 / 1e6 if found else 0.0 for found in (total, own))  # type: ignore[return-value]


def measure(one_token: Command, server: Command, threads: int) -> Measured:
    """One start for a token, and one of a server that generates 32 tokens twice, the second time measured."""
    first = wall(one_token)
    running = Server([*server, "-c", "8192", "--parallel", "1", "--no-warmup", "-t", str(threads)])
    try:
        body = {"prompt": "Hello", "n_predict": 32, "ignore_eos": True, "temperature": 0, "cache_prompt": False}
        running.post("/completion", body)  # reads the weights from the disk, if they are not in memory yet
        rate = running.post("/completion", body)["timings"]["predicted_per_second"]
        total, own = resident(running.process.pid)
    finally:
        running.stop()
    return Measured(first=first, rate=rate, resident=total, own=own)


def rounds(runs: int, *sides: Callable[[], Measured]) -> list[Measured]:
    """The median of each figure of each side, after taking turns."""
    taken = [[side() for side in sides] for _ in range(runs)]
    return [
        Measured(**{
            figure: statistics.median(getattr(row[index], figure) for row in taken)
            for figure in ("first", "rate", "resident", "own")
        })
        for index in range(len(sides))
    ]  # fmt: skip


def try_case(case: Case, folder: Path, bare: Path, runs: int, threads: int) -> str:
    """Everything with one model; returns its row of the table."""
    files = make(case, folder)
    size = sum(file.stat().st_size for file in files)
    bundle = folder / f"{case.name}.run"
    copied = copy_seconds(files, folder)
    start = time.perf_counter()
    qwenfile = [sys.executable, "-m", "bundler"]
    subprocess.run([*qwenfile, "build", files[-1], "-o", bundle, "--no-verify"], check=True, stdout=sys.stderr)
    built = time.perf_counter() - start
    added = bundle.stat().st_size - size
    # bytes alone: the token comes next, with the case's flags
    one = ("-p", "hi", "-n", "1", "-c", "8192", "-t", str(threads), *case.flags)
    text = subprocess.run([bundle, "--cli", "--raw", *one], check=True, capture_output=True, text=True).stdout
    subprocess.run([*qwenfile, "verify", bundle], check=True, stdout=sys.stderr)
    ours, theirs = rounds(
        runs,
        lambda: measure(
            [bundle, "--cli", "--raw", *one], [bundle, "--server", "--nobrowser", *case.flags], threads
        ),
        lambda: measure(
            [bare / "llama-completion", "-m", files[0], *one, "-no-cnv", "--no-warmup", "--fit", "off"],
            [bare / "llama-server", "-m", files[0], "--fit", "off", *case.flags],
            threads,
        ),
    )  # fmt: skip
    for file in (*files, bundle):
        file.unlink()
    print(f"{case.name}: first token {text.strip()!r}", file=sys.stderr)
    return (
        f"| {case.name} | {size / 1e6:,.0f} | {added / 1e6:.1f} | {built:.1f} / {copied:.1f} "
        f"| {ours.first:.2f} / {theirs.first:.2f} | {ours.rate:.2f} / {theirs.rate:.2f} "
        f"| {ours.resident:,.0f} / {theirs.resident:,.0f} | {ours.own:,.0f} / {theirs.own:,.0f} |"
    )


HEAD = """\
| model | MB | MB added | build / cp, s | first token, s | tokens/s | resident, MB | of it no file's, MB |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def main(argv: Sequence[str]) -> int:
    """Parse, try each case, print the table; figures are "bundle / bare llama.cpp"."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--folder", type=Path, help="room for twice the largest model; default: in the build cache")
    parser.add_argument("--bare", type=Path, help="folder with bare llama.cpp; default: built from the engine's source")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1), help="threads of both sides")
    asked = parser.parse_args(argv)
    cases = [case for case in CASES if not asked.names or case.name in asked.names]
    if unknown := set(asked.names) - {case.name for case in CASES}:
        parser.error(f"no such case: {', '.join(unknown)}")
    folder = asked.folder or build_cache() / "bench" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    bare = asked.bare or ensure_bare()
    print(HEAD, flush=True)
    for case in cases:
        print(try_case(case, folder, bare, asked.runs, asked.threads), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
