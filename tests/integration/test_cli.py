"""`--cli` on a real bundle: prompts, streams, exit codes, signals and pipes."""

import json
import signal
from pathlib import Path
from typing import IO

import pytest

from tests.integration.conftest import ROOT, STEADY, TIMEOUT, Cli, Runner

GGUF = ROOT / "bundler/demo/demo.gguf"


def test_stdout_is_the_answer_alone_and_ends_in_one_new_line(cli: Cli) -> None:
    done = cli("-p", "What is the capital of France?")
    assert (done.code, done.out, done.err) == (0, "The capital of France is Paris.\n", "")


def test_the_prompt_comes_from_stdin_a_file_or_both(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "question.txt"
    file.write_text("What is the capital of France?\n")
    expected = "The capital of France is Paris.\n"
    assert cli(input="What is the capital of France?\n").out == expected
    assert cli("-p", "-", input="What is the capital of France?\n").out == expected
    assert cli("-f", file).out == expected
    told = cli("--json", "-f", file, "-p", "Again?", input="Hello!")
    alone = cli("--json", "-p", "Again?")
    assert json.loads(told.out)["prompt_tokens"] > json.loads(alone.out)["prompt_tokens"] + 5


def test_a_chat_without_a_terminal_answers_once(run: Runner, demo_bundle: Path) -> None:
    done = run(demo_bundle, *STEADY, input="What is the capital of France?")
    assert (done.code, done.out, done.err) == (0, "The capital of France is Paris.\n", "")


def test_thinking_never_reaches_stdout(cli: Cli) -> None:
    plain = cli("-p", "What is 2+3?")
    thoughtful = cli("-p", "What is 2+3?", "--think")
    shown = cli("-p", "What is 2+3?", "--think", "--show-thinking")
    assert plain.err == thoughtful.err == ""
    assert "5" in thoughtful.out
    assert shown.out == thoughtful.out
    assert shown.err.strip()
    for done in (plain, thoughtful, shown):
        assert "think>" not in done.out


def test_a_seed_repeats_the_answer(run: Runner, demo_bundle: Path) -> None:
    def say(seed: int) -> str:
        wild = ("--temp", "50", "--top-p", "1", "--seed", str(seed))
        return run(demo_bundle, "--cli", "--raw", "-t", "1", *wild, "-n", "20", "-p", "Once").out

    assert say(7) == say(7)
    assert len({say(seed) for seed in range(4)}) > 1


def test_json_tells_everything_about_one_answer(cli: Cli) -> None:
    told = json.loads(cli("--json", "-p", "What is 2+3?", "--think").out)
    assert "5" in told["text"]
    assert told["reasoning"]
    assert told["finish_reason"] == "stop"
    assert told["prompt_tokens"] > 0
    assert told["completion_tokens"] > 0
    assert told["timings"]["generation_ms"] > 0
    assert isinstance(told["seed"], int)
    assert json.loads(cli("--json", "-p", "What is 2+3?").out)["reasoning"] is None


def test_a_limit_of_tokens_is_kept(cli: Cli) -> None:
    told = json.loads(cli("--json", "-n", "3", "-p", "Count to fifty.").out)
    assert (told["completion_tokens"], told["finish_reason"]) == (3, "length")


def test_schemas_and_grammars_are_followed(cli: Cli, tmp_path: Path) -> None:
    schema = '{"type": "object", "properties": {"a": {"enum": [7]}}, "required": ["a"], "additionalProperties": false}'
    file = tmp_path / "schema.json"
    file.write_text(schema)
    assert json.loads(cli("-j", schema, "-p", "Hello!").out) == {"a": 7}
    assert json.loads(cli("-jf", file, "--think", "-p", "Hello!").out) == {"a": 7}
    assert cli("--grammar", 'root ::= "yes" | "no"', "-p", "Hello!").out in ("yes\n", "no\n")


def test_text_is_completed_without_a_template(cli: Cli) -> None:
    raw = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert cli("--raw", "-p", raw).out == "The capital of France is Paris.\n"


def test_a_system_prompt_is_obeyed(cli: Cli) -> None:
    done = cli("-sys", "Always answer in capital letters.", "-p", "What is the capital of Italy?")
    assert "ROME" in done.out


def test_other_weights(cli: Cli, tmp_path: Path) -> None:
    assert cli("-m", GGUF, "-p", "What is the capital of France?").out == "The capital of France is Paris.\n"


def test_weights_beside_the_bundle(run: Runner, base: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "side.run"
    assert run.qwenfile("build", "--demo", "--base", base, "--external-weights", "-o", bundle).code == 0
    question = (bundle, "--cli", *STEADY, "-p", "What is the capital of France?")
    assert run(*question, cwd=Path("/")).out == "The capital of France is Paris.\n"
    (tmp_path / "side.gguf").rename(tmp_path / "other.gguf")
    lost = run(*question)
    assert (lost.code, lost.out) == (3, "")
    assert "side.gguf is not there" in lost.one_line
    assert run(*question, "-m", tmp_path / "other.gguf").code == 0


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        ([], "", 2, "prompt is empty"),
        (["-p", " "], "", 2, "prompt is empty"),
        (["-p", "x", "--server"], "", 2, "contradict"),
        (["-p", "x", "--port", "1"], "", 2, "belongs to --server"),
        (["-p", "x", "--tempp", "1"], "", 2, "did you mean --temp"),
        (["-p", "x", "-n", "0"], "", 2, "-n 0 is out of range"),
        (["-p", "x", "-c", "10"], "", 2, "at least 256"),
        (["-p", "x", "-c", "10000000"], "", 2, "131,072"),
        (["-p", "x", "-ctk", "nonsense"], "", 2, "nonsense"),
        (["-p", "x", "--poll", "often"], "", 2, "--poll"),
        (["-p", "x", "-j", "{"], "", 2, "JSON schema"),
        (["-p", "x", "-j", '{"type": 5}'], "", 2, "schema"),
        (["-p", "x", "-f", "/nowhere/file"], "", 2, "no such file"),
        (["-p", "x", "-m", "/nowhere/model.gguf"], "", 3, "no such file"),
        (["-p", "x", "-m", "/"], "", 3, "is a folder"),
        ([], b"abc\xff", 2, "byte 0xff at offset 3"),
        ([], "word " * 6000, 4, "the context holds 4,096"),
        (["--raw"], "word " * 6000, 4, "the context holds 4,096"),
    ],
)
def test_mistakes_are_one_line_and_their_exit_code(
    cli: Cli, arguments: list[str], stdin: str | bytes, code: int, words: str
) -> None:
    done = cli(*arguments, input=stdin)
    assert (done.code, done.out) == (code, "")
    assert words in done.one_line
    assert done.one_line.startswith("qwen3 演示: ")


