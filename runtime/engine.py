"""The llama.cpp engine in this process, through the C ABI of libengine (runtime/native/engine.h).

Everybody may import it; it imports the standard library only. Every call releases the interpreter's lock. One engine
per process: the libraries keep their state for as long as the process lives.

    engine = Engine(folder)            # the folder that holds libengine and the backends
    engine.load_backends()             # the processor's; engine.load_backend("vulkan") adds a GPU's
    engine.add_model(MODEL, bundle, offset)
    engine.start(["-m", MODEL, "--host", "/path/to.sock", ...])
    ... HTTP ...
    engine.stop(timeout=5)
"""

import ctypes
import json
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runtime.errors import QwenfileError
from runtime.layers import Layers

# "llama_model_load: error loading model: …" and "srv    load_model: failed …": who said it helps nobody here
_SPEAKER = re.compile(r"^(?:(?:srv|slot|que|res|cmn)\s+)?\s*[A-Za-z_][\w~:]*: +(?=\S)")
_LIBRARY_NAMES = ("libengine.so", "libengine.dylib", "engine.dll", "libengine.dll")


class EngineError(QwenfileError):
    """The engine cannot be loaded, or failed for a reason that is neither the model's nor the address's."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A processor that the engine can use. Memory in bytes, 0 when the driver doesn't say."""

    name: str
    description: str
    kind: str  # cpu, gpu, igpu (shares the computer's memory), accel
    backend: str
    memory_total: int
    memory_free: int


class _Fill(Protocol):
    """A function of the C ABI that fills a buffer and returns the length of the whole text."""

    def __call__(self, buffer: Any, size: int, /) -> int: ...


