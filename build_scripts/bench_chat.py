"""What the chat adds to the engine: rows of bench.py. A real pseudo-terminal with an emulator behind it is the person.

Both sides are one process: the chat, whose engine is asked through its own private socket as well. A grammar makes
random weights say what can be watched for: a sign that is a token by itself, and that no escape sequence holds.
"""

import json
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from os import environ
from pathlib import Path

from bench import ROOT, Bench, Row

sys.path.insert(0, str(ROOT))
from tests.integration.terminal import ENTER, Terminal

_GRAMMAR = 'root ::= "@" (" @" | " **@**")+'
_TOKENS = 96
_SIGN = "@"


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
    added: list[float] = []
    rates: list[float] = []
    plain_rates: list[float] = []
    for number in range(bench.runs + 1):
        question = f"Tell me about the number {number + 300}, please."
        chat.ask("/clear")
        _ask(engine, "Tell me", tokens=1)  # waits until the engine has nothing else to do, and has forgotten the rest
        plain = _ask(engine, question)
        _ask(engine, "Tell me", tokens=1)
        first = _enter(chat, question)
        shown = len(chat.raw)
        while b"limit of" not in chat.raw[shown:]:
            time.sleep(0.5)  # an emulator at work would take the engine's cores
            chat.look()
        chat.wait_for(r"limit of[^>]*>>>$")
        told = re.search(
            r"(?s)prompt +(\d+) tokens.*?([\d.]+) tokens/s.*?generation.*?([\d.]+) tokens/s", chat.ask("/stats")
        )
        assert told
        read = int(told[1]) / float(told[2])
        if number:
            # The engine's own time for one and the same prompt differs by more than the chat may add.
            added.append(1000 * ((first - read) - (plain.first - plain.read)))
            rates.append(float(told[3]))
            plain_rates.append(plain.rate)
    stops = [_stop(chat, "count forever", _SIGN) for _ in range(bench.runs)]
    # Each begins with another word: what was read of the last one is still known.
    long = (f"\x1b[200~{number} " + "word " * 3000 + "\x1b[201~" for number in range(bench.runs))
    reading = [_stop(chat, text, r"reading [\d,]+ of") for text in long]
    name = "chat: Enter to the first painted token, added"
    yield Row(name=name, unit="ms", ours=statistics.median(added), target=10)
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
    chat.wait_for_bytes(_SIGN.encode())
    return time.perf_counter() - start


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A turn without a chat. `first`: seconds to its first token; `read`: those of them in which, as the engine says,
    it read the prompt; `rate`: tokens per second."""

    first: float
    read: float
    rate: float


def _ask(engine: Path, question: str, tokens: int = _TOKENS) -> _Asked:
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
    timings = json.loads(re.findall(rb'"timings":\s*(\{[^}]*\})', said)[-1])
    return _Asked(first=first, read=timings["prompt_ms"] / 1000, rate=timings["predicted_per_second"])
