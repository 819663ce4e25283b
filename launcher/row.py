"""One row of --jsonl: read, checked, turned into a request, and its answer as JSON. Imported by the launcher only."""

import hashlib
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher.options import LaunchOptions, Work
from launcher.settings import model_name, request
from runtime.bundle import Manifest
from runtime.errors import QwenfileError, UsageError

if TYPE_CHECKING:
    from launcher.client import Client

# Fields of a row that go into its request under their own name, and those with another one.
_SAME = (
    "temperature top_p top_k min_p typical_p top_n_sigma presence_penalty frequency_penalty repeat_penalty "
    "repeat_last_n dynatemp_range dynatemp_exponent xtc_probability xtc_threshold dry_multiplier dry_base "
    "dry_allowed_length dry_penalty_last_n dry_sequence_breakers mirostat mirostat_tau mirostat_eta samplers "
    "logit_bias ignore_eos seed stop n_predict json_schema grammar response_format tools tool_choice"
).split()
_OTHER = {"max_tokens": "n_predict", "max_completion_tokens": "n_predict", "temp": "temperature"}
_OWN = ("prompt", "messages", "id", "system", "think")
FIELDS = (*_OWN, *_OTHER, *_SAME)
_TOKEN_BYTES = 3  # of text, at least, for most languages with Qwen3's vocabulary
_FORMATS = ("json_schema", "grammar", "response_format")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row that can be asked. `line`: its number in the file, from 1; `key`: a hash over all that its answer
    depends on, by which an interrupted run knows it again."""

    line: int
    key: str
    body: Mapping[str, Any]
    prompt: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    id: Any = None


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be asked, and why."""

    line: int
    key: str
    problem: str
    id: Any = None


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of a row: one object of the output, and how many tokens it has cost."""

    line: int
    told: Mapping[str, Any]
    failed: bool
    tokens: int = 0


class Reader:
    """Turns lines into rows, by the options of the command line and the model's settings."""

    def __init__(self, options: LaunchOptions, manifest: Manifest, system: str | None) -> None:
        self._system = system
        self._raw = options.raw
        self._embedding = options.work is Work.EMBEDDING
        self._thinking = bool(options.thinking)
        self._model = model_name(options, manifest)
        self._bodies = {thinking: request(options, manifest, thinking=thinking) for thinking in (False, True)}

    def read(self, line: int, data: bytes) -> Row | BadRow:
        """The row of a line; a BadRow if it is none."""
        fields: Any = None
        try:
            fields = _parse(data)
            body = self._body(fields)
            messages = () if self._raw or self._embedding else self._messages(fields)
            prompt = "" if messages else _prompt(fields)
        except UsageError as error:
            given = fields.get("id") if isinstance(fields, dict) else None
            return BadRow(line=line, key=self._key(data.decode(errors="replace")), problem=str(error), id=given)
        key = self._key([prompt, messages, {} if self._embedding else body])
        return Row(line=line, key=key, body=body, prompt=prompt, messages=messages, id=fields.get("id"))

    def _key(self, about: Any) -> str:
        text = json.dumps([self._model, self._raw, self._embedding, about], sort_keys=True)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]

    def _body(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        for name in fields:
            if name not in FIELDS:
                raise UsageError(f"unknown field {name!r}", _nearest(name))
        thinking = fields.get("think", self._thinking)
        if not isinstance(thinking, bool):
            raise UsageError(f"think must be true or false, not {json.dumps(thinking)}")
        body = dict(self._bodies[thinking])
        changes = {_OTHER.get(name, name): value for name, value in fields.items() if name not in _OWN}
        if any(name in changes for name in _FORMATS):
            body = {name: value for name, value in body.items() if name not in _FORMATS}
        if changes.get("mirostat", 0) not in (0, 1, 2):  # the engine would crash
            raise UsageError("mirostat is 0, 1 or 2")
        if changes.get("n_predict") == 0:
            raise UsageError("at most 0 tokens is no answer", "use 1 or more")
        return body | changes

    def _messages(self, fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        system = fields.get("system", self._system)
        if system is not None and not isinstance(system, str):
            raise UsageError("system must be a text")
        messages = fields.get("messages")
        if messages is None:
            messages = [{"role": "user", "content": _prompt(fields)}]
        elif "prompt" in fields:
            raise UsageError("prompt and messages contradict each other", "use one of them")
        elif not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
            raise UsageError("messages must be a list of objects with role and content")
        has_system = messages[0].get("role") == "system"
        return (*([{"role": "system", "content": system}] if system and not has_system else []), *messages)


def expected_tokens(row: Row) -> float:
    """About how many tokens its prompt and its longest answer have; infinite if nothing limits the answer."""
    asked = len(json.dumps(row.messages or row.prompt, ensure_ascii=False).encode(errors="replace"))
    answered = row.body.get("n_predict")
    return asked / _TOKEN_BYTES + (answered if isinstance(answered, int) and answered > 0 else math.inf)


def answer(client: "Client", row: Row, *, raw: bool, embedding: bool) -> Told:
    """Ask a row. Raises QwenfileError if the engine refuses or fails."""
    from launcher.answer import ask, complete, embed

    head = {"line": row.line, **({"id": row.id} if row.id is not None else {})}
    if embedding:
        vector, tokens = embed(client, row.prompt)
        return Told(
            line=row.line,
            told={**head, "embedding": vector, "prompt_tokens": tokens, "key": row.key},
            failed=False,
            tokens=tokens,
        )
    body = dict(row.body)
    if body.setdefault("seed", -1) == -1:
        body["seed"] = random.SystemRandom().randrange(2**32 - 1)
    said = complete(client, row.prompt, body) if raw else ask(client, row.messages, body)
    told = {**head, **said.as_json(), "seed": body["seed"], "key": row.key}
    return Told(line=row.line, told=told, failed=False, tokens=said.completion_tokens)


def failure(row: Row | BadRow, error: str | QwenfileError) -> Told:
    """What the output says about a row that has no answer."""
    head = {"line": row.line, **({"id": row.id} if row.id is not None else {})}
    return Told(line=row.line, told={**head, "error": {"message": str(error)}, "key": row.key}, failed=True)


def _parse(data: bytes) -> Mapping[str, Any]:
    """A row's fields; a JSON string is a prompt."""
    try:
        value = json.loads(data)
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start:,}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}", 'a row is a text in quotes or {"prompt": "..."}') from None
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        raise UsageError(f"a row is a text or an object, not {json.dumps(value)[:40]}", '{"prompt": "..."}')
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise UsageError("a row holds half a character or a number that JSON doesn't know") from None
    return value


def _prompt(fields: Mapping[str, Any]) -> str:
    prompt = fields.get("prompt")
    if prompt is None:
        raise UsageError("no prompt" if "messages" not in fields else "messages need the chat template")
    if not isinstance(prompt, str):
        raise UsageError("prompt must be a text")
    if not prompt.strip():
        raise UsageError("the prompt is empty")
    return prompt


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, FIELDS, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else "rows have prompt or messages, id, and settings"
