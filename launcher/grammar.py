"""Mistakes in grammars, told with line and column before anything is generated. Imported by the launcher only."""

from typing import Protocol

from runtime.errors import UsageError

_FINE = -1
_SHOWN = 60


class Checker(Protocol):
    """What knows grammars; `launcher.session.Session` is one."""

    def check_grammar(self, grammar: str) -> tuple[int, str]: ...


def check(checker: Checker, grammar: str) -> None:
    """Raise UsageError if the engine's parser doesn't take the grammar, naming line, column and what stands there."""
    at, reason = checker.check_grammar(grammar)
    if at == _FINE:
        return
    if at < 0:
        raise UsageError(f"the grammar has a mistake: {reason}", "see llama.cpp's grammars/README.md")
    raise UsageError(f"the grammar has a mistake in {describe(grammar, at)}: {reason}")


def describe(grammar: str, at: int) -> str:
    """`line 2, column 7 (at '...')` for byte `at` of the grammar's UTF-8; lines and columns start at 1."""
    data = grammar.encode()
    before = data[:at].decode(errors="ignore")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    rest = data[at:].decode(errors="ignore").split("\n")[0].strip()
    seen = f"at {rest[:_SHOWN]!r}" if rest else "at its end"
    return f"line {line}, column {column} ({seen})"
