"""The error tree: one exit code per class, one line per message."""

import inspect

from runtime import errors
from runtime.errors import ExitCode, ModelError, QwenfileError


def classes() -> list[type[QwenfileError]]:
    return [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, QwenfileError)]


def test_every_class_has_its_own_exit_code() -> None:
    codes = [cls.exit_code for cls in classes()]
    assert len(codes) == len(set(codes))


def test_every_exit_code_but_success_has_a_class() -> None:
    assert {cls.exit_code for cls in classes()} == set(ExitCode) - {ExitCode.OK}


def test_a_message_carries_its_remedy() -> None:
    assert str(ModelError("x is truncated", "copy it again")) == "x is truncated (copy it again)"
    assert str(ModelError("x is truncated")) == "x is truncated"
