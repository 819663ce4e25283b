"""A bundle's `--server` for tests: started, asked, ended."""

import http.client
import json
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.integration.conftest import TIMEOUT, Runner

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class Server:
    """A running server. `facts`: what it printed with --json; `said`: what it has written to standard error."""

    def __init__(self, bundle: Path, run: Runner, *arguments: str, **env: str) -> None:
        """On a port of its own and without a browser, unless `arguments` or `env` (DISPLAY) say otherwise."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        port = () if "--port" in arguments or "--host" in arguments else ("--port", "0")
        quiet = () if "DISPLAY" in env else ("--nobrowser",)
        self.child = subprocess.Popen(
            [bundle, "--server", "-t", "1", "--json", *quiet, *port, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**run.env, **env},
            text=True,
            encoding="utf-8",
        )
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            self.child.wait(TIMEOUT)
            raise AssertionError(f"the server did not start: {self.said}")
        self.facts: dict[str, Any] = json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()
        self._log.close()

    @property
    def said(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    @property
    def port(self) -> int:
        return int(self.facts["port"])

    def request(
        self, path: str, body: dict[str, Any] | bytes | None = None, method: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body (decoded if it is JSON) and headers; a body makes it a POST. `_` in header names is `-`."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            sent = {"Content-Type": "application/json"} if data is not None else {}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if data is None else "POST"), path, data, sent)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(content) if is_json else content, dict(answer.headers)

    def get(self, path: str) -> Any:
        status, body, _ = self.request(path)
        assert status == 200, body
        return body

    def chat(self, **more: Any) -> Any:
        """An answer to the question, or to `messages`."""
        status, body, _ = self.request(
            "/v1/chat/completions", {"messages": QUESTION, "temperature": 0, **more}, method="POST"
        )
        assert status == 200, body
        return body

    def stream(self, **more: Any) -> Any:
        """An open response that streams."""
        body = json.dumps({"messages": QUESTION, "temperature": 0, "stream": True, **more}).encode()
        request = urllib.request.Request(self.url + "/v1/chat/completions", body, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=TIMEOUT)

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Send a signal; returns the exit code and what else came on stdout."""
        self.child.send_signal(number)
        out, _ = self.child.communicate(timeout=TIMEOUT)
        return self.child.returncode, out
