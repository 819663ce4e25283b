"""`--cli` between other programs: what flows in and out, streams that never end, and who may leave when."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from tests.integration.conftest import ROOT, STEADY, TIMEOUT, Cli, Runner

PARIS = "The capital of France is Paris.\n"
FRANCE = "What is the capital of France?"


def shell(cli: Cli, script: str, *arguments: str | Path, **env: str):  # type: ignore[no-untyped-def]
    """Run a script in which "$0" is the bundle."""
    return cli.run("bash", "-c", script, cli.bundle, *arguments, **env)


def test_text_flows_in_and_out(cli: Cli, tmp_path: Path) -> None:
    done = shell(cli, f'cd "$1" && echo "{FRANCE}" | "$0" --cli -t 1 --temp 0 > answer && cat answer', tmp_path)
    assert (done.code, done.out, done.err) == (0, PARIS, "")
    chained = shell(cli, '"$0" --cli -t 1 --temp 0 -p "What is 2+3?" | "$0" --cli -t 1 --temp 0 -p "Hello!"')
    assert (chained.code, chained.err) == (0, "")


def test_context_comes_from_files_and_stdin_in_front_of_the_prompt(cli: Cli, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("one")
    two.write_text("two")
    done = cli("--display-prompt", "-n", "1", "-f", one, "-f", two, "-p", r"a\tb", "-e", input="three")
    assert done.out.startswith("one\n\ntwo\n\nthree\n\na\tb\n\n")
    raw = cli("--raw", "--display-prompt", "-n", "1", "-f", one, "-f", two, "-p", "end", input="three\n")
    assert raw.out.startswith("onetwothree\nend")
    assert cli("-f", "/dev/stdin", "-p", "-", input="").code == 2


def test_every_event_is_a_line(cli: Cli) -> None:
    done = cli("--stream-json", "--think", "-p", "What is 2+3?")
    *pieces, end = [json.loads(line) for line in done.out.splitlines()]
    assert "5" in "".join(piece["text"] for piece in pieces if piece["event"] == "text")
    assert "5" in "".join(piece["text"] for piece in pieces if piece["event"] == "reasoning")
    assert (end["event"], end["finish_reason"], done.err) == ("end", "stop", "")
    assert end["completion_tokens"] > 5
    assert {"model", "prompt_tokens", "timings", "seed"} < set(end)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--stop", " is"), "The capital of France\n"),
        (("--stop", " Paris", "--stop", " France"), "The capital of\n"),
        (("--log-disable", "--simple-io", "--no-display-prompt", "--nologo", "--fast", "--unsecure"), PARIS),
        (("--top-k", "1", "--top-p", "1", "--min-p", "0", "--repeat-penalty", "1", "--samplers", "top_k"), PARIS),
        (("--dry-multiplier", "0", "--mirostat", "0", "--xtc-probability", "0", "--typical", "1"), PARIS),
    ],
)
def test_flags_of_answers(cli: Cli, flags: tuple[str, ...], expected: str) -> None:
    done = cli("-p", FRANCE, *flags)
    assert (done.code, done.out, done.err) == (0, expected, "")


def test_a_token_can_be_forbidden(cli: Cli) -> None:
    told = json.loads(cli("--tokenize", "--json", "-p", " Paris").out)
    token = told["tokens"][0]["id"]
    assert "Paris" not in cli("-p", FRANCE, "--logit-bias", f"{token}-100").out


def test_thousands_of_tokens_come_through_a_pipe_whole(cli: Cli) -> None:
    told = json.loads(cli("--json", "--raw", "--ignore-eos", "-n", "3000", "-p", "1 2 3").out)
    assert told["completion_tokens"] == 3000
    plain = cli("--raw", "--ignore-eos", "-n", "3000", "-p", "1 2 3")
    assert plain.out == told["text"].rstrip("\n") + "\n"


def test_text_of_every_script(run: Runner, demo_bundle: Path) -> None:
    """UTF-8 in and out in a locale that knows only ASCII; nothing is lost between bytes and tokens."""
    text = "Grüße, 世界 😀 ‎שלום"
    command = (demo_bundle, "--cli", *STEADY, "--raw", "--display-prompt", "-n", "1")
    for env in ({"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}, {"LC_ALL": "xx_XX.nonsense"}):
        assert run(*command, input=text, **env).out.startswith(text)
        assert run(*command, "-p", text, **env).out.startswith(text)


@pytest.mark.parametrize("source", ["yes", "cat /dev/zero", "while :; do echo word word word; done"])
@pytest.mark.parametrize("flags", [(), ("--raw",)])
def test_input_without_end_is_refused_with_both_numbers(cli: Cli, source: str, flags: tuple[str, ...]) -> None:
    done = shell(cli, f'({source}) 2>/dev/null | "$0" --cli -t 1 "$@"', *flags)
    assert (done.code, done.out) == (4, "")
    assert "the input has more than " in done.one_line
    assert "the context holds 4,096" in done.one_line


def test_input_without_end_that_is_no_text(cli: Cli) -> None:
    done = shell(cli, 'cat /dev/urandom | "$0" --cli -t 1')
    assert (done.code, done.out) == (2, "")
    assert "is not UTF-8 text: byte 0x" in done.one_line


def test_input_that_comes_slowly_is_waited_for(cli: Cli) -> None:
    done = shell(cli, '(sleep 1; echo "What is the capital"; sleep 1; echo "of France?") | "$0" --cli -t 1 --temp 0')
    assert done.code == 0
    assert "Paris" in done.out


def test_a_full_disk_is_told_in_one_line(cli: Cli) -> None:
    for flags in ("-p hello", "-p hello --json", "--jsonl -"):
        done = shell(cli, f'echo "\\"hello\\"" | "$0" --cli -t 1 {flags} > /dev/full')
        assert done.code == 1
        assert "cannot be written: no space left on device" in done.one_line


@pytest.mark.parametrize("flags", [("-p", "Count to fifty."), ("-p", "Count to fifty.", "--stream-json")])
def test_head_takes_what_it_wants(cli: Cli, flags: tuple[str, ...]) -> None:
    done = shell(cli, '"$0" --cli -t 1 --temp 0 "$@" | head -c 3; echo "${PIPESTATUS[0]}"', *flags)
    assert done.out[3:] in ("141\n", "0\n")
    assert done.err == ""


def test_a_pipe_that_is_closed_before_the_answer(cli: Cli) -> None:
    with cli.start("-p", "Hello!") as child:
        pipe(child.stdout).close()
        assert (pipe(child.stderr).read(), child.wait(TIMEOUT)) == (b"", 141)


@pytest.mark.parametrize("flags", [("--json", "-p", "1 2 3"), ("--jsonl", "-n", "-1")])
def test_a_reader_that_leaves_is_noticed_while_nothing_is_written(cli: Cli, flags: tuple[str, ...]) -> None:
    """The answer to this takes minutes; only its end would be written."""
    rows = b'{"prompt": "1 2 3", "ignore_eos": true}\n'
    with cli.start(*flags, "-c", "131072", "--ignore-eos", "--raw", stdin=subprocess.PIPE) as child:
        pipe(child.stdin).write(rows)
        pipe(child.stdin).close()
        time.sleep(0.5)
        pipe(child.stdout).close()
        assert child.wait(TIMEOUT) == 141
        assert all(b"-c 131,072 is beyond" in line for line in pipe(child.stderr).read().splitlines())


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def test_it_works_in_a_bare_environment(run: Runner, demo_bundle: Path) -> None:
    """No HOME, no PATH, no locale, no terminal, a folder that may not be written."""
    env = {"QWENFILE_CACHE": run.env["QWENFILE_CACHE"]}
    done = run("/usr/bin/setsid", "-w", demo_bundle, "--cli", *STEADY, "-p", FRANCE, env=env, cwd=Path("/proc"))
    assert (done.code, done.out, done.err) == (0, PARIS, "")


def test_only_what_the_answer_needs_is_loaded(cli: Cli) -> None:
    """Modules as the sources import them, in the order of a real answer; the engine as its log tells it."""
    command = (sys.executable, "-X", "importtime", "-m", "launcher", "--cli", *STEADY, "-p", FRANCE)
    done = cli.run(*command, PYTHONPATH=str(ROOT), QWENFILE_BUNDLE=str(cli.bundle))
    assert done.out == PARIS
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.err.splitlines() if line.startswith("import time:")}
    assert "launcher.cli" in loaded
    needless = {"rich", "prompt_toolkit", "asyncio", "difflib", "launcher.repl", "launcher.server", "launcher.chat"}
    needless |= {"launcher.rows", "launcher.measure", "launcher.tokens", "launcher.completion", "launcher.help"}
    assert not loaded & needless
    log = cli("-p", "Hello!", "--verbose", "-lv", "6").err
    assert "n_slots = 1," in log
    assert "warming up" not in log
    assert "fitting params" not in log


@pytest.mark.parametrize(
    ("flags", "stdin", "code"),
    [
        (("-p", "Hello!"), b"", 0),
        (("--jsonl",), b"{", 1),
        (("-p", "x", "--nonsense"), b"", 2),
        (("-p", "x", "-m", "/nowhere.gguf"), b"", 3),
        ((), b"word " * 6000, 4),
    ],
)
def test_exit_codes(cli: Cli, flags: tuple[str, ...], stdin: bytes, code: int) -> None:
    """5 needs a server, 126 a machine without a cache folder: their tests are there; signals have tests above."""
    assert cli(*flags, input=stdin).code == code
