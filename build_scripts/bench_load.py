"""Many clients at once: rows for bench.py, and by itself a soak test that no CI runs.

    .venv/bin/python build_scripts/bench_load.py BUNDLE [--soak MINUTES]

keeps a bundle's server busy for that long with clients that ask, stream, leave in the middle, send garbage or nothing,
and checks that every answer is right, that memory stays flat, and that the server ends with 0. Loopback only.
"""

import argparse
import contextlib
import http.client
import json
import random
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench import PYTHON, SAMPLING, Bench, Command, Row, Server, server_commands, wall

STREAMS = (1, 8, 32)
TOKENS = 48  # of each stream
REQUESTS = 10_000
_WARM_UP = 1_000  # requests after which memory is looked at for the first time


@dataclass(kw_only=True)
class Stream:
    """One streamed completion: when each of its pieces came."""

    connection: socket.socket
    times: list[float] = field(default_factory=list)
    rest: bytes = b""
    done: bool = False

    def read(self) -> None:
        got = self.connection.recv(65_536)
        now = time.perf_counter()
        pieces = (self.rest + got).split(b"\n\n")
        self.rest = pieces.pop()
        for piece in pieces:
            if b'"content":' in piece:
                self.times.append(now)
            self.done |= b'"stop":true' in piece
        self.done |= not got


def run_streams(server: Server, count: int, seed: int) -> tuple[float, float]:
    """Tokens per second of all streams together, and the 99th percentile of the time between two tokens, in ms."""
    address = urlsplit(server.url)
    dice = random.Random(seed)
    streams = []
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as open_now:
        start = time.perf_counter()
        for _ in range(count):
            body = json.dumps({
                "prompt": [dice.randrange(300, 1000) for _ in range(16)], "n_predict": TOKENS, "ignore_eos": True,
                "stream": True, "cache_prompt": False, **SAMPLING,
            })  # fmt: skip
            connection = open_now.enter_context(socket.create_connection((address.hostname, address.port)))
            head = f"POST /completion HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            streams.append(Stream(connection=connection))
            selector.register(connection, selectors.EVENT_READ, streams[-1])
        while selector.get_map():
            for key, _ in selector.select():
                key.data.read()
                if key.data.done:
                    selector.unregister(key.fileobj)
        seconds = time.perf_counter() - start
    if any(len(stream.times) < TOKENS / 2 for stream in streams):  # some tokens are parts of letters, and wait
        raise SystemExit(f"bench: a stream of {TOKENS} tokens ended early")
    gaps = sorted(
        later - earlier for stream in streams for earlier, later in zip(stream.times, stream.times[1:], strict=False)
    )
    return count * TOKENS / seconds, gaps[int(0.99 * (len(gaps) - 1))] * 1000


def stream_rows(bench: Bench) -> Iterator[Row]:
    """1, 8 and 32 streams at a time, both servers up and asked in turn."""
    for count in STREAMS:
        flags = ("-c", str(256 * count), "--parallel", str(count))
        servers = [Server([*command, *flags]) for command in server_commands(bench)]
        figures: list[list[tuple[float, float]]] = [[], []]
        try:
            for round_number in range(bench.runs + 1):
                for server, taken in zip(servers, figures, strict=True):
                    figure = run_streams(server, count, round_number)
                    if round_number:
                        taken.append(figure)
        finally:
            for server in servers:
                server.stop()
        (ours_rate, ours_gap), (bare_rate, bare_gap) = (
            (_median(rate for rate, _ in taken), _median(gap for _, gap in taken)) for taken in figures
        )
        name = f"{count} stream{'s' * (count > 1)}"
        yield Row(name=f"{name}, together", unit="tokens/s", ours=ours_rate, bare=bare_rate, target=0.98, higher=True)
        yield Row(name=f"{name}, p99 between tokens", unit="ms", ours=ours_gap, bare=bare_gap, target=1.05)


def _median(numbers: Iterator[float]) -> float:
    import statistics

    return statistics.median(numbers)


def endurance_rows(folder: Path) -> Iterator[Row]:
    """Memory over 10,000 requests, and how soon a slot is free whose client has left; on the demo model."""
    bundle = folder / "demo.run"
    wall([PYTHON, "-m", "bundler", "build", "--demo", "-o", bundle, "--no-verify"])
    server = Server([bundle, "--server", "--nobrowser", "-t", "1"])
    try:
        yield Row(name="slot free after its client has left", unit="s", ours=_leave(server), target=1.0)
        ask_many(server, 0, _WARM_UP)
        before = server.resident()
        ask_many(server, _WARM_UP, REQUESTS)
        after = server.resident()
    finally:
        server.stop()
    name = f"resident after {REQUESTS:,} requests over after {_WARM_UP:,}"
    yield Row(name=name, unit="MB", ours=after, bare=before, target=1.05)


