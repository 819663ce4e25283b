"""Starting, stopping and flags of `--server`, and what a request gets that names nothing."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import TIMEOUT, Runner
from tests.integration.server import QUESTION, Server

THINKING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0}
DIRECT = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0}


@pytest.fixture(scope="module")
def server(run: Runner, demo_bundle: Path) -> Iterator[Server]:
    with Server(demo_bundle, run, "--parallel", "1", "--slots") as it:
        yield it
        assert it.end()[0] == 0


def sampling_of(server: Server, path: str, body: dict[str, Any]) -> dict[str, float]:
    """The settings that the only slot used for this request."""
    status, answer, _ = server.request(path, {"max_tokens": 2, **body})
    assert status == 200, answer
    (slot,) = server.get("/slots")
    return {name: slot["params"][name] for name in THINKING}


def user(text: str | list[dict[str, str]]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


OFF = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.mark.parametrize(
    ("path", "body", "wanted"),
    [
        ("/v1/chat/completions", user("Hi"), THINKING),
        ("/v1/chat/completions", {**user("Hi"), **OFF}, DIRECT),
        ("/v1/chat/completions", {**user("Hi /no_think")}, DIRECT),
        ("/v1/chat/completions", {**user("Hi /no_think /think")}, THINKING),
        ("/v1/chat/completions", {**user("Hi /think"), **OFF}, DIRECT),
        ("/v1/chat/completions", {**user("Hi"), "reasoning_effort": "none"}, DIRECT),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "/no_think"}, *QUESTION]}, DIRECT),
        ("/v1/chat/completions", user([{"type": "text", "text": "Hi /no_think"}]), DIRECT),
        ("/v1/chat/completions", {**user("Hi"), **OFF, "top_p": 0.1, "top_k": 7}, {**DIRECT, "top_p": 0.1, "top_k": 7}),
        ("/v1/chat/completions", {**user("Hi"), "temperature": None}, THINKING),
        ("/v1/messages", user("Hi"), THINKING),
        ("/v1/messages", {**user("Hi"), "thinking": {"type": "disabled"}}, DIRECT),
        ("/v1/responses", {"input": "Hi"}, THINKING),
        ("/v1/responses", {"input": "Hi /no_think"}, DIRECT),
    ],
)  # fmt: skip
def test_requests_that_name_no_sampling_get_the_preset_of_their_mode(
    server: Server, path: str, body: dict[str, Any], wanted: dict[str, float]
) -> None:
    assert sampling_of(server, path, body) == pytest.approx(wanted)


def test_the_command_line_changes_both_presets(run: Runner, demo_bundle: Path) -> None:
    with Server(demo_bundle, run, "--parallel", "1", "--temp", "0.1") as server:
        assert sampling_of(server, "/v1/chat/completions", user("Hi"))["temperature"] == pytest.approx(0.1)
        assert sampling_of(server, "/v1/chat/completions", {**user("Hi"), **OFF}) == pytest.approx(
            {**DIRECT, "temperature": 0.1}
        )
        assert server.end()[0] == 0


def test_a_server_that_does_not_think(run: Runner, demo_bundle: Path) -> None:
    with Server(demo_bundle, run, "--parallel", "1", "--nothink") as server:
        message = server.chat()["choices"][0]["message"]
        assert (message["content"], message.get("reasoning_content")) == ("The capital of France is Paris.", None)
        assert sampling_of(server, "/v1/chat/completions", user("Hi")) == pytest.approx(DIRECT)
        on = {"chat_template_kwargs": {"enable_thinking": True}}
        assert server.chat(**on)["choices"][0]["message"]["reasoning_content"].strip()
        assert sampling_of(server, "/v1/chat/completions", {**user("Hi"), **on}) == pytest.approx(THINKING)
        assert server.end()[0] == 0


def test_the_page_knows_preset_and_name(server: Server) -> None:
    props = server.get("/props")
    settings = props["default_generation_settings"]["params"]
    assert {name: settings[name] for name in THINKING} == pytest.approx(THINKING)
    assert props["model_alias"] == server.facts["model"]
    status, page, headers = server.request("/", Accept_Encoding="gzip")
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    import gzip

    assert b"page-name.js" in gzip.decompress(page)
    assert json.dumps(server.facts["model"]).encode() in server.request("/page-name.js")[1]


def test_it_says_where_it_is_and_how_to_use_it(server: Server) -> None:
    assert server.facts == {
        "url": f"http://127.0.0.1:{server.port}",
        "api": f"http://127.0.0.1:{server.port}/v1",
        "port": server.port,
        "model": server.facts["model"],
        "pid": server.child.pid,
        "api_key": None,
    }
    for word in (server.facts["model"], f"page  {server.url}", f"API   {server.facts['api']}", "curl", "Ctrl-C"):
        assert word in server.said


def test_the_example_that_it_prints_works(server: Server, run: Runner) -> None:
    example = re.search(r"try +(curl .*?\}')", server.said, re.DOTALL)
    assert example is not None
    done = run("bash", "-c", f'curl() {{ command curl -s "$@"; }}\n{example[1]}')
    assert done.code == 0
    assert json.loads(done.out)["choices"][0]["message"]["content"]


def test_the_port_file_is_there_while_it_serves(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "port"
    with Server(demo_bundle, run, "--port-file", str(file)) as server:
        assert file.read_text() == f"{server.port}\n"
        assert server.end(signal.SIGTERM) == (0, "")
    assert not file.exists()


def test_the_next_port_is_taken_and_said(run: Runner, demo_bundle: Path) -> None:
    """The default port may be anybody's here: take it, or find it taken."""
    try:
        held = socket.create_server(("127.0.0.1", 8080))
    except OSError:
        held = socket.socket()
    with held, Server(demo_bundle, run, "--host", "127.0.0.1") as server:
        assert 8080 < server.port <= 8090
        assert "port 8080 is taken" in server.said
        assert server.get("/health") == {"status": "ok"}
        assert server.end()[0] == 0


