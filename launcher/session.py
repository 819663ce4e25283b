"""The engine's life in this process: start it, wait until the model is loaded, stop it. Imported by the launcher only.

with Session.start(...) as session:     the engine loads on a thread of its own, in C
    ...                                 time to import what the face needs
    client = session.ready()            waits; raises what kept the engine from starting
"""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from launcher.crash import tell_crashes
from launcher.gpu import choose, loaded
from launcher.options import Face, LaunchOptions
from launcher.plan import Plan
from launcher.settings import Listen, door
from launcher.unpack import unpack_engine
from runtime.bundle import MODEL, Bundle, edges_sha256
from runtime.engine import Engine, EngineError
from runtime.errors import ListenError, ModelError, QwenfileError, UsageError
from runtime.layers import Layers
from runtime.paths import private_folder

if TYPE_CHECKING:
    from launcher.client import Client

_POLL = 0.003
_STOP_TIMEOUT = 1.8  # all of the end takes less than 2 s
_GGUF_MAGIC = b"GGUF"

# What the engine reads from the environment. A bundle's behaviour comes from its manifest and command line alone:
# settings meant for another llama.cpp must not add a key to the private door or fetch another model.
_ENGINE_VARIABLES = ("LLAMA_ARG_", "LLAMA_API_KEY", "LLAMA_CACHE", "AIP_")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this bundle runs: the bundle, the run cache, the environment. `weights`: the model's file if it is not
    in the bundle (see `find_weights`)."""

    bundle: Bundle
    cache: Path
    env: Mapping[str, str]
    weights: Path | None = None


def forget_engine_settings(env: MutableMapping[str, str]) -> None:
    """Remove the engine's variables from the environment (`os.environ`, so that C code sees it too)."""
    for name in [name for name in env if name.startswith(_ENGINE_VARIABLES)]:
        del env[name]


def find_weights(options: LaunchOptions, place: Place) -> Place:
    """Decide where the weights are: `-m`, the bundle, or beside a bundle without. Raises ModelError.

    With `-m`, the bundle's manifest then describes those weights instead of its own."""
    bundle = place.bundle
    weights = options.model
    if weights is None and bundle.manifest.member(MODEL) is None:
        weights = _beside(bundle)
    elif weights is not None:
        check_weights(weights)
        bundle = _described(weights, bundle)
        weights = Path((bundle.manifest.model or {})["file"])
    return replace(place, weights=weights, bundle=bundle)


def _described(weights: Path, bundle: Bundle) -> Bundle:
    """The bundle with a manifest that tells of other weights what their header tells. Raises ModelError."""
    from runtime.gguf_facts import file_facts

    facts = {**file_facts(weights), "path": str(weights)}
    return replace(bundle, manifest=replace(bundle.manifest, model=facts, sampling=None, draft=None))


def _beside(bundle: Bundle) -> Path:
    """The weights beside the bundle: by its name, or by the one they were built with, for a bundle that was renamed.

    Raises ModelError if neither is there, or what is wrong with the first that is."""
    first = bundle.path.with_suffix(".gguf")
    built = bundle.path.with_name(Path(str((bundle.manifest.external or {}).get("name") or first.name)).name)
    wrong = None
    for path in filter(Path.is_file, (first, built)):
        try:
            check_weights(path)
            _check_own(path, bundle)
        except ModelError as error:
            wrong = wrong or error
        else:
            return path
    missing = ModelError(f"{bundle.path.name} carries no weights, and {first} is not there", "use -m FILE.gguf")
    raise wrong or missing


def _check_own(weights: Path, bundle: Bundle) -> None:
    """Raise ModelError unless the weights beside are those that the bundle was built with, by size, head and tail."""
    expected = bundle.manifest.external or {}
    found = edges_sha256(weights)
    wrong = [name for name, value in found.items() if expected.get(name, value) != value]
    if wrong:
        size = f": {found['size']:,} bytes, not {expected['size']:,}" if "size" in wrong else ""
        problem = f"{weights} is not what {bundle.path.name} was built with{size}"
        raise ModelError(problem, "put the right file beside it, or name this one with -m to use it anyway")


