"""Face 2: the web page and the API on a port. Imported by `launcher.__main__` only."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.browser import has_desktop, open_browser
from launcher.console import Console
from launcher.options import LaunchOptions
from launcher.ports import DEFAULT_PORT, choose_port, unix_sockets
from launcher.session import Place, Session, find_weights
from launcher.settings import Listen, is_private, model_name
from launcher.signals import Terminated
from runtime.errors import UsageError

DEFAULT_HOST = "127.0.0.1"
_TICK = 0.2
# Connections are files, and many systems grant a process 1,024 of them until it asks for more.
_WANTED_FILES = 16_384
# Flags of the engine that let clients read files of this machine or run programs on it.
_POWERFUL = ("--tools", "--tools-runtime", "--mcp-servers-config", "--mcp-servers-json", "--ui-mcp-proxy",
             "--webui-mcp-proxy", "--media-path", "--agent", "-ag", "--slot-save-path", "--path")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the server is reached: a page's address and a port, or a Unix socket's path (port 0)."""

    url: str
    port: int

    @property
    def api(self) -> str:
        return f"{self.url}/v1" if self.port else self.url


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit code."""
    place = find_weights(options, place)
    host = options.host or DEFAULT_HOST
    options = with_key(options, host)
    port = choose_port(host, options.port)
    prefix = path_prefix(options)
    address = Address(url=page_url(host, port) + prefix, port=port) if port else Address(url=host, port=0)
    allow_many_connections()
    listen = Listen(host=host, port=port, private=False, prefix=prefix)
    with unix_sockets(host), Session.start(options, place, listen, tell=console.complain) as session:
        try:
            session.ready()
            with port_file(options.port_file, address):
                announce(console, options, address, model_name(options, place.bundle.manifest))
                if port and options.browser and has_desktop(place.env):
                    open_browser(address.url)
                _serve(session)
        except (KeyboardInterrupt, Terminated):
            console.say("stopping")
    return 0


def _serve(session: Session) -> None:
    """Until a signal, or the engine ends by itself, which is an error."""
    import threading

    forever = threading.Event()
    while not forever.wait(_TICK):  # the timeout lets signals through on every system
        session.check()


def with_key(options: LaunchOptions, host: str) -> LaunchOptions:
    """Give a server that others can reach a key, unless there is one or the user said that there be none.

    Raises UsageError when everybody could then read files or run programs here.
    """
    given = options.api_key is not None or any(flag.startswith("--api-key") for flag in options.engine_args)
    if given or is_private(host):
        return options
    if not options.need_key:
        if power := next((flag for flag in options.engine_args if flag in _POWERFUL), None):
            problem = f"{power} with --no-api-key would open this machine to everybody who reaches {host}"
            raise UsageError(problem, "leave --no-api-key out, or listen on 127.0.0.1")
        return options
    import secrets

    return replace(options, api_key=secrets.token_urlsafe(24))


def allow_many_connections() -> None:
    """Raise this process's limit of open files as far as it may."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def path_prefix(options: LaunchOptions) -> str:
    """What --api-prefix puts before every path; "" without it."""
    args = options.engine_args
    given = [args[at + 1] for at, flag in enumerate(args[:-1]) if flag == "--api-prefix"]
    return given[-1].rstrip("/") if given else ""


def page_url(hosts: str, port: int) -> str:
    """The page's address for a browser on this machine. Of several addresses the first that has a port."""
    host = next(host for host in hosts.split(",") if not host.endswith(".sock"))
    name = {"0.0.0.0": DEFAULT_HOST, "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def announce(console: Console, options: LaunchOptions, address: Address, model: str) -> None:
    """Say what is served where, and how to use it: to people, and with --json to a script as well."""
    taken = options.port is None and address.port not in (0, DEFAULT_PORT)
    console.say(f"{model} is ready" + (f" (port {DEFAULT_PORT} is taken)" if taken else ""))
    if address.port:
        console.say(f"  page  {address.url}")
        console.say(f"  API   {address.api}")
    else:
        console.say(f"  socket  {address.url}")
    if options.api_key:
        console.say(f"  key   {options.api_key}")
    reach = address.api if address.port else f"--unix-socket {address.url} http://localhost/v1"
    key = f" -H 'Authorization: Bearer {options.api_key}'" if options.api_key else ""
    console.say(f"  try   curl {reach}/chat/completions{key} \\")
    console.say("          -H 'Content-Type: application/json' \\")
    console.say("""          -d '{"messages": [{"role": "user", "content": "Hello!"}]}'""")
    console.say("Ctrl-C stops it.")
    if options.json:
        facts = {"url": address.url, "api": address.api, "port": address.port, "model": model, "pid": os.getpid()}
        console.answer(json.dumps({**facts, "api_key": options.api_key}, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def port_file(path: Path | None, address: Address) -> Iterator[None]:
    """While inside, the file holds the port (or the socket's path) in one line. Raises UsageError."""
    if path is None:
        yield
        return
    work = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        work.write_text(f"{address.port or address.url}\n", encoding="utf-8")
        work.replace(path)
    except OSError as error:
        work.unlink(missing_ok=True)
        problem = f"cannot write {path}: {(error.strerror or str(error)).lower()}"
        raise UsageError(problem, "name a file that can be written after --port-file") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