class Engine:
    """libengine of one folder. `folder` holds it and the backends: `lib/` of a built engine, or a bundle's cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._library = _load(folder)
        self._thread: threading.Thread | None = None
        self._exit_code: int | None = None

    @property
    def version(self) -> str:
        """llama.cpp's version and commit, such as "0.5.0 (0c1e570)"."""
        text: bytes = self._library.engine_version()
        return text.decode()

    def load_backends(self) -> int:
        """Load the processor's backend that fits it best, from the engine's folder alone; the number of devices."""
        count: int = self._library.engine_load_backends(os.fsencode(self.folder))
        if count == 0:
            raise EngineError(f"no CPU library in {self.folder} runs on this machine")
        return count

    def load_backend(self, name: str) -> tuple[int, str]:
        """After `load_backends`, load a GPU's (`vulkan`, `cuda`, `metal`): how many devices it has; -1 and why not.

        Why: `missing`, `unsupported` (by the machine or its driver), or the linker's own words."""
        reason = ctypes.create_string_buffer(1024)
        count: int = self._library.engine_load_backend(name.encode(), reason, len(reason))
        return count, reason.value.decode(errors="replace")

    def survey(self, backend: str) -> tuple[tuple[str, ...], ...]:
        """What a loaded backend's driver says about devices: rows of type, name, driver, version; see engine.h."""
        text = ctypes.create_string_buffer(16_384)
        self._library.engine_survey(backend.encode(), text, len(text))
        lines = text.value.decode(errors="replace").splitlines()
        return tuple(tuple(field.strip() for field in line.split("\t")) for line in lines)

    def try_out(self, device: str) -> str:
        """Compute a little on a device: what is wrong with it, "" if nothing is. A bad driver may end the process."""
        reason = ctypes.create_string_buffer(1024)
        self._library.engine_try(device.encode(), reason, len(reason))
        return reason.value.decode(errors="replace")

    def layers(self) -> Layers:
        """Where the layers of the served model lie; none before it is loaded."""
        return Layers.from_json(json.loads(_text(self._library.engine_layers)))

    def devices(self) -> tuple[Device, ...]:
        """What has been loaded, the CPU included."""
        found = json.loads(_text(self._library.engine_devices))
        return tuple(
            Device(
                name=item["name"],
                description=item["description"],
                kind=item["type"],
                backend=item["backend"],
                memory_total=item["memory_total"],
                memory_free=item["memory_free"],
            )
            for item in found
        )

    def add_model(self, name: str, file: Path, offset: int) -> None:
        """From now on `-m name` is the GGUF at byte `offset` of `file`, mapped in place."""
        if self._library.engine_add_model(name.encode(), os.fsencode(file), offset) != 0:
            raise EngineError(f"cannot register a model named {name!r} at offset {offset}")

    def configure(self, settings: Mapping[str, Any]) -> None:
        """What the server's arguments cannot say, for the next `start`; the keys are those of `engine_configure`."""
        if self._library.engine_configure(json.dumps(settings).encode()) != 0:
            raise EngineError(f"the engine does not understand these settings: {json.dumps(settings)}")

    def check(self, args: Sequence[str]) -> str:
        """Why the engine would refuse these arguments, in one line; "" when it accepts them."""
        argc, argv = _arguments(args)
        text = ctypes.create_string_buffer(4096)
        self._library.engine_check_args(argc, argv, text, len(text))
        return _one_line(text.value.decode(errors="replace"))

    def start(self, args: Sequence[str]) -> None:
        """Serve with llama-server's arguments on a thread of its own. Ready is when `/health` answers 200."""
        if self.running:
            raise EngineError("the engine is running already")
        argc, argv = _arguments(args)
        self._exit_code = None

        def serve() -> None:
            self._exit_code = self._library.engine_serve(argc, argv)

        self._thread = threading.Thread(target=serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Between `start` and the end of the server; also while the model is still being loaded."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def port(self) -> int:
        """Where the server listens, after `--port 0`; 0 before it is ready."""
        number: int = self._library.engine_port()
        return number

    @property
    def exit_code(self) -> int | None:
        """0 after `stop`, 2 for refused arguments, 1 for other failures; None before the end."""
        return None if self.running else self._exit_code

    def last_error(self) -> str:
        """The reason of the last failure in one line, from the engine's log; "" when it logged none."""
        return _one_line(_text(self._library.engine_last_error))

    def error_lines(self) -> tuple[str, ...]:
        """All error lines since the last start as they were logged, oldest first."""
        return tuple(_text(self._library.engine_last_error).splitlines())

    def last_words(self) -> str:
        """Why the engine is giving up, for a handler of SIGABRT; "" when it isn't."""
        return _one_line(_text(self._library.engine_last_words))

    def stop(self, timeout: float) -> int:
        """End the server and return its exit code. Safe at any time, also when the start failed or never came.

        The server waits for requests in flight: close their connections first. Raises EngineError when it hasn't
        ended after `timeout` seconds; its thread doesn't keep the process alive.
        """
        end = time.monotonic() + timeout
        while self._thread is not None and self._thread.is_alive():
            # repeated: the first may come before the thread has entered the engine
            self._library.engine_stop()
            self._thread.join(min(0.05, max(0.0, end - time.monotonic())))
            if self._thread.is_alive() and time.monotonic() >= end:
                raise EngineError(f"the engine did not stop within {timeout:g} s")
        return self._exit_code or 0

    def load_vocabulary(self, name: str) -> None:
        """Read the vocabulary of a registered model or a file, and nothing else of it. Raises EngineError."""
        if self._library.engine_load_vocabulary(os.fsencode(name)) != 0:
            raise EngineError(self.last_error() or f"the model {name} cannot be read")

    def tokenize(self, text: str) -> list[int]:
        """The tokens of a prompt, by the vocabulary of `load_vocabulary`."""
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        count = self._library.engine_tokenize(data, len(data), room, len(room))
        if count < 0:
            raise EngineError("a text of 2 GB or more has too many tokens")
        return list(room[:count])

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; they need not be whole characters."""
        size = self._library.engine_piece(token, None, 0)
        room = ctypes.create_string_buffer(size)
        self._library.engine_piece(token, room, size)
        return room.raw

    def check_grammar(self, grammar: str) -> tuple[int, str]:
        """Where a grammar has its mistake, a byte (-2: nowhere in particular), and why; -1 and "" if it has none."""
        reason = ctypes.create_string_buffer(1024)
        place: int = self._library.engine_check_grammar(grammar.encode(), reason, len(reason))
        return place, reason.value.decode(errors="replace")

    def verbose(self, on: bool) -> None:
        """Send the engine's log to standard error, or (the default) nowhere."""
        self._library.engine_verbose(int(on))


def _load(folder: Path) -> ctypes.CDLL:
    path = next((folder / name for name in _LIBRARY_NAMES if (folder / name).is_file()), None)
    if path is None:
        raise EngineError(f"no engine in {folder}")
    try:
        library = ctypes.CDLL(str(path.absolute()))
    except OSError as error:
        # frozen, PyInstaller hides the linker's reason behind one of its own
        raise EngineError(f"the engine cannot be loaded: {error.__cause__ or error}") from error
    text, number, pointers = ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)
    library.engine_version.restype = text
    library.engine_load_backends.argtypes = [text]
    library.engine_add_model.argtypes = [text, text, ctypes.c_int64]
    told = (library.engine_last_error, library.engine_last_words)
    for fill in (library.engine_devices, library.engine_flags, library.engine_layers, *told):
        fill.argtypes = [text, ctypes.c_size_t]
    for ask in (library.engine_load_backend, library.engine_survey, library.engine_try):
        ask.argtypes = [text, text, ctypes.c_size_t]
    library.engine_check_args.argtypes = [number, pointers, ctypes.c_char_p, ctypes.c_size_t]
    library.engine_configure.argtypes = [text]
    library.engine_serve.argtypes = [number, pointers]
    library.engine_stop.restype = None
    library.engine_verbose.argtypes = [number]
    library.engine_verbose.restype = None
    library.engine_load_vocabulary.argtypes = [text]
    library.engine_tokenize.argtypes = [text, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int32), ctypes.c_size_t]
    library.engine_piece.argtypes = [ctypes.c_int32, text, ctypes.c_size_t]
    library.engine_check_grammar.argtypes = [text, text, ctypes.c_size_t]
    library.engine_check_grammar.restype = ctypes.c_int64
    return library


def _arguments(args: Sequence[str]) -> tuple[int, "ctypes.Array[ctypes.c_char_p]"]:
    """argc and argv; the engine skips argv[0]."""
    values = [b"engine", *(os.fsencode(arg) for arg in args)]
    return len(values), (ctypes.c_char_p * (len(values) + 1))(*values, None)


def _text(fill: _Fill) -> str:
    """Ask for the length, then for the text."""
    size = fill(None, 0) + 1
    buffer = ctypes.create_string_buffer(size)
    fill(buffer, size)
    return buffer.value.decode(errors="replace")


def _one_line(text: str) -> str:
    """The first line that says something, without the name of the function that logged it."""
    for line in text.splitlines():
        plain = line.strip()
        while found := _SPEAKER.match(plain):
            plain = plain[found.end() :]
        if plain:
            return plain
    return ""
