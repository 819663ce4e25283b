"""Face 2: for scripts and pipes. Imported by `launcher.__main__` only.

stdout carries the answer, flushed as it streams and ended by exactly one new line; everything else is stderr. Other
work than answering one prompt is in modules of its own, imported when it is asked for.
"""

import contextlib
import json
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from launcher.conflicts import check
from launcher.console import Console
from launcher.options import LaunchOptions, Work
from launcher.session import Place, find_weights
from launcher.signals import end_with_reader
from launcher.texts import check_files, read_prompt, system_prompt
from launcher.work import engine_at_work, room_of
from runtime.errors import UsageError

if TYPE_CHECKING:
    from launcher.client import ChatEvent, Client


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Do what the command line asks for. Returns the exit code."""
    check(options)
    place = find_weights(options, place)  # its manifest describes them from here on
    if options.rows is not None:
        from launcher import rows

        return rows.run(options, place, console)
    if options.work is Work.BENCH:
        from launcher import measure

        return measure.run(options, place, console)
    if options.prompt is None and not options.files and console.reads_terminal:
        raise UsageError("no prompt", "give one after -p, in a file after -f, or on standard input")
    if options.work in (Work.TOKENIZE, Work.COUNT_TOKENS):
        from launcher import tokens

        return tokens.run(options, place, console)
    system = system_prompt(options)
    check_files(options.files)
    end_with_reader(console.stdout)
    with engine_at_work(options, place, console) as session:
        prompt = read_prompt(options, console, room_of(session))
        client = session.ready()
        if options.work is Work.EMBEDDING:
            _embed(client, options, place, console, prompt=prompt)
        else:
            _answer(client, options, place, console, prompt=prompt, system=system)
    return 0


def _embed(client: "Client", options: LaunchOptions, place: Place, console: Console, *, prompt: str) -> None:
    """The vector of a text, its length 1."""
    from launcher.answer import embed
    from launcher.settings import model_name

    vector, tokens = embed(client, prompt)
    told = {"model": model_name(options, place.bundle.manifest), "embedding": vector, "prompt_tokens": tokens}
    console.answer(json.dumps(told) + "\n")


def _answer(
    client: "Client", options: LaunchOptions, place: Place, console: Console, *, prompt: str, system: str | None
) -> None:
    from launcher.settings import model_name, request

    manifest = place.bundle.manifest
    body = request(options, manifest, thinking=bool(options.thinking))
    told = options.json or options.stream_json
    if told and body.setdefault("seed", -1) < 0:
        import random

        body["seed"] = random.SystemRandom().randrange(2**32 - 1)
    if options.raw:
        events = client.complete(prompt, body)
    else:
        head = [{"role": "system", "content": system}] if system else []
        events = client.chat([*head, {"role": "user", "content": prompt}], body)
    with contextlib.closing(events):
        if told:
            facts = {"seed": body["seed"], "compute": client.properties().get("compute")}
            _tell(events, options, console, {"model": model_name(options, manifest), **facts})
        else:
            if options.display_prompt:
                console.answer(prompt if options.raw else prompt.rstrip("\n") + "\n\n")
            _stream(events, options, console)


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


def _tell(
    events: Generator["ChatEvent", None, None], options: LaunchOptions, console: Console, facts: dict[str, Any]
) -> None:
    """The answer as JSON: one object, or with --stream-json one a piece and the rest at the end."""
    from launcher.answer import gather, timings_json
    from launcher.client import Content, Reasoning

    def seen() -> Generator["ChatEvent", None, None]:
        for event in events:
            match event:
                case Content(text):
                    _line(console, {"event": "text", "text": text})
                case Reasoning(text):
                    _line(console, {"event": "reasoning", "text": text})
            yield event

    answer = gather(seen() if options.stream_json else events, raw=options.raw)
    told = {"model": facts["model"], **answer.as_json(), "timings": timings_json(answer.timings), **facts}
    if options.stream_json:
        told = {"event": "end", **{name: value for name, value in told.items() if name not in ("text", "reasoning")}}
    _line(console, told)


def _line(console: Console, told: dict[str, Any]) -> None:
    console.answer(json.dumps(told, ensure_ascii=False) + "\n")
