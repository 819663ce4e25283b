"""Small parts of the scripting face: contradictions, places in grammars, slots, completion scripts, streams."""

import io
import signal
from pathlib import Path
from typing import Any

import pytest

from launcher import signals
from launcher.completion import script
from launcher.conflicts import check
from launcher.console import Console
from launcher.flags import OPTIONS
from launcher.grammar import check as check_grammar
from launcher.grammar import describe
from launcher.options import Face, LaunchOptions, Work
from launcher.slots import choose_slots
from launcher.texts import check_files, read_prompt, read_stream
from runtime.bundle import Manifest
from runtime.errors import ContextError, UsageError
from runtime.memory import MachineMemory, Shape


@pytest.mark.parametrize(
    "fields",
    [
        {"json": True, "stream_json": True},
        {"rows": "-", "prompt": "x"},
        {"rows": "-", "files": (Path("x"),)},
        {"rows": "-", "work": Work.BENCH},
        {"rows": "-", "display_prompt": True},
        {"work": Work.BENCH, "prompt": "x"},
        {"work": Work.TOKENIZE, "schema": {}},
        {"grammar": "x", "schema": {}},
        {"output": "x"},
        {"unordered": True},
    ],
)
def test_contradictions(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"contradict each other|means nothing without"):
        check(LaunchOptions(face=Face.CLI, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"raw": True, "schema": {}},
        {"rows": "-", "json": True, "work": Work.EMBEDDING, "output": "x", "unordered": True},
        {"rows": "-", "prompt": "-"},
        {"work": Work.BENCH, "json": True},
    ],
)
def test_what_goes_together(fields: dict[str, Any]) -> None:
    check(LaunchOptions(face=Face.CLI, **fields))


@pytest.mark.parametrize(
    ("grammar", "at", "expected"),
    [
        ("root ::= x", 9, "line 1, column 10 (at 'x')"),
        ("a\nbc\n d", 6, "line 3, column 2 (at 'd')"),
        ("äö\nü x", 8, "line 2, column 3 (at 'x')"),
        ("ab", 2, "line 1, column 3 (at its end)"),
    ],
)
def test_places_in_grammars(grammar: str, at: int, expected: str) -> None:
    assert describe(grammar, at) == expected


class FakeChecker:
    def __init__(self, at: int) -> None:
        self.at = at

    def check_grammar(self, grammar: str) -> tuple[int, str]:
        return self.at, "why"


def test_grammars_are_refused_with_a_reason() -> None:
    check_grammar(FakeChecker(-1), "x")
    with pytest.raises(UsageError, match=r"in line 1, column 1 \(at 'x'\): why"):
        check_grammar(FakeChecker(0), "x")
    with pytest.raises(UsageError, match="has a mistake: why"):
        check_grammar(FakeChecker(-2), "x")


def manifest() -> Manifest:
    shape = Shape(
        layers=28, hidden=1024, heads=16, kv_heads=8, key_length=128, value_length=128, feed_forward=3072,
        vocabulary=151_936, weights=600_000_000,
    )  # fmt: skip
    facts = {"context_length": 32_768, "shape": shape.facts()}
    return Manifest(
        target="linux-x86_64", qwenfile="0", engine={}, name="Tiny", stub_size=1, stub_sha256="", model=facts
    )


@pytest.mark.parametrize(
    ("gigabytes", "cores", "gpu", "expected"),
    [(64, 2, 0, 8), (64, 16, 0, 16), (1, 2, 80, 32), (64, 2, 8, 4), (64, 2, 1, 1), (8, 2, 0, 4), (1, 8, 0, 1),
     (0, 8, 0, 4)],
)  # fmt: skip
def test_slots_follow_memory_and_cores(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, cores: int, gpu: int, expected: int
) -> None:
    memory = MachineMemory(total=gigabytes << 30, available=gigabytes << 30)
    monkeypatch.setattr("launcher.slots.machine_memory", lambda: memory)
    assert choose_slots(LaunchOptions(face=Face.CLI), manifest(), gpu=gpu << 30, cores=cores) == expected


def test_slots_of_other_weights() -> None:
    assert choose_slots(LaunchOptions(face=Face.CLI, model=Path("x.gguf")), manifest(), gpu=0, cores=8) == 4
    unknown = LaunchOptions(face=Face.CLI, model=Path("x.gguf"), context=0)
    assert choose_slots(unknown, manifest(), gpu=0, cores=8) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_every_flag_of_the_table(shell: str) -> None:
    text = script(shell, "my bundle.run")
    for option in OPTIONS:
        for name in option.names if option.help else ():
            spelled = f"-l {name[2:]}" if shell == "fish" and name.startswith("--") else name.lstrip("-")
            assert spelled in text, name
    assert "my_bundle_run" in text or shell == "fish"


class Endless(io.RawIOBase):
    """Gives the same piece for ever, and remembers how much it gave."""

    given = 0

    def read(self, size: int = -1, /) -> bytes:
        self.given += size
        return b"x" * size


def test_a_stream_is_asked_about_while_it_is_read() -> None:
    sizes: list[int] = []

    def fits(text: str) -> None:
        sizes.append(len(text))
        if len(text) > 1_000_000:
            raise ContextError("too much")

    stream: Any = Endless()
    with pytest.raises(ContextError):
        read_stream(stream, "x", fits)
    assert stream.given < 2_500_000
    assert sizes == sorted(set(sizes))


def test_a_character_may_come_in_pieces() -> None:
    class Drops(io.RawIOBase):
        data = "äöü 😀".encode()

        def read(self, size: int = -1, /) -> bytes:
            piece, self.data = self.data[:1], self.data[1:]
            return piece

    drops: Any = Drops()
    assert read_stream(drops, "x", lambda _: None) == "äöü 😀"
    cut: Any = io.BytesIO("ä".encode()[:1])
    with pytest.raises(UsageError, match="byte 0xc3 at offset 0"):
        read_stream(cut, "x", lambda _: None)


def test_files_are_looked_at_before_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"context\n")
    check_files([file])
    for wrong, words in ((tmp_path, "is a directory"), (tmp_path / "b", "no such file")):
        with pytest.raises(UsageError, match=words):
            check_files([wrong])
    console = Console(stdin=io.StringIO("stdin"), stdout=io.StringIO(), stderr=io.StringIO(), env={})
    options = LaunchOptions(face=Face.CLI, prompt="Sum up.", files=(file,))
    assert read_prompt(options, console, lambda _: None) == "context\n\nstdin\n\nSum up."


def test_a_signal_waits_for_the_end_of_what_is_undivided() -> None:
    steps: list[str] = []

    def work(*numbers: int) -> None:
        with signals.undivided():
            for number in numbers:
                signal.raise_signal(number)
                steps.append("done")

    signals.own_signals()
    with pytest.raises(KeyboardInterrupt):
        work(signal.SIGINT)
    with pytest.raises(signals.Terminated):
        work(signal.SIGTERM)
    assert steps == ["done"] * 2
    with pytest.raises(KeyboardInterrupt):  # the second one is not held
        work(signal.SIGTERM, signal.SIGINT)
    assert steps == ["done"] * 3
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signal")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_gone_ends_the_program_unless_nohup_wants_otherwise(ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        signals.own_signals()
        if ignored:
            signal.raise_signal(signal.SIGHUP)
        else:
            with pytest.raises(signals.Terminated) as end:
                signal.raise_signal(signal.SIGHUP)
            assert end.value.number == signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)