@pytest.mark.parametrize("keep", [0, 4, 500, 20_000, 500_000, -1])
def test_a_truncated_model_is_named(cli: Cli, tmp_path: Path, keep: int) -> None:
    file = tmp_path / "cut.gguf"
    file.write_bytes(GGUF.read_bytes()[:keep])
    done = cli("-p", "x", "-m", file)
    assert (done.code, done.out) == (3, "")
    assert done.one_line


def test_a_grammar_with_a_mistake(cli: Cli) -> None:
    done = cli("-p", "x", "--grammar", 'root ::= ("a"')
    assert (done.code, done.out) == (2, "")
    assert "the grammar has a mistake in line 1, column 14 (at its end): expecting ')'" in done.one_line


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_answer_with_what_was_said(cli: Cli, number: signal.Signals, code: int) -> None:
    # sampling at random never ends this one
    child = cli.start("-p", "Count to one thousand.", "--ignore-eos")
    first = pipe(child.stdout).read(8)
    child.send_signal(number)
    rest, err = child.communicate(timeout=TIMEOUT)
    assert (child.returncode, err) == (code, b"")
    assert first + rest
    assert number != signal.SIGINT or rest.endswith(b"\n")


def test_a_reader_that_leaves_ends_it_quietly(cli: Cli) -> None:
    with cli.start("-p", "Count to one thousand.", "--ignore-eos") as child:
        pipe(child.stdout).read(8)
        pipe(child.stdout).close()
        err = pipe(child.stderr).read()
        assert (child.wait(TIMEOUT), err) == (141, b"")


def test_nothing_is_left_behind(run: Runner, demo_bundle: Path, cli: Cli) -> None:
    cli("-p", "Hello!")
    names = [path.name for path in Path(run.env["QWENFILE_CACHE"]).iterdir()]
    assert not [name for name in names if name.startswith("qwenfile-") or name.endswith(".work")]


def test_it_needs_no_environment_and_no_open_streams(run: Runner, demo_bundle: Path) -> None:
    env = {"QWENFILE_CACHE": run.env["QWENFILE_CACHE"]}
    done = run(demo_bundle, "--cli", *STEADY, "-p", "What is the capital of France?", env=env)
    assert (done.code, done.out, done.err) == (0, "The capital of France is Paris.\n", "")
    closed = run("sh", "-c", '"$0" --cli -t 1 -p "Hello!" <&- 2>&-', demo_bundle)
    assert (closed.code, closed.err) == (0, "")
    assert closed.out.endswith("\n")


def test_settings_of_another_llama_cpp_change_nothing(cli: Cli) -> None:
    done = cli(
        "-p", "What is the capital of France?", LLAMA_API_KEY="k", LLAMA_ARG_HOST="0.0.0.0", LLAMA_ARG_N_PREDICT="1"
    )
    assert (done.code, done.out, done.err) == (0, "The capital of France is Paris.\n", "")


def test_asking_for_information(run: Runner, demo_bundle: Path) -> None:
    version = run(demo_bundle, "--version")
    assert version.code == 0
    assert "llama.cpp 0c1e570, target linux-x86_64" in version.out
    for face, flag in (("--chat", "--nologo"), ("--server", "--port"), ("--cli", "--raw")):
        done = run(demo_bundle, face, "--help")
        assert (done.code, done.err) == (0, "")
        assert flag in done.out
    assert "--slot-save-path" in run(demo_bundle, "--help-engine").out
    assert "MIT License" in run(demo_bundle, "--licenses").out
    devices = run(demo_bundle, "--list-devices")
    assert "CPU" in devices.out
    assert all(": Vulkan: " in line for line in devices.err.splitlines())  # why no GPU computes


def test_the_engines_log_is_shown_on_request_only(cli: Cli) -> None:
    loud = cli("-p", "What is the capital of France?", "--verbose")
    assert loud.out == "The capital of France is Paris.\n"
    assert len(loud.err.splitlines()) > 10
