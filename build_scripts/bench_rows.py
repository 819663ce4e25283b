"""Many short rows with --jsonl: a figure for bench.py."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import SAMPLING, Bench, Row, Server, take_turns, wall

ROWS, SLOTS = 200, 8


def rows_row(bench: Bench, work: Path) -> Row:
    """Many short rows, each side from its process's start to its end: ours reads them from a file, the bare server is
    asked by as many clients as it has slots."""
    file = work / "rows.jsonl"
    slots = ("--parallel", str(SLOTS), "-t", str(bench.threads), *bench.gpu)
    each = 512  # tokens of context for every slot
    rows: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": f"Tell me about the number {number}."}], "max_tokens": 8,
         "ignore_eos": True, **SAMPLING}
        for number in range(ROWS)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def ours() -> float:
        command = [bench.bundle, "--cli", "--jsonl", file, *slots, *bench.ours_only, "-c", str(each)]
        return ROWS / wall(command)

    server_command = [bench.bare / "llama-server", "-m", bench.model, "--no-warmup", *bench.fit, *slots]
    plain = {"chat_template_kwargs": {"enable_thinking": False}}

    def bare() -> float:
        start = time.perf_counter()
        server = Server([*server_command, "-c", str(SLOTS * each)])
        with ThreadPoolExecutor(SLOTS) as pool:
            list(pool.map(lambda row: server.post("/v1/chat/completions", {**row, **plain}), rows))
        server.stop()
        return ROWS / (time.perf_counter() - start)

    ours_rate, bare_rate = take_turns(max(1, bench.runs // 2), ours, bare)
    name = f"--jsonl, {ROWS} short rows, --parallel {SLOTS}"
    return Row(name=name, unit="rows/s", ours=ours_rate, bare=bare_rate, target=0.97, higher=True)
