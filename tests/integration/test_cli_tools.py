"""What `--cli` does beside answering: tokens, vectors, measuring, help and completion, on a real bundle."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import Cli, Runner

GREETING = "Hello, wörld 😀<|im_end|>"


def test_tokens_are_shown_and_counted(cli: Cli) -> None:
    table = cli("--tokenize", "-p", GREETING)
    *rows, last = table.out.splitlines()
    count = int(cli("--count-tokens", "-p", GREETING).out)
    assert (table.code, table.err, last) == (0, "", f"{count} tokens")
    assert len(rows) == count
    assert rows[0].split()[1] == '"Hello"'
    assert rows[-1].split()[1] == '"<|im_end|>"'
    told = json.loads(cli("--tokenize", "--json", "-p", GREETING).out)
    assert told["count"] == count
    pieces = [piece["text"].encode() if "text" in piece else bytes(piece["bytes"]) for piece in told["tokens"]]
    assert b"".join(pieces).decode() == GREETING
    assert json.loads(cli("--count-tokens", "--json", "-p", GREETING).out) == {"count": count}


def test_counting_agrees_with_the_engine(cli: Cli, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("What is 12 + 7?\n" * 50)
    counted = int(cli("--count-tokens", "-f", text).out)
    assert json.loads(cli("--raw", "--json", "-n", "1", "-f", text).out)["prompt_tokens"] == counted
    assert int(cli("--count-tokens", input=text.read_bytes()).out) == counted
    assert int(cli("--count-tokens", input="word " * 100_000).out) > 100_000  # more than any context


def test_counting_loads_the_vocabulary_alone(cli: Cli) -> None:
    """The weights are never mapped, and no kernels are loaded."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    done = cli.run("strace", "-f", "-e", "trace=openat", cli.bundle, "--cli", "--count-tokens", "-p", "Hello")
    assert done.out == "1\n"
    assert "libggml-base" in done.err
    assert "libggml-cpu" not in done.err


@pytest.mark.parametrize("flag", ["--tokenize", "--count-tokens"])
def test_tokens_of_a_broken_model(cli: Cli, tmp_path: Path, flag: str) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    for model, words in ((broken, "broken.gguf"), (tmp_path / "none.gguf", "no such file")):
        done = cli(flag, "-p", "x", "-m", model)
        assert (done.code, done.out) == (3, "")
        assert words in done.one_line
    assert cli(flag, "-p", "").code == 2


def test_vectors(cli: Cli) -> None:
    told = json.loads(cli("--embedding", "-p", "Hello!").out)
    assert len(told["embedding"]) > 16
    assert abs(sum(value * value for value in told["embedding"]) - 1) < 1e-3
    assert told["prompt_tokens"] > 0
    assert told["model"]
    assert json.loads(cli("--embedding", input="Hello!").out)["embedding"] == told["embedding"]
    refused = cli("--embedding", "-p", "word " * 6000)
    assert refused.code == 4
    assert "the context holds 4,096" in refused.one_line


def test_this_machine_is_measured(cli: Cli) -> None:
    table = cli("--bench", "-n", "16")
    assert (table.code, table.err) == (0, "")
    assert re.search(r"^prompt +512 +[\d,]+\.\d   [\d,.]+ to [\d,.]+$", table.out, re.MULTILINE)
    assert re.search(r"^generation +16 +[\d,]+\.\d   [\d,.]+ to [\d,.]+$", table.out, re.MULTILINE)
    told = json.loads(cli("--bench", "--json", "-c", "256").out)
    assert told["threads"] == 1
    assert told["prompt"]["tokens"] == 256 - 64 - 1
    assert told["prompt"]["tokens_per_second"] > 0
    assert told["generation"]["tokens_per_second"] > 0
    assert cli("--bench", "-n", "5000").code == 2


@pytest.mark.parametrize(
    "flags",
    [
        ("--json", "--stream-json"), ("--tokenize", "--bench"), ("--embedding", "--stream-json"),
        ("--bench", "-p", "x"), ("--grammar", 'root ::= "a"', "-j", "{}"), ("--cli", "--server"), ("--cli", "--chat"),
    ],
)  # fmt: skip
def test_flags_that_contradict_each_other(cli: Cli, flags: tuple[str, ...]) -> None:
    prompt = () if "--bench" in flags else ("-p", "x")
    done = cli(*prompt, *flags)
    assert (done.code, done.out) == (2, "")
    assert "contradict each other" in done.one_line


