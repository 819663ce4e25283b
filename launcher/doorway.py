"""/serve: the private engine of a chat on a port of this machine. Imported by `launcher.repl` only.

The engine trusts whoever comes through its private door. So each connection from the port brings one
request, whose Host and Origin are looked at here, as runtime/native/http.cpp does for public engines: a web page that
the person happens to read must not reach the model.
"""

import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.browser import has_desktop, open_browser
from launcher.client import Client
from launcher.ports import choose_port
from runtime.errors import UsageError

HOST = "127.0.0.1"
_LARGEST_HEAD = 64 * 1024
_PATIENCE = 60.0  # seconds for a request's head
_PIECE = 64 * 1024


@dataclass(kw_only=True)
class Doorway:
    """Opens a port to the engine behind `client`, once. `browser`: open the page there, if there is a desktop."""

    client: Client
    env: Mapping[str, str]
    browser: bool = True
    url: str = ""

    def open(self, port: int | None) -> str:
        """Listen, and return the page's address. Raises ListenError if the port is taken, UsageError the second time
        for another port."""
        if self.url:
            if port not in (None, 0, int(self.url.rpartition(":")[2])):
                raise UsageError(f"the page is open already: {self.url}")
            return self.url
        chosen = choose_port(HOST, port)
        listener = socket.create_server((HOST, chosen), backlog=128)
        self.url = f"http://{HOST}:{chosen}"
        threading.Thread(target=self._accept, args=(listener, chosen), daemon=True).start()
        if self.browser and has_desktop(self.env):
            open_browser(self.url)
        return self.url

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            with contextlib.suppress(OSError, RuntimeError):  # no thread can be started: the guest has to come again
                guest, _ = listener.accept()
                threading.Thread(target=self._serve, args=(guest, port), daemon=True).start()

    def _serve(self, guest: socket.socket, port: int) -> None:
        with guest, contextlib.suppress(OSError):
            guest.settimeout(_PATIENCE)
            head, body = _read_head(guest)
            if not head:
                return
            if reason := refusal(head, port):
                text = f'{{"error": {{"code": 403, "type": "permission_error", "message": "{reason}"}}}}'
                guest.sendall(
                    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n"
                    + f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
                )
                return
            guest.settimeout(None)
            with self.client.connect() as engine:
                engine.sendall(once(head, self.client.api_key) + body)
                threading.Thread(target=_pipe, args=(guest, engine), daemon=True).start()
                _pipe(engine, guest)
                with contextlib.suppress(OSError):
                    guest.shutdown(socket.SHUT_RDWR)


def _read_head(guest: socket.socket) -> tuple[bytes, bytes]:
    """A request's head with its last empty line, and what came after; nothing if there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = guest.recv(_PIECE)
        if not piece or len(data) > _LARGEST_HEAD:
            return b"", b""
        data += piece
    head, end, body = data.partition(b"\r\n\r\n")
    return head + end, body


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes over until one end closes, and close the other."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def _headers(head: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), []).append(value.strip().lower())
    return found


def refusal(head: bytes, port: int) -> str:
    """Why this request is not let in; "" if it is."""
    headers = _headers(head)
    own = {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}
    if len(headers.get("host", ())) != 1 or headers["host"][0] not in own:
        return "this server answers to 127.0.0.1 and localhost only"
    if any(origin != f"http://{headers['host'][0]}" for origin in headers.get("origin", ())):
        return "pages of other origins may not use this server"
    site = headers.get("sec-fetch-site", ["none"])[0]
    link = headers.get("sec-fetch-mode") == ["navigate"] and head.startswith(b"GET ")
    if site not in ("same-origin", "none") and not link:
        return "pages of other origins may not use this server"
    return ""


def once(head: bytes, key: str = "") -> bytes:
    """The head with the wish to close the connection after the answer, so that no second request slips through; and
    with the key to the engine, if it wants one."""
    dropped = (b"connection:", b"keep-alive:", b"authorization:" if key else b"connection:")
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(dropped)]
    own = [b"Authorization: Bearer " + key.encode()] if key else []
    return b"\r\n".join([*lines, *own, b"Connection: close", b"", b""])
