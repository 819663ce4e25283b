"""Ports that are free, and who holds those that are not. Imported by the launcher only."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import ListenError

DEFAULT_PORT = 8080
# How many ports after the default one are tried when that is taken.
_NEXT_PORTS = 10
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def choose_port(hosts: str, wanted: int | None) -> int:
    """A port that is free now on all addresses: the wanted one (0: any), or the default one or one of those after it.

    `hosts`: comma-separated; 0 when all are Unix sockets. Raises ListenError if the port is taken, or if an address is
    none of this machine.
    """
    if all(host.endswith(".sock") for host in hosts.split(",")):
        return 0
    if wanted is not None:
        return _bind(hosts, wanted)
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _NEXT_PORTS):
        with contextlib.suppress(_TakenError):
            return _bind(hosts, port)
    return _bind(hosts, DEFAULT_PORT + _NEXT_PORTS)


@contextlib.contextmanager
def unix_sockets(hosts: str) -> Iterator[None]:
    """Clear the way for the Unix sockets among `hosts`, and remove them at the end.

    A socket whose server is gone is removed; a living one, or a file that is none, raises ListenError.
    """
    paths = [Path(host) for host in hosts.split(",") if host.endswith(".sock")]
    if paths and not hasattr(socket, "AF_UNIX"):
        raise ListenError("there are no Unix sockets on Windows", "listen on an address, such as --host 127.0.0.1")
    for path in paths:
        if path.is_socket():
            _check_abandoned(path)
            path.unlink()
        elif path.exists():
            raise ListenError(f"cannot listen on {path}: it is there already and no socket", "choose another --host")
    try:
        yield
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _check_abandoned(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(ConnectionRefusedError):
        client.connect(str(path))
        raise ListenError(f"cannot listen on {path}: another server does", "choose another --host")


class _TakenError(ListenError):
    """The port, not the address, is to blame."""


def _bind(hosts: str, port: int) -> int:
    """Bind for a moment, as the engine will, and tell the port. Port 0 lets the system choose."""
    with contextlib.ExitStack() as probes:
        for host in hosts.split(","):
            if not host.endswith(".sock"):
                port = probes.enter_context(_probe(host, port)).getsockname()[1]
    return port


def _probe(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        probe = socket.socket(family, socket.SOCK_STREAM)
        try:
            # On Windows SO_REUSEADDR takes a port that another has.
            reuse = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
            probe.setsockopt(socket.SOL_SOCKET, reuse, 1)
            probe.bind(address)
            probe.listen(1)
        except BaseException:
            probe.close()
            raise
    except OSError as error:
        import errno

        reason = (error.strerror or str(error)).lower()
        if error.errno != errno.EADDRINUSE:
            remedy = "choose another --port" if error.errno == errno.EACCES else "choose another --host"
            raise ListenError(f"cannot listen on {host} port {port}: {reason}", remedy) from None
        by = holder(port)
        # in Windows' words: only one usage of each socket address is normally permitted
        problem = f"cannot listen on {host} port {port}: address already in use" + (f" by {by}" if by else "")
        raise _TakenError(problem, "choose another --port, or 0 for any") from None
    return probe


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """The process that listens on `port`, "name (process 123)"; "" where the system or its owner doesn't tell."""
    sockets = set(_listening(port, proc))
    if not sockets:
        return ""
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for handle in (folder / "fd").iterdir():
                if str(handle.readlink()) in sockets:
                    return f"{(folder / 'comm').read_text().strip()} (process {folder.name})"
    return ""


def _listening(port: int, proc: Path) -> Iterator[str]:
    """The sockets that listen on `port`, as /proc/PID/fd names them."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"
