"""Reading the engine's log."""

from pathlib import Path

import pytest

from runtime.engine import Engine, EngineError, _one_line


@pytest.mark.parametrize(
    ("logged", "line"),
    [
        (
            "llama_model_load: error loading model: unknown model architecture: 'x'\nsrv    load_model: failed",
            "error loading model: unknown model architecture: 'x'",
        ),
        ("srv         start: couldn't bind HTTP server socket, port: 80", "couldn't bind HTTP server socket, port: 80"),
        ("cmn  common_init_: failed to load model 'm.gguf'", "failed to load model 'm.gguf'"),
        ("error: invalid argument: --nope", "invalid argument: --nope"),
        ("\n  \nllama_init_from_model: \nsecond", "llama_init_from_model:"),
        ("", ""),
    ],
)
def test_one_line_is_the_first_that_says_something(logged: str, line: str) -> None:
    assert _one_line(logged) == line


def test_a_folder_with_something_else_named_engine(tmp_path: Path) -> None:
    (tmp_path / "libengine.so").write_bytes(b"no library")
    with pytest.raises(EngineError, match="cannot be loaded"):
        Engine(tmp_path)
