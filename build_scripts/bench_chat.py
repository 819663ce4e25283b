"""What the chat adds to the engine: rows of bench.py. A real pseudo-terminal with an emulator behind it is the person.

Both sides are one process: the chat, whose engine is asked through its own private socket as well. A grammar makes
random weights say words; one that is a single letter of two bytes comes whole on both sides, never as half a word.
"""

import json
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from os import environ
from pathlib import Path

from bench import ROOT, Bench, Row

sys.path.insert(0, str(ROOT))
from tests.integration.terminal import ENTER, Terminal

_GRAMMAR = 'root ::= "é" (" é" | " **ü**")+'
_TOKENS = 96
_WORD = "é|ü"


def chat_rows(bench: Bench, home: Path) -> Iterator[Row]:
    """From Enter to the first painted token, and tokens per second while painting, against the engine itself."""
    command = [
        bench.bundle, "--chat", "--nothink", "--temp", "0", "-c", "4096", "-n", str(_TOKENS), "--grammar", _GRAMMAR,
        "-t", str(bench.threads), "--no-history", "--ignore-eos",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="qf-") as sockets:
        env = {**environ, "HOME": str(home), "TERM": "xterm-256color", "XDG_RUNTIME_DIR": sockets}
        chat = Terminal(command, env)
        chat.wait_for(r"\n>>>$")
        engine = next(Path(sockets).rglob("*.sock"))
        yield from _rows(bench, chat, engine)
        chat.kill()


def _rows(bench: Bench, chat: Terminal, engine: Path) -> Iterator[Row]:
    painted: list[float] = []
    plain: list[float] = []
    rates: list[float] = []
    plain_rates: list[float] = []
    for number in range(bench.runs + 1):
        chat.ask("/clear")
        _ask(engine, "Tell me", tokens=1)  # waits until the engine has nothing else to do
        plain_first, plain_rate = _ask(engine, f"Tell me about the number {number + 600}, please.")
        _ask(engine, "Tell me", tokens=1)
        first = _enter(chat, f"Tell me about the number {number + 300}, please.")
        shown = len(chat.raw)
        while b"limit of" not in chat.raw[shown:]:
            time.sleep(0.5)  # an emulator at work would take the engine's cores
            chat.look()
        chat.wait_for(r"limit of[^>]*>>>$")
        told = re.search(r"generation.*?([\d,.]+) tokens/s", chat.ask("/stats"))
        assert told
        if number:
            painted.append(first)
            plain.append(plain_first)
            rates.append(float(told[1].replace(",", "")))
            plain_rates.append(plain_rate)
    stops = [_stop(chat, "count forever", _WORD) for _ in range(bench.runs)]
    long = "\x1b[200~" + "word " * 3000 + "\x1b[201~"
    reading = [_stop(chat, long, r"reading [\d,]+ of") for _ in range(bench.runs)]
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
        name="chat: generation while painting, against the engine alone",
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
    chat.wait_for_bytes(rb"(?s)\[interrupted\].*>>>")
    took = time.perf_counter() - start
    chat.wait_for(r"\[interrupted\].*>>>$", after=shown)
    return took


def _enter(chat: Terminal, text: str) -> float:
    """Seconds from Enter, pressed on a line that stands there, to the first token that comes to the terminal."""
    chat.type(text)
    chat.wait_for(re.escape(text) + "$")
    time.sleep(0.5)
    chat.look()
    start = time.perf_counter()
    chat.type(ENTER)
    chat.wait_for_bytes(_WORD.encode())
    return time.perf_counter() - start


def _ask(engine: Path, question: str, tokens: int = _TOKENS) -> tuple[float, float]:
    """Seconds to the first token of the same turn without a chat, and its tokens per second."""
    body = json.dumps({
        "messages": [{"role": "user", "content": question}], "stream": True, "temperature": 0, "grammar": _GRAMMAR,
        "max_tokens": tokens, "chat_template_kwargs": {"enable_thinking": False},
    }).encode()  # fmt: skip
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    said, first = b"", 0.0
    with socket.socket(socket.AF_UNIX) as connection:
        start = time.perf_counter()
        connection.connect(str(engine))
        connection.sendall(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + body)
        while piece := connection.recv(65_536):
            said += piece
            if not first and b'"content":"' in said:
                first = time.perf_counter() - start
    rate = re.search(rb'"predicted_per_second":\s*([\d.]+)', said)
    assert rate, said
    return first, float(rate[1])
