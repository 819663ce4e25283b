"""The engine at work for --cli: its notices are told, and its own reason is the one when it fails. Launcher only."""

import contextlib
from collections.abc import Callable, Iterator

from launcher.console import Console
from launcher.options import LaunchOptions
from launcher.session import Place, Session
from runtime.errors import ContextError, QwenfileError


@contextlib.contextmanager
def engine_at_work(options: LaunchOptions, place: Place, console: Console) -> Iterator[Session]:
    """A started engine. Raises what Session.start does; if the engine dies later, its own reason.

    `place`: with its weights found (`find_weights`)."""
    with Session.start(options, place, tell=console.complain) as session:
        if options.grammar is not None:
            from launcher.grammar import check

            check(session, options.grammar)
        try:
            yield session
        except QwenfileError:
            session.check()
            raise


def room_of(session: Session) -> Callable[[str], None]:
    """A function that raises ContextError if a text, or the beginning of one, is more than the context holds."""

    def fits(text: str) -> None:
        client = session.ready()
        tokens, size = client.tokens(text), client.context_size()
        if tokens > size:
            problem = f"the input has more than {tokens:,} tokens, the context holds {size:,}"
            raise ContextError(problem, "shorten it, or start with a larger -c")

    return fits