@pytest.mark.parametrize("flag", ["-o", "--unordered"])
def test_flags_of_rows_need_rows(cli: Cli, flag: str) -> None:
    done = cli("-p", "x", *((flag, "out") if flag == "-o" else (flag,)))
    assert done.code == 2
    assert f"{flag} means nothing without --jsonl" in done.one_line


def test_raw_text_can_have_a_schema(cli: Cli) -> None:
    assert cli("--raw", "-j", '{"enum": [7]}', "-p", "x").out == "7\n"


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        ('root ::= "a"\nb := "c"', "line 2, column 3 (at ':= \"c\"'): expecting ::="),
        ('root ::= "ä" | other', "line 1, column 16 (at 'other'): there is no rule named other"),
        ('rot ::= "a"', "there is no rule named root"),
        ('root ::= root "a"', "left recursion"),
        ("", "it is empty"),
        ("root ::= [a-", "line 1, column 13 (at its end): unexpected end of input"),
    ],
)
def test_mistakes_in_grammars_are_located(cli: Cli, tmp_path: Path, grammar: str, words: str) -> None:
    file = tmp_path / "grammar.gbnf"
    file.write_text(grammar)
    done = cli("-p", "x", "--grammar-file", file)
    assert (done.code, done.out) == (2, "")
    assert words in done.one_line


@pytest.mark.parametrize(
    "schema", ["[]", "5", '{"type": 5}', '{"type": "objec"}', '{"$ref": "#/x"}', '{"properties": 3}']
)
def test_schemas_that_are_none(cli: Cli, schema: str) -> None:
    done = cli("-p", "x", "-j", schema)
    assert (done.code, done.out) == (2, "")
    assert "the JSON schema has a mistake at #" in done.one_line


def test_help_fits_on_a_screen_and_its_examples_work(cli: Cli, tmp_path: Path) -> None:
    done = cli("--help")
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    examples = [line.strip() for line in lines if line.startswith(f"  ./{cli.bundle.name} ")]
    assert len(examples) == 3
    (tmp_path / cli.bundle.name).symlink_to(cli.bundle)
    (tmp_path / "notes.txt").write_text("My name is Ada.\n")
    (tmp_path / "questions.jsonl").write_text('"What is 2+3?"\n')
    for example in examples:
        quoted = example.replace(f"./{cli.bundle.name}", f"'./{cli.bundle.name}' -t 1 -n 8", 1)
        ran = cli.run("bash", "-c", quoted, cwd=tmp_path)
        assert (ran.code, ran.err) == (0, ""), example
        assert ran.out or (tmp_path / "summary.txt").exists()
    assert "2 + 3" in (tmp_path / "answers.jsonl").read_text()
    assert (tmp_path / "summary.txt").read_text()
    assert "--dry-multiplier" in cli.run(cli.bundle, "--help-engine").out
    assert "--unordered" in cli("--help", "--verbose").out


def completions(run: Runner, shell: str, script: Path, words: str) -> set[str]:
    """What a shell offers after `q.run WORDS`, by the script."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    if shell == "fish":
        done = run("fish", "--no-config", "-c", f"source {script}; complete -C 'q.run {words}'")
        return {line.split("\t")[0] for line in done.out.splitlines()}
    if shell == "bash":
        array = f"COMP_WORDS=(q.run {words or chr(34) * 2}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))"
        done = run("bash", "-c", f'source {script}; {array}; _q_run 2>/dev/null; printf "%s\\n" "${{COMPREPLY[@]}}"')
        return set(done.out.splitlines())
    done = run("zsh", "-n", script)
    assert (done.code, done.err) == (0, "")
    stub = "_arguments() { print -rl -- $@ }; compdef() { : }"
    done = run("zsh", "-fc", f"{stub}; source {script}; _q_run")
    assert done.err == ""
    return {re.split(r"[\[]", re.sub(r"^\(.*?\)|^\*", "", line))[0] for line in done.out.splitlines()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_our_flags(run: Runner, demo_bundle: Path, tmp_path: Path, shell: str) -> None:
    bundle = tmp_path / "q.run"
    bundle.hardlink_to(demo_bundle)
    done = run(bundle, "--completion", shell)
    assert (done.code, done.err) == (0, "")
    script = tmp_path / "script"
    script.write_text(done.out)
    found = completions(run, shell, script, "--js")
    assert {"--json", "--jsonl", "--json-schema"} <= found
    assert ("--server" in found) is (shell == "zsh")  # which filters by itself
    refused = run(bundle, "--completion", "csh")
    assert refused.code == 2
    assert "use bash, zsh or fish" in refused.one_line
