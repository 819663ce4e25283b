"""Measure a bundle against bare llama.cpp built from the same source, in the same run, on the same weights.

`.venv/bin/python build_scripts/bench.py [--runs N] [--json] [--model GGUF] [--only GROUPS]`. Without --model it makes
random weights of Qwen3-0.6B's exact shape (Q8_0, real vocabulary) and keeps them in the build cache. Every figure is a
median of N runs; the two sides take turns, so that a slow minute of the machine hits both. Ratios are ours over bare.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from environment import PYTHON, ROOT
from stages import build_cache

Command = Sequence[str | Path]
# The same on both sides: Qwen3's thinking preset without its penalty, which would be measured as the engine's slowness.
SAMPLING = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.0, "presence_penalty": 0.0, "seed": 1}
PROMPT_TOKENS = 512
GENERATED_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. `target` bounds `ratio` (or `ours`, if there is nothing bare); `higher` says which side is good."""

    name: str
    unit: str
    ours: float
    bare: float | None = None
    target: float | None = None
    higher: bool = False

    @property
    def judged(self) -> float:
        return self.ours / self.bare if self.bare else self.ours

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.judged >= self.target if self.higher else self.judged <= self.target


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured: the weights, the bundle of them, the bare programs, and how often."""

    model: Path
    bundle: Path
    bare: Path
    runs: int
    threads: int
    gpu: tuple[str, ...] = ()  # -ngl and --device, for both sides

    @property
    def ours_only(self) -> tuple[str, ...]:
        """Where bare llama.cpp has no GPU backend, the bundle must not use one by itself."""
        return () if self.gpu else ("--gpu", "off")

    @property
    def fit(self) -> tuple[str, ...]:
        """The bundle leaves this pass out on a processor."""
        return () if self.gpu else ("--fit", "off")


def wall(command: Command) -> float:
    """Seconds of one whole run."""
    start = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"bench: {command[0]} exited with {done.returncode}: {done.stderr.decode()[-400:]}")
    return seconds


def take_turns(runs: int, *works: Callable[[], float]) -> list[float]:
    """Medians of `runs` rounds over all works, after one round that is not counted."""
    taken: list[list[float]] = [[] for _ in works]
    for round_number in range(runs + 1):
        for work, figures in zip(works, taken, strict=True):
            figure = work()
            if round_number:
                figures.append(figure)
    return [statistics.median(figures) for figures in taken]


def start_rows(bench: Bench) -> Iterator[Row]:
    """From the process's start to the end of one generated token."""
    threads = ("-t", str(bench.threads))
    one = ("-p", "hi", "-n", "1", *threads, *bench.gpu)

    def ours(context: int, *flags: str) -> float:
        return wall([bench.bundle, "--cli", *flags, *one, *bench.ours_only, "-c", str(context)])

    def bare(*flags: str) -> float:
        return wall([bench.bare / "llama-completion", "-m", bench.model, *one, "-no-cnv", *flags])

    tuned = ("--no-warmup", *bench.fit)
    at_8k, chat_8k, bare_8k, default = take_turns(
        bench.runs,
        lambda: ours(8192, "--raw"),
        lambda: ours(8192),
        lambda: bare(*tuned, "-c", "8192"),
        lambda: bare(),
    )
    yield Row(name="start to first token, -c 8192, bare tuned", unit="s", ours=at_8k, bare=bare_8k, target=0.8)
    yield Row(name="--cli -p hi -n 1, -c 8192, bare tuned", unit="s", ours=chat_8k, bare=bare_8k, target=0.8)
    yield Row(name="start to first token, -c 8192, bare default", unit="s", ours=at_8k, bare=default, target=0.3)
    at_32k, bare_32k = take_turns(bench.runs, lambda: ours(32768, "--raw"), lambda: bare(*tuned, "-c", "32768"))
    yield Row(name="start to first token, -c 32768, bare tuned", unit="s", ours=at_32k, bare=bare_32k, target=0.5)
    (version,) = take_turns(3 * bench.runs, lambda: wall([bench.bundle, "--version"]))
    yield Row(name="--version", unit="s", ours=version, target=0.15)


