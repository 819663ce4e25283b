"""Many short rows with --jsonl: a figure for bench.py."""

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import SAMPLING, Bench, Row, Server, take_turns, wall

ROWS, SLOTS = 200, 8


def row_batches() -> Iterator[list[dict[str, object]]]:
    """Rows without end, `ROWS` at a time, each another one: a server that has answered one before remembers it."""
    for first in itertools.count(0, ROWS):
        yield [
            {"messages": [{"role": "user", "content": f"Tell me about the number {first + number}."}], "max_tokens": 8,
             "ignore_eos": True, **SAMPLING}
            for number in range(ROWS)
        ]  # fmt: skip


def rows_row(bench: Bench, work: Path) -> Row:
    """Many short rows, each side from its process's start to its end: ours reads them from a file, the bare server is
    asked by as many clients as it has slots."""
    file = work / "rows.jsonl"
    slots = ("--parallel", str(SLOTS), "-t", str(bench.threads), *bench.gpu)
    each = 512  # tokens of context for every slot
    our_rows, bare_rows = row_batches(), row_batches()

    def ours() -> float:
        file.write_text("".join(json.dumps(row) + "\n" for row in next(our_rows)))
        command = [bench.bundle, "--cli", "--jsonl", file, *slots, *bench.ours_only, "-c", str(each)]
        return ROWS / wall(command)

    server_command = [bench.bare / "llama-server", "-m", bench.model, "--no-warmup", *bench.fit, *slots]
    plain = {"chat_template_kwargs": {"enable_thinking": False}}

    def bare() -> float:
        rows = next(bare_rows)
        start = time.perf_counter()
        server = Server([*server_command, "-c", str(SLOTS * each)])
        with ThreadPoolExecutor(SLOTS) as pool:
            list(pool.map(lambda row: server.post("/v1/chat/completions", {**row, **plain}), rows))
        server.stop()
        return ROWS / (time.perf_counter() - start)

    ours_rate, bare_rate = take_turns(max(1, bench.runs // 2), ours, bare)
    name = f"--jsonl, {ROWS} short rows, --parallel {SLOTS}"
    return Row(name=name, unit="rows/s", ours=ours_rate, bare=bare_rate, target=0.97, higher=True)
