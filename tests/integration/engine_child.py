"""One engine in a process of its own, for test_engine.py: `engine_child.py SCENARIO JSON` prints what it saw as JSON.

The process is the unit here: one engine per process, and maps, memory and signals are the process's.
"""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.engine import Engine

SOCKET = "http.sock"  # in the test's own folder, where this runs
PATIENCE = 120.0  # seconds; a guard against hanging
ARGS = ["-c", "512", "--parallel", "1", "-t", "1", "--no-warmup", "--fit", "off", "--no-repack"]
Seen = dict[str, Any]


class Connection(http.client.HTTPConnection):
    """HTTP over the engine's Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Served:
    """An engine and its address."""

    def __init__(self, given: Seen) -> None:
        self.address = SOCKET
        self.engine = Engine(Path(given["folder"]))
        self.engine.verbose(given.get("verbose", False))
        self.engine.load_backends()
        self.engine.add_model("model.gguf", Path(given["file"]), given["offset"])
        self.args = given.get("args") or ["-m", "model.gguf", "--host", self.address, *ARGS, *given.get("more", [])]

    def start(self) -> bool:
        """Start and wait until it is ready or has ended; True when ready."""
        self.begin()
        end = time.monotonic() + PATIENCE
        while self.engine.running and time.monotonic() < end:
            try:
                if self.request("GET", "/health")[0] == 200:
                    return True
            except OSError:
                pass
            time.sleep(0.005)
        return False

    def begin(self) -> None:
        Path(self.address).unlink(missing_ok=True)  # the engine leaves its socket, and cannot bind where one is
        self.engine.start(self.args)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        return request(self.address, method, path, body, **headers)

    def tokens(self) -> list[int]:
        return tokens(self.address)


def request(address: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = Connection(address)
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def tokens(address: str, prompt: str = "1 2 3 4 5 6") -> list[int]:
    body = {"prompt": prompt, "n_predict": 16, "temperature": 0, "return_tokens": True, "ignore_eos": True}
    status, answer = request(address, "POST", "/completion", body)
    assert status == 200, answer
    found: list[int] = json.loads(answer)["tokens"]
    return found


def memory() -> dict[str, int]:
    """Resident kinds of memory in bytes."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[0].startswith("Rss")}


def serve(given: Seen) -> Seen:
    """Answer a prompt; show the memory map and what memory grew."""
    served = Served(given)
    before = memory()
    ready = served.start()
    assert ready, served.engine.last_error() or "not ready in time"
    loaded = memory()
    tokens = served.tokens()
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(given["file"])]
    page = served.request("GET", "/", **{"Accept-Encoding": "gzip"})
    devices = [device.kind for device in served.engine.devices()]
    code = served.engine.stop(PATIENCE)
    return {
        "ready": ready,
        "tokens": tokens,
        "maps": maps,
        "anonymous": loaded["RssAnon"] - before["RssAnon"],
        "page": page[0],
        "devices": devices,
        "version": served.engine.version,
        "code": code,
    }


def bare(given: Seen) -> Seen:
    """The same prompt answered by an unmodified llama-server."""
    Path(SOCKET).unlink(missing_ok=True)  # an earlier server's
    command = [given["server"], "-m", given["file"], "--host", SOCKET, *ARGS]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        end = time.monotonic() + PATIENCE
        while server.poll() is None and time.monotonic() < end:
            try:
                if request(SOCKET, "GET", "/health")[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.01)
        found = tokens(SOCKET)
        server.terminate()
    return {"tokens": found}


def fail(given: Seen) -> Seen:
    """Start something that cannot work."""
    if "limit" in given:
        resource.setrlimit(resource.RLIMIT_AS, (given["limit"], given["limit"]))
    served = Served(given)
    ready = served.start()
    seen = {"ready": ready, "code": served.engine.exit_code, "reason": served.engine.last_error()}
    return seen | {"lines": served.engine.error_lines(), "stopped": served.engine.stop(PATIENCE)}


def again(given: Seen) -> Seen:
    """Fail, then serve, then serve once more, all in this process; stop without a start first."""
    served = Served(given)
    stops = [served.engine.stop(1)]
    good, served.args = served.args, ["-m", "/nowhere.gguf", "--host", served.address]
    assert not served.start()
    failed = served.engine.last_error()
    served.args = good
    answers = []
    for _ in range(3):
        assert served.start(), served.engine.last_error()
        answers.append(served.tokens())
        stops += [served.engine.stop(PATIENCE), served.engine.stop(PATIENCE)]
    return {"failed": failed, "answers": answers, "stops": stops, "left": served.engine.last_error()}


def stop_early(given: Seen) -> Seen:
    """Stop at every moment of a start, from at once to ready."""
    served = Served(given)
    codes = []
    for wait in given["waits"]:
        served.begin()
        time.sleep(wait)
        codes.append(served.engine.stop(PATIENCE))
    return {"codes": codes, "running": served.engine.running}


def stop_streaming(given: Seen) -> Seen:
    """Leave in the middle of a long answer, then stop."""
    served = Served(given)
    assert served.start()
    connection = Connection(served.address)
    body = {"prompt": "1 2 3", "n_predict": -1, "stream": True, "ignore_eos": True}
    connection.request("POST", "/completion", json.dumps(body))
    first = connection.getresponse().readline()
    connection.close()
    return {"first": first.decode(), "code": served.engine.stop(PATIENCE)}


def interrupt(given: Seen) -> Seen:
    """SIGINT and SIGTERM reach the handlers that this process had before the start."""
    arrived: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: arrived.append(number))
    served = Served(given)
    assert served.start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    tokens = served.tokens()
    return {
        "arrived": arrived,
        "tokens": tokens,
        "code": served.engine.stop(PATIENCE),
        "threads": threading.active_count(),
    }


def check(given: Seen) -> Seen:
    """What the engine says about argument lists without starting."""
    engine = Engine(Path(given["folder"]))
    engine.load_backends()
    return {"reasons": [engine.check(args) for args in given["lists"]]}


SCENARIOS: dict[str, Callable[[Seen], Seen]] = {
    function.__name__: function for function in (serve, bare, fail, again, stop_early, stop_streaming, interrupt, check)
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(SCENARIOS[sys.argv[1]](json.loads(sys.argv[2]))) + "\n")