def check_weights(path: Path) -> None:
    """Raise ModelError unless `path` is a readable file that starts like a GGUF."""
    remedy = "name a GGUF file after -m"
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder, not a model", remedy)
        with path.open("rb") as file:
            start = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {(error.strerror or str(error)).lower()}", remedy) from None
    if not start:
        raise ModelError(f"the model {path} is empty", remedy)
    if start != _GGUF_MAGIC:
        raise ModelError(f"{path} is not a GGUF model: it starts with {start!r}", remedy)


class Session:
    """A started engine. Use `start`, then `ready`, then `close` (or a with statement)."""

    def __init__(self, engine: Engine, plan: Plan, tell: Callable[[str], None]) -> None:
        self.slots = plan.slots  # requests that the engine works on at a time
        self._engine = engine
        self._plan = plan
        self._tell = tell
        self._cleanup = contextlib.ExitStack()
        self._was_ready = False

    @classmethod
    def start(
        cls,
        options: LaunchOptions,
        place: Place,
        listen: Listen | None = None,
        *,
        tell: Callable[[str], None] = lambda notice: None,
    ) -> Self:
        """Load the engine and start it on a thread; returns at once. Without `listen`, at a private door.
        `tell` is called with what the person should know, now and in `ready`.

        Raises ModelError, UsageError, CacheError. What the engine itself finds out is raised by `ready`.
        """
        engine = open_engine(place, verbose=options.verbose)
        choice = choose(options, engine, place.cache, place.env)
        with contextlib.ExitStack() as cleanup:
            if listen is None:
                listen = cleanup.enter_context(_private_door(place.env))
            plan = Plan(options=options, place=place, listen=listen, choice=choice)
            session = cls(engine, plan, tell)
            if not listen.private or options.face is Face.CHAT:
                engine.configure(door(options, place.bundle.manifest))
            session._begin()
            session._cleanup = cleanup.pop_all()
            return session

    def _begin(self) -> None:
        """Start the engine as planned."""
        args, notices = self._plan.command(self._engine)
        self._engine.start(args)
        for notice in filter(None, notices):
            self._tell(notice)

    def ready(self) -> "Client":
        """Wait until the model is loaded. Raises the reason, one line, if the engine gives up instead."""
        from launcher.client import Client

        listen = self._plan.listen
        host = listen.host.partition(",")[0]
        if host.endswith(".sock"):
            client = Client(socket_path=host, prefix=listen.prefix)
        elif listen.private:
            self._wait(lambda: bool(self._engine.port))
            client = Client(host=host, port=self._engine.port, api_key=listen.key)
        else:
            client = Client(host=_loopback(host), port=listen.port, prefix=listen.prefix)
        self._wait(client.ready)
        if not self._was_ready and (notice := loaded(self._plan.choice, self.layers())):
            self._tell(notice)
        self._was_ready = True
        return client

    def _wait(self, ready: Callable[[], bool]) -> None:
        while True:
            try:
                self.check()
            except (UsageError, ListenError):
                raise
            except QwenfileError as error:
                if not self._without_gpu(error):
                    raise
            if ready():
                return
            time.sleep(_POLL)

    def _without_gpu(self, error: QwenfileError) -> bool:
        """Start again on the CPU, if the engine failed with a GPU that nobody had named."""
        choice = self._plan.choice
        if self._was_ready or not choice.devices or choice.wish.named:
            return False
        names = ", ".join(device.name for device in choice.devices)
        self._tell(f"computing on the CPU: {names} failed: {error.message}")
        self._plan = replace(self._plan, choice=replace(choice, devices=(), given_up=True))
        if (host := self._plan.listen.host).endswith(".sock"):
            Path(host).unlink(missing_ok=True)  # the engine leaves it, and cannot bind where one is
        self._begin()
        return True

    def layers(self) -> Layers:
        """Where the model's layers lie, once it is loaded."""
        return self._engine.layers()

    def check(self) -> None:
        """Raise what ended the engine, if it has ended."""
        if not self._engine.running:
            raise explain(self._engine.error_lines(), self._engine.exit_code)

    def check_grammar(self, grammar: str) -> tuple[int, str]:
        """Where a grammar has its mistake, and what it is; see Engine.check_grammar."""
        return self._engine.check_grammar(grammar)

    def close(self) -> None:
        """Stop the engine if others may be connected to it, and remove its socket. Doing so again does nothing.

        A private engine behind a socket is left as it is: `main` ends the process next, and nothing it holds outlives
        that. Behind a port, which is on Windows, it is stopped: there threads that are killed leave their locks held,
        and a process that needs one on its way out hangs (seen under wine).
        """
        if not self._plan.listen.private or self._plan.listen.key:
            with contextlib.suppress(EngineError):  # streams that don't end in time end with the process
                self._engine.stop(_STOP_TIMEOUT)
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _private_door(env: Mapping[str, str]) -> Iterator[Listen]:
    """A Unix socket in a folder of its own; where there are none, a port of this machine and a key to it."""
    if hasattr(socket, "AF_UNIX"):
        with private_folder(env) as folder:
            yield Listen(host=str(folder / "engine.sock"))
    else:
        import secrets

        yield Listen(host="127.0.0.1", key=secrets.token_urlsafe(32))


