"""What the chat adds to the engine: rows of bench.py. A real pseudo-terminal with an emulator behind it is the person.

Both sides are one process: the chat with `--chat --server`, whose engine is asked through its port as well. A grammar
makes random weights say words.
"""

import json
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from os import environ
from pathlib import Path

from bench import ROOT, Bench, Row

sys.path.insert(0, str(ROOT))
from tests.integration.terminal import Terminal

_GRAMMAR = 'root ::= "word " ("word " | "**bold** ")+'
_TOKENS = 96


def chat_rows(bench: Bench, home: Path) -> Iterator[Row]:
    """From Enter to the first painted token, and tokens per second while painting, against the engine's own port."""
    command = [
        bench.bundle, "--chat", "--server", "--port", "0", "--nobrowser", "--nothink", "--temp", "0", "-c", "4096",
        "-n", str(_TOKENS), "--grammar", _GRAMMAR, "-t", str(bench.threads), "--no-history", "--ignore-eos",
        *bench.gpu, *bench.ours_only,
    ]  # fmt: skip
    chat = Terminal(command, {**environ, "HOME": str(home), "TERM": "xterm-256color"})
    url = re.search(r"(http://127\.0\.0\.1:\d+)", chat.wait_for(r"http://127\.0\.0\.1:\d+.*>>>"))
    assert url
    painted: list[float] = []
    plain: list[float] = []
    rates: list[float] = []
    plain_rates: list[float] = []
    for number in range(bench.runs + 1):
        chat.ask("/clear")
        _ask(url[1], "Tell me", tokens=1)  # waits until the engine has nothing else to do
        api_first, api_rate = _ask(url[1], f"Tell me about the number {number + 500}, please.")
        _ask(url[1], "Tell me", tokens=1)
        shown = len(chat.raw)
        start = time.perf_counter()
        chat.enter(f"Tell me about the number {number}, please.")
        while b"word" not in chat.raw[shown:] and b"bold" not in chat.raw[shown:]:
            chat.look(1.0)
        first = time.perf_counter() - start
        while b"limit of" not in chat.raw[shown:]:
            time.sleep(0.5)  # an emulator at work would take the engine's cores
            chat.look()
        chat.wait_for(r"limit of[^>]*>>>$")
        told = re.search(r"generation.*?([\d,.]+) tokens/s", chat.ask("/stats"))
        assert told
        if number:
            painted.append(first)
            plain.append(api_first)
            rates.append(float(told[1].replace(",", "")))
            plain_rates.append(api_rate)
    stops = [_stop(chat, "count forever", "word|bold") for _ in range(bench.runs)]
    long = "\x1b[200~" + "word " * 3000 + "\x1b[201~"
    reading = [_stop(chat, long, r"reading [\d,]+ of") for _ in range(bench.runs)]
    chat.kill()
    added = 1000 * (statistics.median(painted) - statistics.median(plain))
    yield Row(name="chat: Enter to the first painted token, added", unit="ms", ours=added, target=10)
    for what, seconds in (("an answer", stops), ("the reading of a prompt", reading)):
        yield Row(
            name=f"chat: Ctrl-C to the next prompt, in {what}",
            unit="ms",
            ours=1000 * statistics.median(seconds),
            target=200,
        )
    yield Row(
        name="chat: generation while painting, against its own port",
        unit="tokens/s",
        ours=statistics.median(rates),
        bare=statistics.median(plain_rates),
        target=0.98,
        higher=True,
    )


def _stop(chat: Terminal, text: str, until: str) -> float:
    """Seconds from Ctrl-C, pressed when `until` is on the screen, to the next prompt."""
    chat.ask("/clear")
    shown = len(chat.text)
    chat.enter(text)
    chat.wait_for(until, after=shown)
    start = time.perf_counter()
    chat.type("\x03")
    chat.wait_for(r"\[interrupted\].*>>>$", after=shown)
    return time.perf_counter() - start


def _ask(url: str, question: str, tokens: int = _TOKENS) -> tuple[float, float]:
    """Seconds to the first token of the same turn through the port, and its tokens per second."""
    body = {
        "messages": [{"role": "user", "content": question}], "stream": True, "temperature": 0, "grammar": _GRAMMAR,
        "max_tokens": tokens, "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    start, first, rate = time.perf_counter(), 0.0, 0.0
    with urllib.request.urlopen(request) as response:
        for line in response:
            if not first and b'"content":"' in line.replace(b" ", b""):
                first = time.perf_counter() - start
            if found := re.search(rb'"predicted_per_second":\s*([\d.]+)', line):
                rate = float(found[1])
    return first, rate
