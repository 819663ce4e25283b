"""Face 3: the web page and the API on a port. Imported by `launcher.__main__` only."""

import socket
from collections.abc import Mapping
from dataclasses import replace

from launcher.console import Console
from launcher.options import LaunchOptions
from launcher.session import Place, Session, find_weights
from launcher.settings import Listen, model_name
from launcher.signals import Terminated
from runtime.errors import ListenError
from runtime.paths import host_target

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
# How many ports after the default one are tried when that is taken.
_NEXT_PORTS = 10
_TICK = 0.2


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit code."""
    place = find_weights(options, place)
    host = options.host or DEFAULT_HOST
    options = with_key(options, host)
    socket_path = host if host.endswith(".sock") else ""
    port = 0 if socket_path else choose_port(host, options.port)
    with Session.start(options, place, Listen(host=host, port=port, private=False)) as session:
        for notice in session.notices:
            console.complain(notice)
        try:
            session.ready()
            name = model_name(options, place.bundle.manifest)
            announce(console, options, url=socket_path or page_url(host, port), model=name)
            if not socket_path and options.browser and has_desktop(place.env):
                _open_browser(page_url(host, port))
            _serve(session)
        except (KeyboardInterrupt, Terminated):
            console.say("stopped")
    return 0


def _serve(session: Session) -> None:
    """Until a signal, or the engine ends by itself, which is an error."""
    import threading

    forever = threading.Event()
    while not forever.wait(_TICK):  # the timeout lets signals through on every system
        session.check()


def with_key(options: LaunchOptions, host: str) -> LaunchOptions:
    """Give a server that others can reach a key, unless there is one or the user said that there be none."""
    given = options.api_key is not None or any(flag.startswith("--api-key") for flag in options.engine_args)
    if given or not options.need_key or is_private(host):
        return options
    import secrets

    return replace(options, api_key=secrets.token_urlsafe(24))


def is_private(host: str) -> bool:
    """Whether only this machine reaches the address: loopback, or a Unix socket."""
    return host == "localhost" or host.startswith("127.") or host == "::1" or host.endswith(".sock")


def choose_port(host: str, wanted: int | None) -> int:
    """A port that is free now: the wanted one (0: any), or the default one or one of those after it.

    Raises ListenError if it is taken, naming it, or if the address is none of this machine.
    """
    if wanted is not None:
        return _bind(host, wanted)
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _NEXT_PORTS + 1):
        try:
            return _bind(host, port)
        except ListenError:
            if port == DEFAULT_PORT + _NEXT_PORTS:
                raise
    raise AssertionError("unreachable")


def _bind(host: str, port: int) -> int:
    """Bind for a moment, as the engine will, and tell the port. Port 0 lets the system choose."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = "choose another --port, or 0 for any" if port else "choose another --host"
        raise ListenError(f"cannot listen on {host} port {port}: {reason}", remedy) from None


def page_url(host: str, port: int) -> str:
    """The page's address for a browser on this machine."""
    name = {"0.0.0.0": DEFAULT_HOST, "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def announce(console: Console, options: LaunchOptions, *, url: str, model: str) -> None:
    """Say what is served where, and how to use it."""
    default = options.port is None and not url.endswith(f":{DEFAULT_PORT}") and url.startswith("http")
    console.say(f"{model} is ready" + (f" (port {DEFAULT_PORT} is taken)" if default else ""))
    if not url.startswith("http"):
        console.say(f"  socket  {url}")
        return
    key = f" -H 'Authorization: Bearer {options.api_key}'" if options.api_key else ""
    console.say(f"  page  {url}")
    console.say(f"  API   {url}/v1")
    if options.api_key:
        console.say(f"  key   {options.api_key}")
    console.say(f"  try   curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\")
    console.say("""          -d '{"messages":[{"role":"user","content":"Hello!"}]}'""")
    console.say("Ctrl-C stops it.")


def has_desktop(env: Mapping[str, str]) -> bool:
    """Whether a browser would open where the person sits: not over SSH, not without a display."""
    if env.get("SSH_CONNECTION") or env.get("SSH_TTY"):
        return False
    return bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")) or not host_target().startswith("linux")


def _open_browser(url: str) -> None:
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # it may wait for the browser
