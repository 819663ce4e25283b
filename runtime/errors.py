"""The error tree: what happened, what to do next, and the exit code. Everybody may import it.

`main` of each program catches `QwenfileError` once and prints `str(error)`; every other exception is a defect
and shows a traceback only with `--debug`. Exit codes follow the table in the README.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process returns to its caller."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    MODEL = 3
    CONTEXT = 4
    LISTEN = 5
    NO_CACHE = 126
    INTERRUPTED = 130


class QwenfileError(Exception):
    """A failure the user can understand. `message` says what happened, with numbers; `remedy` what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class UsageError(QwenfileError):
    """The command line contradicts itself or names something that does not exist."""

    exit_code = ExitCode.USAGE


class ModelError(QwenfileError):
    """The model, or the bundle that carries it, is missing, damaged or of an unsupported kind."""

    exit_code = ExitCode.MODEL


class ContextError(QwenfileError):
    """The input does not fit into the context."""

    exit_code = ExitCode.CONTEXT


class ListenError(QwenfileError):
    """The server cannot listen on the address it was given."""

    exit_code = ExitCode.LISTEN


class CacheError(QwenfileError):
    """No folder is usable as a cache."""

    exit_code = ExitCode.NO_CACHE


class InterruptedByUser(QwenfileError):  # noqa: N818 - an interruption is not an error of anybody
    """Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