def open_engine(place: Place, *, verbose: bool) -> Engine:
    """The engine with its backends loaded, nothing started. Raises CacheError, ModelError."""
    engine = Engine(unpack_engine(place.bundle, place.cache))
    tell_crashes(place.bundle.path.stem, engine.last_words)
    engine.verbose(verbose)
    engine.load_backends()
    return engine


def _loopback(host: str) -> str:
    """The address to reach a server on this machine that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


_MODEL_REASONS = (
    re.compile(r"gguf_init\w*: (.+)"),
    re.compile(r"error loading model(?: [a-z]+)?: (.+)"),
    re.compile(r"(invalid magic characters.*|failed to read (?:magic|header|tensor).*)"),
    re.compile(r"(\S+ is not within the file bounds.*)"),
    re.compile(r"(failed to load model.*)"),
)
_ARGUMENTS_REFUSED = 2
_REFUSALS = ("failed to parse grammar", "invalid value for main_gpu")  # of arguments, later than at their reading


def explain(log: Sequence[str], exit_code: int | None) -> QwenfileError:
    """Why the engine ended, from the error lines of its log (oldest first) and its exit code."""
    first = next((plain for line in log if (plain := _plain(line))), f"exit code {exit_code}")
    if exit_code == _ARGUMENTS_REFUSED or any(text in first for text in _REFUSALS):
        return UsageError(f"the engine refuses: {first}", "see --help-engine")
    for line in log:
        if "couldn't bind" in line or "failed to bind" in line:
            return ListenError(f"the engine cannot listen: {_plain(line)}", "choose another --host or --port")
        if ("allocat" in line and "fail" in line) or "bad_alloc" in line:
            return QwenfileError(f"not enough memory: {_plain(line)}", "try a smaller -c, or -ctk q8_0 -ctv q8_0")
    for pattern in _MODEL_REASONS:
        for line in log:
            if found := pattern.search(line):
                return ModelError(f"the model cannot be loaded: {_plain(found[1])}", "check the file")
    return QwenfileError(f"the engine stopped: {first}", "--verbose shows its log")


def _plain(line: str) -> str:
    """A log line without the name of the function that wrote it."""
    return re.sub(r"^(?:(?:srv|slot|que|res|cmn)\s+)?(?:[A-Za-z_][\w~:]*: +)+", "", line.strip())
