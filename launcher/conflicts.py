"""Which flags of --cli contradict each other. Imported by the launcher only."""

from collections.abc import Iterator

from launcher.options import LaunchOptions, Work
from runtime.errors import UsageError


def check(options: LaunchOptions) -> None:
    """Raise UsageError for flags of --cli that cannot be meant together."""
    for one, other, remedy in _contradictions(options):
        raise UsageError(f"{one} and {other} contradict each other", remedy)
    if options.rows is None:
        for name, given in (("-o", options.output is not None), ("--unordered", options.unordered)):
            if given:
                raise UsageError(f"{name} means nothing without --jsonl", "it is for the answers to many rows")


def _contradictions(options: LaunchOptions) -> Iterator[tuple[str, str, str]]:
    """Pairs of flags, and what to do instead."""
    rows, work = options.rows is not None, options.work
    if options.json and options.stream_json:
        yield "--json", "--stream-json", "choose one"
    if options.grammar is not None and options.schema is not None:
        yield "--grammar", "--json-schema", "choose one"
    if rows:
        if options.prompt not in (None, "-") or options.files:
            yield "--jsonl", "-p" if options.prompt is not None else "-f", "each row is a prompt; -sys is said to all"
        for name, given in (("--stream-json", options.stream_json), ("--display-prompt", options.display_prompt)):
            if given:
                yield "--jsonl", name, "rows are answered with one JSON object each"
        if work not in (Work.ANSWER, Work.EMBEDDING):
            yield "--jsonl", work.value, "choose one"
    if work is Work.BENCH and (options.prompt is not None or options.files):
        yield "--bench", "-p" if options.prompt is not None else "-f", "it uses a text of its own"
    if work is not Work.ANSWER and options.stream_json:
        yield work.value, "--stream-json", "choose one"
    if work is not Work.ANSWER and (options.schema is not None or options.grammar is not None):
        yield work.value, "--grammar" if options.grammar is not None else "--json-schema", "nothing is answered"
