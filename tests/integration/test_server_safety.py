"""Who may use a server, what it refuses and how, and that nobody can stop it from serving others."""

import contextlib
import http.client
import json
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
from tests.integration.server import Server

MIB = 2**20


@pytest.fixture(scope="module")
def server(run: Runner, demo_bundle: Path) -> Iterator[Server]:
    with Server(demo_bundle, run, "--max-body", "1") as it:
        yield it
        assert it.end()[0] == 0


def status(server: Server, **headers: str) -> int:
    return server.request("/v1/models", **headers)[0]


def raw(server: Server, request: bytes, *, then_close: bool = True) -> bytes:
    """What comes back for these bytes until the other side closes, or says nothing for a while."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as connection:
        connection.sendall(request)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65_536):
                got += piece
        return got


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:{port}",
        "localhost.",
        "127.0.0.1:{port}",
        "127.1.2.3",
        "[::1]:{port}",
        "chat.localhost:{port}",
    ],
)
def test_names_of_this_machine_are_answered(server: Server, host: str) -> None:
    assert status(server, Host=host.format(port=server.port)) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "evillocalhost",
     "192.0.2.7:{port}", "0.0.0.0:{port}", "[::ffff:192.0.2.7]", "[::1", "", "localhost@evil.example"],
)  # fmt: skip
def test_other_names_are_refused(server: Server, host: str) -> None:
    """DNS rebinding: a page's own name, pointed at 127.0.0.1, still arrives as the Host."""
    for path in ("/", "/v1/models", "/health", "/no-such-path"):
        code, body, _ = server.request(path, Host=host.format(port=server.port))
        assert code == 403
        assert body["error"]["type"] == "permission_error"
    body = {"messages": [{"role": "user", "content": "hello"}]}
    assert server.request("/v1/chat/completions", body, Host=host.format(port=server.port))[0] == 403


def test_two_hosts_are_refused(server: Server) -> None:
    assert b" 403 " in raw(server, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert b" 200 " in raw(server, b"GET /v1/models HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:1", "https://evil.example", "file://", "http://127.0.0.1"],
)
def test_pages_from_elsewhere_are_refused(server: Server, origin: str) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}]}
    for path, method, sent in (
        ("/v1/models", "GET", None), ("/v1/chat/completions", "POST", body), ("/v1/chat/completions", "OPTIONS", None)
    ):  # fmt: skip
        code, told, headers = server.request(path, sent, method, Origin=origin)
        assert (code, told["error"]["type"]) == (403, "permission_error")
        assert "Access-Control-Allow-Origin" not in headers


def test_its_own_page_is_let_in(server: Server) -> None:
    for name in ("127.0.0.1", "localhost"):
        assert status(server, Host=f"{name}:{server.port}", Origin=f"http://{name}:{server.port}") == 200


@pytest.mark.parametrize(
    ("site", "mode", "target", "code"),
    [
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
        ("cross-site", "navigate", "document", 200),  # a link that somebody follows
        ("cross-site", "no-cors", "image", 403),
        ("cross-site", "no-cors", "script", 403),
        ("same-site", "no-cors", "script", 403),
        ("cross-site", "navigate", "iframe", 403),
    ],
)
def test_what_browsers_say_about_a_request_counts(server: Server, site: str, mode: str, target: str, code: int) -> None:
    got = server.request("/v1/models", Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=target)
    assert got[0] == code
    assert got[2]["X-Frame-Options"] == "SAMEORIGIN"