def ask_many(server: Server, first: int, last: int) -> None:
    """Requests of which no two are alike, over connections that are kept."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    for number in range(first, last):
        body = {"messages": [{"role": "user", "content": f"What is {number} + 1? /no_think"}], "max_tokens": 4}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        with connection.getresponse() as answer:
            if answer.status != http.client.OK:
                raise SystemExit(f"bench: request {number} was answered with {answer.status}")
            answer.read()
    connection.close()


def _busy(server: Server) -> bool:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    connection.request("GET", "/slots")
    with connection.getresponse() as answer:
        slots = json.load(answer)
    connection.close()
    return any(slot["is_processing"] for slot in slots)


def _leave(server: Server) -> float:
    """The longest of a few times, streamed or not, from closing the connection to an idle engine. Seconds."""
    taken = []
    for streams in (True, False) * 5:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        body = {"prompt": "Count to fifty.", "n_predict": -1, "ignore_eos": True, "stream": streams}
        connection.request("POST", "/completion", json.dumps(body))
        while not _busy(server):
            time.sleep(0.005)
        connection.close()
        left = time.perf_counter()
        while _busy(server):
            time.sleep(0.005)
        taken.append(time.perf_counter() - left)
    return max(taken)


CAPITALS = {"France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Spain": "Madrid"}


@dataclass(kw_only=True)
class Soak:
    """What the clients of a soak test do until `end`, and what went wrong."""

    server: Server
    end: float
    asked: int = 0
    wrong: list[str] = field(default_factory=list)

    def client(self, number: int) -> None:
        dice = random.Random(number)
        work = (self.ask, self.ask, self.ask, self.leave, self.garbage, self.idle)
        while time.monotonic() < self.end:
            try:
                dice.choice(work)(dice)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
            self.asked += 1

    def _send(self, country: str, **more: object) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=120)
        question = f"What is the capital of {country}? /no_think"
        body = {"messages": [{"role": "user", "content": question}], "temperature": 0, **more}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        return connection

    def ask(self, dice: random.Random) -> None:
        country = dice.choice(list(CAPITALS))
        connection = self._send(country)
        with connection.getresponse() as answer:
            text = json.load(answer)["choices"][0]["message"]["content"]
        connection.close()
        if CAPITALS[country] not in text:
            self.wrong.append(f"{country}: {text}")

    def leave(self, dice: random.Random) -> None:
        connection = self._send("France", stream=dice.random() < 0.5, ignore_eos=True, max_tokens=100_000)
        time.sleep(dice.random())
        connection.close()

    def _socket(self) -> socket.socket:
        address = urlsplit(self.server.url)
        return socket.create_connection((address.hostname, address.port), timeout=120)

    def garbage(self, dice: random.Random) -> None:
        with self._socket() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(dice.randbytes(dice.randrange(1, 5000)))

    def idle(self, dice: random.Random) -> None:
        with self._socket() as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"[: dice.randrange(60)])
            time.sleep(dice.random())


def soak(command: Command, minutes: float, clients: int = 16) -> int:
    """0 when everything was right. Memory is looked at after a fifth of the time and at the end."""
    server = Server(command)
    work = Soak(server=server, end=time.monotonic() + 60 * minutes)
    threads = [threading.Thread(target=work.client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(60 * minutes / 5)
    before = server.resident()
    for thread in threads:
        thread.join()
    after = server.resident()
    while _busy(server):
        time.sleep(0.1)
    server.stop()
    print(f"{work.asked:,} visits in {minutes:g} min, {len(work.wrong)} wrong, resident {before:.0f}, {after:.0f} MB, "
          f"exit code {server.process.returncode}")  # fmt: skip
    for line in work.wrong[:10]:
        print(f"  {line}")
    return int(bool(work.wrong) or after > 1.1 * before or server.process.returncode != 0)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a bundle of the demo model, whose answers are known")
    parser.add_argument("--soak", type=float, default=10, metavar="MINUTES", help="for how long")
    parser.add_argument("--rows", action="store_true", help="the rows on the demo model instead")
    asked = parser.parse_args(argv)
    if asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            for row in endurance_rows(Path(folder)):
                print(row)
        return 0
    return soak([asked.bundle.absolute(), "--server", "--nobrowser", "-t", "1"], asked.soak)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