def test_a_port_that_is_taken_is_exit_5_and_names_the_holder(run: Runner, demo_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run(demo_bundle, "--server", "--nobrowser", "--port", str(port))
    assert (done.code, done.out) == (5, "")
    assert f"port {port}: address already in use by " in done.one_line
    assert f"(process {os.getpid()})" in done.one_line


def test_a_unix_socket_and_an_address_together(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"

    def through_socket(host: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(f"GET /v1/models HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            return client.recv(100)

    with Server(demo_bundle, run, "--host", str(path)) as server:
        assert (server.facts["url"], server.facts["port"], server.facts["api_key"]) == (str(path), 0, None)
        assert through_socket("any.name").startswith(b"HTTP/1.1 200")  # no web page gets here
        assert f"--unix-socket {path}" in server.said
        second = run(demo_bundle, "--server", "--nobrowser", "--host", path)
        assert (second.code, second.out) == (5, "")
        assert "another server does" in second.one_line
        assert server.end(signal.SIGTERM)[0] == 0
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # as a server leaves it that was killed
    with Server(demo_bundle, run, "--host", f"127.0.0.1,::1,{path}", "--port", "0") as server:
        assert server.get("/health") == {"status": "ok"}
        assert through_socket("localhost").startswith(b"HTTP/1.1 200")
        with socket.create_connection(("::1", server.port)) as client:
            client.sendall(f"GET /health HTTP/1.0\r\nHost: [::1]:{server.port}\r\n\r\n".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert server.end()[0] == 0


def test_flags_of_llama_cpps_server_work(run: Runner, demo_bundle: Path) -> None:
    flags = ("--parallel", "2", "--metrics", "--cache-reuse", "32", "-ctk", "q8_0", "-ctv", "q8_0", "-fa", "on",
             "--alias", "mine", "--api-prefix", "/llm")  # fmt: skip
    with Server(demo_bundle, run, *flags) as server:
        assert len(server.get("/llm/slots")) == 2
        assert b"llamacpp:" in server.get("/llm/metrics")
        assert (
            "mine"
            in [model["id"] for model in server.get("/llm/v1/models")["data"]]
            + server.get("/llm/v1/models")["data"][0]["aliases"]
        )
        body = {"messages": QUESTION, "temperature": 0}
        status, answer, _ = server.request("/llm/v1/chat/completions", body)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "The capital of France is Paris.")
        assert server.request("/v1/models")[0] == 404
        assert server.end()[0] == 0


def test_many_clients_at_once_get_their_own_answers(server: Server) -> None:
    capitals = {"France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Spain": "Madrid"}
    answers: dict[int, str] = {}

    def ask(number: int, country: str) -> None:
        messages = [{"role": "user", "content": f"What is the capital of {country}? /no_think"}]
        answers[number] = server.chat(messages=messages)["choices"][0]["message"]["content"]

    wanted = [list(capitals)[number % 4] for number in range(32)]
    threads = [threading.Thread(target=ask, args=each) for each in enumerate(wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[number] for number in range(32)] == [f"The capital of {c} is {capitals[c]}." for c in wanted]


def test_it_leaves_nothing_behind(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    with Server(demo_bundle, run, TMPDIR=str(tmp_path)) as server:
        server.chat()
        children = Path(f"/proc/{server.child.pid}/task/{server.child.pid}/children").read_text()
        assert server.end()[0] == 0
    assert children == ""
    assert list(tmp_path.iterdir()) == []


def test_help_shows_the_common_flags_and_help_engine_all(run: Runner, demo_bundle: Path) -> None:
    brief = run(demo_bundle, "--server", "--help").out
    whole = run(demo_bundle, "--help-engine").out
    for flag in (
        "--host",
        "--port",
        "--api-key",
        "--allowed-hosts",
        "--cors-origins",
        "--parallel",
        "--metrics",
        "--lora",
    ):
        assert flag in brief
    for flag in ("--parallel", "--slot-save-path", "--mcp-servers-config", "--cache-reuse"):
        assert flag in whole


def browser(folder: Path) -> str:
    """A program for $BROWSER that notes the address it is called with in `folder`/opened."""
    program = folder / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {folder}/opening && mv {folder}/opening {folder}/opened\n')
    program.chmod(0o700)
    return str(program)


def test_the_browser_opens_once_the_server_is_ready(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    with Server(demo_bundle, run, DISPLAY=":7", BROWSER=browser(tmp_path)) as server:
        deadline = time.monotonic() + TIMEOUT
        while not (tmp_path / "opened").exists():
            assert time.monotonic() < deadline, "no browser was opened"
            time.sleep(0.05)
        assert (tmp_path / "opened").read_text() == server.url + "\n"
        assert server.end()[0] == 0


def test_no_browser_opens_over_ssh(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    with Server(demo_bundle, run, DISPLAY=":7", SSH_CONNECTION="there", BROWSER=browser(tmp_path)) as server:
        server.chat()
        assert server.end()[0] == 0
    assert not (tmp_path / "opened").exists()


def test_it_says_503_while_it_loads(run: Runner, demo_bundle: Path) -> None:
    """Asked without a break from before it listens until it is ready: nothing but 503 of OpenAI's shape, then 200."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers: list[tuple[int, Any]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set() and (not answers or answers[-1][0] != 200):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            with contextlib.suppress(ConnectionError):
                connection.request("GET", "/v1/models")
                answer = connection.getresponse()
                answers.append((answer.status, json.loads(answer.read())))
            connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with Server(demo_bundle, run, "--port", str(port)) as server:
            watcher.join(TIMEOUT)
            assert server.end()[0] == 0
    finally:
        done.set()
    assert answers[-1][0] == 200
    for status, body in answers[:-1]:
        assert (status, body["error"]["type"], body["error"]["code"]) == (503, "unavailable_error", 503)


def test_streamed_pieces_arrive_one_by_one(server: Server) -> None:
    with server.stream() as stream:
        lines = [line for line in stream.read().decode().splitlines() if line.startswith("data: ")]
    assert len(lines) > 5
    assert lines[-1] == "data: [DONE]"