class Server:
    """A llama.cpp server, ours or bare, on a port of its own."""

    def __init__(self, command: Command) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.process = subprocess.Popen(
            [*command, "--port", self.url.rsplit(":", 1)[1]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"bench: {command[0]} exited with {self.process.returncode}")
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(self.url + "/health").close()
                return
            time.sleep(0.05)

    def post(self, path: str, body: dict[str, object]) -> dict[str, dict[str, float]]:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def resident(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 / 1e6 if found else 0.0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)


def server_commands(bench: Bench) -> tuple[Command, Command]:
    common = ("-c", "8192", "--parallel", "1", "--no-warmup", "-t", str(bench.threads), *bench.gpu)
    ours = [bench.bundle, "--server", "--nobrowser", *common, *bench.ours_only]
    bare = [bench.bare / "llama-server", "-m", bench.model, *bench.fit, *common]
    return ours, bare


def memory_row(bench: Bench) -> Row:
    """Resident memory after one short turn at -c 8192."""

    def measure(command: Command) -> float:
        server = Server(command)
        turn = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}
        server.post("/v1/chat/completions", turn)
        resident = server.resident()
        server.stop()
        return resident

    ours, bare = server_commands(bench)
    ours_mb, bare_mb = take_turns(max(1, bench.runs // 2), lambda: measure(ours), lambda: measure(bare))
    return Row(name="resident after a short turn, -c 8192", unit="MB", ours=ours_mb, bare=bare_mb, target=0.6)


def speed_rows(bench: Bench) -> Iterator[Row]:
    """Tokens per second as the servers themselves time them, with both running and asked in turn."""
    servers = [Server(command) for command in server_commands(bench)]
    rates: list[tuple[list[float], list[float]]] = [([], []), ([], [])]
    body = {
        "prompt": [1000 + index % 50000 for index in range(PROMPT_TOKENS)],
        "n_predict": GENERATED_TOKENS,
        "ignore_eos": True,
        "cache_prompt": False,
        **SAMPLING,
    }
    try:
        for round_number in range(bench.runs + 1):
            for server, (prompt, generated) in zip(servers, rates, strict=True):
                timings = server.post("/completion", body)["timings"]
                if round_number:
                    prompt.append(timings["prompt_per_second"])
                    generated.append(timings["predicted_per_second"])
    finally:
        for server in servers:
            server.stop()
    for index, name in ((0, f"prompt, {PROMPT_TOKENS} tokens"), (1, f"generation, {GENERATED_TOKENS} tokens")):
        ours, bare = (statistics.median(rate[index]) for rate in rates)
        yield Row(name=name, unit="tokens/s", ours=ours, bare=bare, target=0.98, higher=True)


def build_rows(bench: Bench, work: Path) -> Iterator[Row]:
    """Bytes added to the weights, and the time to build against `cp` plus one SHA-256 pass."""
    yield Row(
        name="bytes added to the weights",
        unit="MB",
        ours=(bench.bundle.stat().st_size - bench.model.stat().st_size) / 1e6,
        target=45,
    )
    target = work / "copy"

    def build(*flags: str) -> float:
        seconds = wall([*build_command(bench.model, target), *flags])
        target.unlink()
        return seconds

    def copy() -> float:
        seconds = wall(["cp", bench.model, target])
        start = time.perf_counter()
        with bench.model.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        target.unlink()
        return seconds + time.perf_counter() - start

    ours, verified, bare = take_turns(bench.runs, lambda: build("--no-verify"), build, copy)
    name = f"build of {bench.model.stat().st_size / 1e6:.0f} MB against cp + SHA-256"
    yield Row(name=name, unit="s", ours=ours, bare=bare, target=1.5)
    yield Row(name=f"{name}, with trying it out", unit="s", ours=verified, bare=bare)


def build_command(model: Path, out: Path) -> Command:
    return [PYTHON, "-m", "bundler", "build", model, "-o", out, "--name", "bench"]


def read_anew(*files: Path) -> None:
    """Let go of the files' cached pages and read them again, one as the other.

    Pages that a program has just written are cached one by one, those read from a disk in large pieces, which
    processors translate faster: without this the newer file would be slower, whatever program maps it.
    """
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while opened.read(1 << 24):
                pass


def ensure_model() -> Path:
    """Random weights of Qwen3-0.6B's shape, kept in the build cache."""
    model = build_cache() / "bench" / "qwen3-0.6b-q8_0.gguf"
    if not model.exists():
        model.parent.mkdir(exist_ok=True)
        part = model.with_suffix(".part")
        script = ROOT / "build_scripts/make_shape_model.py"
        subprocess.run([PYTHON, script, "0.6B", "--quant", "Q8_0", "-o", part], check=True, stdout=sys.stderr)
        part.rename(model)
    return model


def ensure_bare() -> Path:
    """Unmodified llama.cpp programs from the same source."""
    done = subprocess.run(
        [PYTHON, ROOT / "build_scripts/build_native.py", "--bare"], check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(done.stdout.strip().splitlines()[-1]) / "bare"


def gpu_flags(layers: str | None, device: str | None, bare: Path) -> tuple[str, ...]:
    """The flags of both sides; bare llama.cpp then finds the engine's own GPU backend by a variable."""
    flags = [word for flag, value in (("-ngl", layers), ("--device", device)) if value for word in (flag, value)]
    if flags:
        libraries = [path for name in ("cuda", "vulkan") for path in bare.parent.glob(f"lib/*ggml-{name}.*")]
        if not libraries:
            raise SystemExit("bench: this engine has no GPU backend")
        os.environ["GGML_BACKEND_PATH"] = str(libraries[0])
    return tuple(flags)


def show(rows: Iterable[Row]) -> None:
    """The table, as Markdown, each row as soon as it is measured."""
    print("| figure | unit | bundle | bare llama.cpp | ratio | target | met |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |", flush=True)
    for row in rows:
        bare = f"{row.bare:.3g}" if row.bare else "-"
        ratio = f"{row.judged:.2f}" if row.bare else "-"
        sign = "≥" if row.higher else "≤"
        target = f"{sign} {row.target:g}" if row.target is not None else "-"
        met = {None: "-", True: "yes", False: "NO"}[row.met]
        print(f"| {row.name} | {row.unit} | {row.ours:.3g} | {bare} | {ratio} | {target} | {met} |", flush=True)


def groups(bench: Bench, work: Path) -> dict[str, Callable[[], Iterable[Row]]]:
    """What can be measured, by the names that --only takes."""
    from bench_chat import chat_rows
    from bench_load import endurance_rows, stream_rows
    from bench_rows import rows_row

    return {
        "start": lambda: start_rows(bench),
        "memory": lambda: [memory_row(bench)],
        "speed": lambda: speed_rows(bench),
        "build": lambda: build_rows(bench, work),
        "rows": lambda: [rows_row(bench, work)],
        "streams": lambda: stream_rows(bench),
        "endurance": lambda: endurance_rows(work),
        "chat": lambda: chat_rows(bench, work),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each figure")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--model", type=Path, help="weights to use; default: random ones of Qwen3-0.6B's shape")
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1), help="threads of both sides")
    parser.add_argument("-ngl", metavar="N", help="layers on a GPU, on both sides; all for as many as there are")
    parser.add_argument("--device", metavar="NAMES", help="the devices to compute on, on both sides")
    parser.add_argument("--only", help="names of groups, with commas; default: all (see `groups` in this file)")
    asked = parser.parse_args(argv)
    if shutil.which("cp") is None:
        raise SystemExit("bench: needs a Unix with cp")
    model = asked.model or ensure_model()
    bare = ensure_bare()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=model.parent) as folder:
        bundle = Path(folder) / "bench.run"
        wall(build_command(model, bundle))
        read_anew(bundle, model)
        measured = groups(
            Bench(
                model=model,
                bundle=bundle,
                bare=bare,
                runs=asked.runs,
                threads=asked.threads,
                gpu=gpu_flags(asked.ngl, asked.device, bare),
            ),
            Path(folder),
        )
        wanted = asked.only.split(",") if asked.only else list(measured)
        if unknown := set(wanted) - set(measured):
            raise SystemExit(f"bench: no group {', '.join(sorted(unknown))}; known: {', '.join(measured)}")
        rows = itertools.chain.from_iterable(measured[name]() for name in wanted)
        if asked.json:
            print(json.dumps([{**asdict(row), "ratio": row.judged, "met": row.met} for row in rows], indent=2))
        else:
            show(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
