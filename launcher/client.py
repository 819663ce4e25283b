"""HTTP to the engine over a Unix socket or TCP: streamed ChatEvents, token counts, errors. Launcher only.

Every request has a connection of its own: closing it, as an interrupted generator does, makes the engine stop.
Responses are closed by name, never left to their finalizer: Python swallows a KeyboardInterrupt that arrives in one.
"""

import contextlib
import http.client
import json
import os
import select
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import ContextError, QwenfileError, UsageError

_PIECE = 65_536
_WAKE = 0.2  # seconds
# What the engine's messages about schemas have in common, before "at PLACE: REASON"; # is the schema's root.
_SCHEMA_ERROR = "JSON schema error "

Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Timings:
    """What the engine measured: tokens read anew, reused from its cache, and generated; milliseconds for each; tokens
    that a draft model guessed, and how many of them were right."""

    prompt: int = 0
    cached: int = 0
    prompt_ms: float = 0.0
    generated: int = 0
    generated_ms: float = 0.0
    guessed: int = 0
    accepted: int = 0

    def __add__(self, other: "Timings") -> "Timings":
        return Timings(
            prompt=self.prompt + other.prompt,
            cached=self.cached + other.cached,
            prompt_ms=self.prompt_ms + other.prompt_ms,
            generated=self.generated + other.generated,
            generated_ms=self.generated_ms + other.generated_ms,
            guessed=self.guessed + other.guessed,
            accepted=self.accepted + other.accepted,
        )


@dataclass(frozen=True)
class Reasoning:
    """A piece of the model's thinking."""

    text: str


@dataclass(frozen=True)
class Content:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class ToolCalls:
    """The tools that the model wants called, as in the OpenAI API: id, type, function with name and arguments."""

    calls: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the engine has read the prompt, in tokens; `cached` of `done` it knew already. Milliseconds so far."""

    done: int
    total: int
    cached: int
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end. `reason`: stop, length or tool_calls; tokens of the whole prompt and of the completion."""

    reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    timings: Timings = Timings()


ChatEvent = Reasoning | Content | ToolCalls | Progress | Finished


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


class _PortConnection(http.client.HTTPConnection):
    """HTTP over TCP, from which Ctrl-C gets through on Windows, too: there it does not wake who waits for a socket."""

    def connect(self) -> None:
        super().connect()
        if os.name == "nt":
            plain = self.sock
            self.sock = _WakefulSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())


