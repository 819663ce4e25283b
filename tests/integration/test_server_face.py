"""`--server` on a real bundle: where it listens, what it says, how it ends."""

import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import TIMEOUT, Runner


class Server:
    """A running server and what it has said on stderr."""

    def __init__(self, bundle: Path, run: Runner, *arguments: str) -> None:
        self.child = subprocess.Popen(
            [bundle, "--server", "-t", "1", "--nobrowser", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(run.env),
            text=True,
            encoding="utf-8",
        )
        self.said = ""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.said += line
            if "Ctrl-C" in line or "socket" in line:
                break

    @property
    def url(self) -> str:
        found = re.search(r"page +(http\S+)", self.said)
        assert found is not None, self.said
        return found[1]

    def post(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; returns the exit code and what came on stdout."""
        self.child.send_signal(number)
        out, err = self.child.communicate(timeout=TIMEOUT)
        self.said += err
        return self.child.returncode, out


@pytest.fixture
def server(run: Runner, demo_bundle: Path) -> Iterator[Server]:
    it = Server(demo_bundle, run, "--port", "0")
    yield it
    it.child.kill()
    it.child.communicate()


def hello(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, **more}


def test_page_and_api_answer_on_the_port_it_names(server: Server) -> None:
    request = urllib.request.Request(server.url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as page:
        assert page.headers["Content-Type"].startswith("text/html")
    told = server.post("/v1/chat/completions", hello())
    assert "Paris" in told["choices"][0]["message"]["content"]
    assert told["choices"][0]["message"]["reasoning_content"].strip()
    direct = server.post("/v1/chat/completions", hello(chat_template_kwargs={"enable_thinking": False}))
    assert "reasoning_content" not in direct["choices"][0]["message"]
    assert direct["choices"][0]["message"]["content"] == "The capital of France is Paris."


def test_answers_stream(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)
    body = json.dumps(hello(stream=True))
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    lines = [line for line in connection.getresponse().read().decode().splitlines() if line.startswith("data: ")]
    connection.close()
    assert len(lines) > 5
    assert lines[-1] == "data: [DONE]"


def test_requests_without_sampling_get_the_preset(server: Server) -> None:
    with urllib.request.urlopen(server.url + "/props", timeout=TIMEOUT) as answer:
        settings = json.load(answer)["default_generation_settings"]["params"]
    assert settings["temperature"] == pytest.approx(0.6)
    assert (settings["top_k"], settings["min_p"]) == (20, 0.0)


def test_a_page_from_elsewhere_is_not_allowed_in(server: Server) -> None:
    def visit(origin: str) -> int:
        request = urllib.request.Request(server.url + "/v1/models", headers={"Origin": origin})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return int(answer.status)

    with pytest.raises(urllib.error.HTTPError, match="403") as refusal:
        visit("https://evil.example")
    refusal.value.close()
    assert visit(server.url) == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_with_0_and_free_the_port(server: Server, number: signal.Signals) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    assert server.end(number) == (0, "")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_it_ends_while_an_answer_streams(server: Server) -> None:
    started = threading.Event()

    def read() -> None:
        body = json.dumps(hello(stream=True, ignore_eos=True)).encode()
        request = urllib.request.Request(
            server.url + "/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                for _ in answer:
                    started.set()
        except (OSError, http.client.HTTPException):
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(TIMEOUT)
    assert server.end(signal.SIGINT)[0] == 0
    reader.join(TIMEOUT)


def test_a_port_that_is_taken_is_exit_5(run: Runner, demo_bundle: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = run(demo_bundle, "--server", "--nobrowser", "--port", port)
    assert (done.code, done.out) == (5, "")
    assert f"port {port}: address already in use" in done.one_line


def test_a_unix_socket(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    it = Server(demo_bundle, run, "--host", str(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /v1/models HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert it.end(signal.SIGTERM) == (0, "")


def test_others_need_the_key_that_is_shown(run: Runner, demo_bundle: Path) -> None:
    it = Server(demo_bundle, run, "--port", "0", "--host", "0.0.0.0")
    key = re.search(r"key +(\S+)", it.said)
    assert key is not None
    with pytest.raises(urllib.error.HTTPError, match="401"):
        it.post("/v1/chat/completions", hello())
    assert it.post("/v1/chat/completions", hello(), Authorization=f"Bearer {key[1]}")["choices"]
    assert it.end(signal.SIGINT)[0] == 0
