"""Face 2: one prompt, one answer, for scripts and pipes. Imported by `launcher.__main__` only.

stdout carries the answer, flushed as it streams and ended by exactly one new line; everything else is stderr.
"""

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from launcher.console import Console
from launcher.options import LaunchOptions
from launcher.session import Place, Session, find_weights
from launcher.texts import gather_prompt, read_stdin, read_text, system_prompt
from runtime.errors import QwenfileError, UsageError

if TYPE_CHECKING:
    from launcher.client import ChatEvent, Client, Finished


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Answer the prompt of the command line, of files and of standard input. Returns the exit code."""
    if options.prompt is None and not options.files and console.reads_terminal:
        raise UsageError("no prompt", "give one after -p, in a file after -f, or on standard input")
    texts = [read_text(file) for file in options.files]
    system = system_prompt(options)
    place = find_weights(options, place)
    with Session.start(options, place) as session:
        for notice in session.notices:
            console.complain(notice)
        prompt = gather_prompt(options, texts, read_stdin(options, console))
        client = session.ready()
        try:
            return _answer(client, options, place, console, prompt=prompt, system=system)
        except QwenfileError:
            session.check()  # if the engine is gone, its own reason is the better one
            raise


def _answer(
    client: "Client", options: LaunchOptions, place: Place, console: Console, *, prompt: str, system: str | None
) -> int:
    from launcher.settings import request

    manifest = place.bundle.manifest
    body = request(options, manifest, thinking=bool(options.thinking))
    if options.json and body.setdefault("seed", -1) < 0:
        import random

        body["seed"] = random.SystemRandom().randrange(2**32 - 1)
    if options.raw:
        events = client.complete(prompt, body)
    else:
        head = [{"role": "system", "content": system}] if system else []
        events = client.chat([*head, {"role": "user", "content": prompt}], body)
    with contextlib.closing(events):
        if options.json:
            console.answer(_as_json(events, options, place, seed=body["seed"]) + "\n")
        else:
            _stream(events, options, console)
    return 0


def _stream(events: Generator["ChatEvent", None, None], options: LaunchOptions, console: Console) -> None:
    """Write the answer as it comes; on an interruption, too, it ends with its new line."""
    from launcher.client import Content, Finished, Reasoning

    writer = AnswerWriter(console, keep_start=options.raw)
    thought = False
    try:
        for event in events:
            match event:
                case Content(text):
                    writer.write(text)
                case Reasoning(text) if options.show_thinking:
                    thought = True
                    console.stderr.write(text)
                    console.stderr.flush()
                case Finished(reason="length") if options.predict is None:
                    console.complain("the answer was cut: the context is full (a larger -c gives it more room)")
    except KeyboardInterrupt:
        writer.end()
        raise
    if thought:
        console.stderr.write("\n")
    writer.end()


class AnswerWriter:
    """Writes pieces of an answer at once, but holds new lines back until more follows, so that one ends it.

    `keep_start`: new lines before the first word belong to the answer (plain completions), else they are dropped.
    """

    def __init__(self, console: Console, *, keep_start: bool = False) -> None:
        self._console = console
        self._held = ""
        self._started = keep_start

    def write(self, text: str) -> None:
        if not self._started:
            text = text.lstrip("\n")
            self._started = bool(text)
        text = self._held + text
        body = text.rstrip("\n")
        self._held = text[len(body) :]
        if body:
            self._console.answer(body)

    def end(self) -> None:
        self._held = ""
        self._console.answer("\n")


def _as_json(events: Iterator["ChatEvent"], options: LaunchOptions, place: Place, *, seed: int) -> str:
    import json

    from launcher.client import Content, Finished, Reasoning, ToolCalls
    from launcher.settings import model_name

    texts: list[str] = []
    thoughts: list[str] = []
    answer: dict[str, Any] = {"model": model_name(options, place.bundle.manifest), "text": "", "reasoning": None}
    for event in events:
        match event:
            case Content(text):
                texts.append(text)
            case Reasoning(text):
                thoughts.append(text)
            case ToolCalls(calls):
                answer["tool_calls"] = list(calls)
            case Finished():
                answer |= _ending(event)
    text = "".join(texts)
    answer["text"] = text if options.raw else text.strip("\n")
    answer["reasoning"] = "".join(thoughts).strip("\n") or None
    return json.dumps({**answer, "seed": seed}, ensure_ascii=False)


def _ending(finished: "Finished") -> dict[str, Any]:
    timings = finished.timings
    return {
        "finish_reason": finished.reason,
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "timings": {
            "prompt_ms": timings.prompt_ms,
            "prompt_tokens": timings.prompt,
            "cached_tokens": timings.cached,
            "generation_ms": timings.generated_ms,
        },
    }