class _WakefulSocket(socket.socket):
    def recv_into(self, *arguments: Any) -> int:
        while not select.select([self], [], [], _WAKE)[0]:
            pass
        return super().recv_into(*arguments)


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client of one engine. `socket_path`, or else `host` and `port`; `api_key` if it wants one.

    All methods raise ContextError if the prompt doesn't fit, UsageError if the engine rejects the request, and
    QwenfileError if it cannot be reached or breaks off.
    """

    socket_path: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    api_key: str = ""
    prefix: str = ""  # of all paths, as in --api-prefix

    def ready(self) -> bool:
        """Whether the engine listens and has loaded its model."""
        connection = self._connection()
        try:
            connection.request("GET", self.prefix + "/health")
            with connection.getresponse() as response:
                return response.status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A plain connection to the engine."""
        connection = self._connection()
        connection.connect()
        return connection.sock

    def properties(self) -> Mapping[str, Any]:
        """The engine's /props: model, chat template, default settings."""
        return self._json("GET", "/props")

    def context_size(self) -> int:
        """Tokens of context that a conversation has."""
        return int(self.properties()["default_generation_settings"]["n_ctx"])

    def count(self, messages: Sequence[Message], request: Mapping[str, Any]) -> int:
        """How many tokens the prompt of these messages has."""
        body = {**request, "messages": list(messages)}
        return int(self._json("POST", "/v1/chat/completions/input_tokens", body)["input_tokens"])

    def tokens(self, text: str) -> int:
        """How many tokens a text has, without the chat template."""
        return len(self._json("POST", "/tokenize", {"content": text})["tokens"])

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask for an answer in one piece."""
        return self._json("POST", path, body)

    def chat(self, messages: Sequence[Message], request: Mapping[str, Any]) -> Generator[ChatEvent, None, None]:
        """Stream the answer to a conversation; `request` holds sampling and the like."""
        body = {**request, "messages": list(messages), "stream": True, "stream_options": {"include_usage": True}}
        return _chat_events(self._stream("/v1/chat/completions", body))

    def complete(self, prompt: str, request: Mapping[str, Any]) -> Generator[ChatEvent, None, None]:
        """Stream the continuation of plain text, without the chat template."""
        fields = {name: value for name, value in request.items() if name != "chat_template_kwargs"}
        return _completion_events(self._stream("/completion", {**fields, "prompt": prompt, "stream": True}))

    def read_ahead(self, prompt: str) -> Callable[[], None]:
        """Let the engine read a prompt into its cache; returns what stops that. Raises no errors.

        Nobody waits for the answer: some hundred bytes for each batch of tokens, which may lie in the socket.
        """
        body = {"prompt": prompt, "n_predict": 0, "stream": True, "return_progress": True}
        connection = self._connection()
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(
                "POST", "/completion", json.dumps(body).encode(), {**self._headers(), "Connection": "close"}
            )
        return connection.close

    def _connection(self) -> http.client.HTTPConnection:
        if self.socket_path:
            return _UnixConnection(self.socket_path)
        return _PortConnection(self.host, self.port)

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"Content-Type": "application/json", **key}

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, self._headers())
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise _refusal(response.status, response.read())
        return response

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        connection = self._connection()
        try:
            with self._send(connection, method, path, body) as response:
                answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _broken(error) from error
        finally:
            connection.close()
        return answer if isinstance(answer, dict) else {}

    def _stream(self, path: str, body: Mapping[str, Any]) -> Generator[Mapping[str, Any], None, None]:
        connection = self._connection()
        try:
            with self._send(connection, "POST", path, body) as response:
                yield from _server_events(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _broken(error) from error
        finally:
            connection.close()


def _server_events(response: http.client.HTTPResponse) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a stream of server-sent events. Lines are split before they are decoded, so a character
    cut in two by the transport comes together again."""
    rest = b""
    while piece := response.read1(_PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            name, _, data = line.strip().partition(b":")
            if name not in (b"data", b"error") or data.strip() == b"[DONE]":
                continue
            event = json.loads(data)
            if name == b"error" or "error" in event:
                raise _error(event.get("error", event))
            yield event


def _chat_events(stream: Iterator[Mapping[str, Any]]) -> Generator[ChatEvent, None, None]:
    reason, usage, timings, calls = "", {}, Timings(), {}  # type: str, Mapping[str, int], Timings, dict[int, Any]
    for event in stream:
        usage = event.get("usage") or usage
        timings = timings_of(event["timings"]) if event.get("timings") else timings
        if progress := event.get("prompt_progress"):
            yield _progress(progress)
        for choice in event.get("choices", ()):
            reason = choice.get("finish_reason") or reason
            delta = choice.get("delta") or {}
            if text := delta.get("reasoning_content"):
                yield Reasoning(text)
            if text := delta.get("content"):
                yield Content(text)
            for call in delta.get("tool_calls") or ():
                _merge(calls, call)
    if not reason:
        raise QwenfileError("the engine broke off in the middle of the answer")
    if calls:
        yield ToolCalls(tuple(calls[index] for index in sorted(calls)))
    yield Finished(
        reason=reason,
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        timings=timings,
    )


def _completion_events(stream: Iterator[Mapping[str, Any]]) -> Generator[ChatEvent, None, None]:
    for event in stream:
        if text := event.get("content"):
            yield Content(text)
        if event.get("stop"):
            yield Finished(
                reason="length" if event.get("stop_type") == "limit" else "stop",
                prompt_tokens=event.get("tokens_evaluated", 0),
                completion_tokens=event.get("tokens_predicted", 0),
                timings=timings_of(event.get("timings") or {}),
            )
            return
    raise QwenfileError("the engine broke off in the middle of the answer")


def _merge(calls: dict[int, Any], delta: Mapping[str, Any]) -> None:
    """Add a piece of a tool call to what came before: names and ids come once, arguments piece by piece."""
    call = calls.setdefault(
        delta.get("index", 0), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
    )
    call["id"] = delta.get("id") or call["id"]
    for name, text in (delta.get("function") or {}).items():
        call["function"][name] = call["function"].get(name, "") + (text or "")


def _progress(progress: Mapping[str, Any]) -> Progress:
    return Progress(
        done=progress.get("processed", 0),
        total=progress.get("total", 0),
        cached=progress.get("cache", 0),
        milliseconds=progress.get("time_ms", 0.0),
    )


def timings_of(timings: Mapping[str, Any]) -> Timings:
    """The engine's `timings` object as ours."""
    return Timings(
        prompt=timings.get("prompt_n", 0),
        cached=timings.get("cache_n", 0),
        prompt_ms=timings.get("prompt_ms", 0.0),
        generated=timings.get("predicted_n", 0),
        generated_ms=timings.get("predicted_ms", 0.0),
        guessed=timings.get("draft_n", 0),
        accepted=timings.get("draft_n_accepted", 0),
    )


def _refusal(status: int, body: bytes) -> QwenfileError:
    """The error in an answer that is not 200."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = {"code": status, "message": body.decode(errors="replace").strip() or f"HTTP status {status}"}
    return _error(error)


def _error(error: Any) -> QwenfileError:
    """The engine's error object as one of ours."""
    facts = error if isinstance(error, dict) else {"message": str(error)}
    if facts.get("type") == "exceed_context_size_error":
        tokens, size = int(facts.get("n_prompt_tokens", 0)), int(facts.get("n_ctx", 0))
        wanted = -(-(tokens + 1) // 1024) * 1024
        problem = f"the input has {tokens:,} tokens, the context holds {size:,}"
        return ContextError(problem, f"shorten it, or start with -c {wanted} or more")
    message = " ".join(str(facts.get("message", "unknown error")).split())
    if _SCHEMA_ERROR in message:
        return UsageError(f"the JSON schema has a mistake {message.partition(_SCHEMA_ERROR)[2]}")
    if facts.get("code") in (400, 422):
        return UsageError(f"the engine refuses: {message}")
    return QwenfileError(f"the engine failed: {message}")


def _broken(error: Exception) -> QwenfileError:
    return QwenfileError(f"the connection to the engine broke: {error or type(error).__name__}")