def test_names_and_pages_can_be_allowed(run: Runner, demo_bundle: Path) -> None:
    allow = ("--allowed-hosts", "box.lan", "--cors-origins", "https://app.example, localhost")
    with Server(demo_bundle, run, *allow) as server:
        assert status(server, Host="box.lan:1") == 200
        assert status(server, Host="other.lan") == 403
        for origin in ("https://app.example", "http://localhost:3000", "http://127.0.0.1:9"):
            code, _, headers = server.request("/v1/models", Origin=origin)
            assert (code, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (200, origin, "Origin")
        preflight = server.request("/v1/chat/completions", None, "OPTIONS", Origin="https://app.example")
        assert preflight[0] == 200
        assert "POST" in preflight[2]["Access-Control-Allow-Methods"]
        for origin in ("http://app.example", "https://app.example.evil", "https://evil.example"):
            assert status(server, Origin=origin) == 403
        assert server.end()[0] == 0


def test_others_need_the_key_that_is_shown(run: Runner, demo_bundle: Path) -> None:
    with Server(demo_bundle, run, "--host", "0.0.0.0", "--port", "0") as server:
        key = server.facts["api_key"]
        assert re.search(rf"key +{re.escape(key)}", server.said)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Api-Key": "wrong"}):
            for path in ("/v1/models", "/props", "/slots", "/tools"):
                code, body, _ = server.request(path, **headers)
                assert (code, body["error"]["type"]) == (401, "authentication_error")
        assert status(server, Authorization=f"Bearer {key}") == 200
        assert status(server, X_Api_Key=key) == 200
        assert server.request("/health")[0] == 200
        assert server.request("/slots", Authorization=f"Bearer {key}")[0] == 501  # they show everybody's prompts
        assert status(server, Authorization=f"Bearer {key}", Host="evil.example") == 403
        assert server.end()[0] == 0


def test_power_needs_a_key_in_public(run: Runner, demo_bundle: Path) -> None:
    public = ("--server", "--nobrowser", "--host", "0.0.0.0", "--port", "0", "--no-api-key")
    done = run(demo_bundle, *public, "--tools", "all")
    assert (done.code, done.out) == (2, "")
    assert "--tools with --no-api-key" in done.one_line
    with Server(demo_bundle, run, "--host", "0.0.0.0", "--port", "0", "--no-api-key") as server:
        assert status(server) == 200
        assert server.facts["api_key"] is None
        assert server.end()[0] == 0


def test_an_own_key_and_keys_in_a_file(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    with Server(demo_bundle, run, "--api-key", "sesame") as server:
        assert (status(server), status(server, Authorization="Bearer sesame")) == (401, 200)
        assert server.end()[0] == 0
    (tmp_path / "keys").write_text("one\ntwo\n")
    with Server(demo_bundle, run, "--api-key-file", str(tmp_path / "keys")) as server:
        assert [status(server, Authorization=f"Bearer {key}") for key in ("one", "two", "three")] == [200, 200, 401]
        assert server.end()[0] == 0


ERRORS: list[tuple[str, bytes | dict[str, Any] | None, int, str]] = [
    ("/v1/chat/completions", b"{not json", 400, "invalid_request_error"),
    ("/v1/chat/completions", b"", 400, "invalid_request_error"),
    ("/v1/chat/completions", b"[]", 400, "invalid_request_error"),
    ("/v1/chat/completions", b"\xff\xfe", 400, "invalid_request_error"),
    ("/v1/chat/completions", {}, 400, "invalid_request_error"),
    ("/v1/chat/completions", {"messages": "hello"}, 400, "invalid_request_error"),
    ("/v1/chat/completions", {"messages": [], "temperature": "hot"}, 400, "invalid_request_error"),
    ("/v1/completions", b"{", 400, "invalid_request_error"),
    ("/v1/messages", b"{", 400, "invalid_request_error"),
    ("/v1/responses", b"{", 400, "invalid_request_error"),
    ("/v1/no-such-path", None, 404, "not_found_error"),
    ("/v1/no-such-path", {}, 404, "not_found_error"),
    ("/v1/chat/completions", b" " * (MIB + 1), 413, "request_too_large"),
]


@pytest.mark.parametrize(("path", "body", "code", "kind"), ERRORS)
def test_errors_have_openai_shape(
    server: Server, path: str, body: bytes | dict[str, Any] | None, code: int, kind: str
) -> None:
    got, told, headers = server.request(path, body)
    assert got == code, told
    assert (told["error"]["type"], told["error"]["code"]) == (kind, code)
    assert told["error"]["message"]
    assert headers["Content-Type"].startswith("application/json")


def test_a_large_body_is_refused_before_it_is_sent(server: Server) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**12}\r\n\r\n"
    assert b" 413 " in raw(server, head.encode() + b" " * 2 * MIB, then_close=False)[:20]
    chunks = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"40000\r\n" + b" " * 0x40000 + b"\r\n"
    assert b" 413 " in raw(server, chunks + 5 * chunk, then_close=False)[:20]


def test_the_context_is_too_small_with_both_numbers(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": "word " * 9000}]}
    code, told, _ = server.request("/v1/chat/completions", body)
    assert code == 400
    assert told["error"]["n_prompt_tokens"] > told["error"]["n_ctx"] == 4096


GARBAGE = [
    b"\x00\xff\x16\x03\x01" * 100,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n\r\n",
    b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


def test_garbage_is_refused_and_service_goes_on(server: Server) -> None:
    for number, garbage in enumerate(GARBAGE):
        answer = raw(server, garbage)
        assert b" 200 " not in answer[:20], number
        assert b"root:" not in answer
    assert server.chat()["choices"]


def test_idle_slow_and_half_closed_clients_do_not_stop_the_others(server: Server) -> None:
    """1,000 connections that say nothing, some that dribble, some half-closed: an answer still comes."""
    open_before = len(list(Path(f"/proc/{server.child.pid}/fd").iterdir()))
    with contextlib.ExitStack() as held:

        def connect() -> socket.socket:
            return held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT))

        for _ in range(900):
            connect()
        for at in range(50):
            connect().sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"[: 5 + at])
        for _ in range(25):
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
            connect().sendall(head)
        for _ in range(25):
            half = connect()
            half.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n")
            half.shutdown(socket.SHUT_WR)
        assert server.chat()["choices"][0]["message"]["content"] == "The capital of France is Paris."
        with server.stream() as stream:
            assert stream.read().endswith(b"data: [DONE]\n\n")
    deadline = time.monotonic() + TIMEOUT
    while len(list(Path(f"/proc/{server.child.pid}/fd").iterdir())) > open_before + 20:
        assert time.monotonic() < deadline, "connections that are gone stay open"
        time.sleep(0.2)


def slots(server: Server) -> list[bool]:
    return [slot["is_processing"] for slot in server.get("/slots")]


def wait_for_slots(server: Server, *, busy: bool) -> None:
    deadline = time.monotonic() + TIMEOUT
    while any(slots(server)) is not busy:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_goes_away_frees_its_slot(server: Server, streams: bool) -> None:
    body = {"messages": [{"role": "user", "content": "Count to fifty."}], "ignore_eos": True, "max_tokens": 100_000_000}
    wait_for_slots(server, busy=False)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": streams}))
    wait_for_slots(server, busy=True)
    connection.close()
    wait_for_slots(server, busy=False)
    used = max(slot.get("n_prompt_tokens", 0) for slot in server.get("/slots"))  # what was generated counts
    assert 0 < used < 4000  # of 4,096: it did not end because the context was full


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_streams_at_once(run: Runner, demo_bundle: Path, number: signal.Signals) -> None:
    """While four streams run: every stream ends, and the port is free."""
    with Server(demo_bundle, run) as server:
        started = threading.Barrier(5)
        ends: list[bytes] = []

        def follow() -> None:
            with (
                server.stream(ignore_eos=True, max_tokens=100_000_000) as stream,
                contextlib.suppress(OSError, http.client.HTTPException),
            ):
                ends.append(stream.readline())
                started.wait(TIMEOUT)
                while line := stream.readline():
                    ends[-1] = line

        readers = [threading.Thread(target=follow) for _ in range(4)]
        for reader in readers:
            reader.start()
        started.wait(TIMEOUT)
        assert server.end(number)[0] == 0
        for reader in readers:
            reader.join(TIMEOUT)
        assert len(ends) == 4
        socket.create_server(("127.0.0.1", server.port)).close()


def test_a_second_signal_ends_it_too(run: Runner, demo_bundle: Path) -> None:
    with Server(demo_bundle, run) as server:
        server.child.send_signal(signal.SIGINT)
        server.child.send_signal(signal.SIGINT)
        assert server.end(signal.SIGINT)[0] in (0, 130)
