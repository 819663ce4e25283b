"""Bundles for Windows: made here, run under wine. The engine has one CPU variant (--fast) and no page.

wine is not Windows: what these tests see is that the programs inside work together and keep to what they promise.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runtime.version import VERSION
from tests.integration.bases import needs_wine
from tests.integration.clients import environment, run_client
from tests.integration.conftest import TIMEOUT, Runner, succeed
from tests.integration.server import Server
from tests.integration.terminal import ENTER, Terminal
from tests.integration.windows import WINE

TARGET = "windows-x86_64"
QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris.\n"
STEADY = ("--cli", "-t", "1", "--temp", "0")

pytestmark = needs_wine
needs_osslsigncode = pytest.mark.skipif(
    not all(map(shutil.which, ("osslsigncode", "openssl"))), reason="needs osslsigncode and openssl"
)


@pytest.fixture(scope="module")
def wine(wine_environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Runs programs for Windows with a run cache of their own."""
    cache = tmp_path_factory.mktemp("wine") / "cache 缓存"
    return Runner(env={**wine_environment, "QWENFILE_CACHE": f"Z:{cache}"})


@pytest.fixture(scope="module")
def exe(run: Runner, other_base: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle for Windows, in a folder whose name has a space and Chinese letters, as its own has."""
    base = other_base(TARGET)
    folder = tmp_path_factory.mktemp("windows 模型")
    bundle = folder / "qwen3 演示.exe"
    built = run.qwenfile("build", "--demo", "--target", TARGET, "--base", base, "-o", bundle)
    succeed(built, ["build", "--target", TARGET])
    assert "not tried out" in built.err
    return bundle


@pytest.fixture(scope="module")
def command(exe: Path) -> Path:
    """The bundle as a program of this system: a script that starts it under wine.

    Python under wine does not start with a plain file as standard error, which a server's tests give it, nor, at
    times, with /dev/null as standard input."""
    starter = exe.with_suffix("")
    told = "[ ! -f /dev/stderr ] || exec 2> >(trap '' INT; exec cat >&2)"
    asked = "[ -p /dev/stdin ] || [ -t 0 ] || exec < <(exec cat)"
    starter.write_text(f'#!/bin/bash\n{told}\n{asked}\nexec {shlex.join([*WINE, str(exe)])} "$@"\n')
    starter.chmod(0o755)
    return starter


def test_it_says_its_version(wine: Runner, command: Path) -> None:
    for _ in range(2):  # unpacks, then finds what it has unpacked
        told = wine(command, "--version")
        assert (told.code, told.err) == (0, "")
        assert told.out.endswith(f"target {TARGET}\n")


def test_it_answers(wine: Runner, command: Path) -> None:
    for _ in range(2):
        told = wine(command, *STEADY, "-p", QUESTION)
        assert (told.code, told.out, told.err) == (0, ANSWER, "")
    assert wine(command, *STEADY, input=QUESTION).out == ANSWER


def test_text_of_all_scripts_goes_through(wine: Runner, command: Path, tmp_path: Path) -> None:
    text = '你好, мир! \U0001f600 "quoted" back\\slash'
    counted = wine(command, "--cli", "--count-tokens", input=text)
    (tmp_path / "文件 1.txt").write_text(text, encoding="utf-8")
    assert wine(command, "--cli", "--count-tokens", "-f", f"Z:{tmp_path}/文件 1.txt").out == counted.out
    assert wine(command, "--cli", "--count-tokens", "-p", text).out == counted.out
    tokens = json.loads(wine(command, "--cli", "--tokenize", "--json", "-p", text).out)["tokens"]
    pieces = (piece["text"].encode() if "text" in piece else bytes(piece["bytes"]) for piece in tokens)
    assert b"".join(pieces).decode() == text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-p", " "), 2, "prompt is empty"),
        (("-p", "x", "--tempp", "1"), 2, "did you mean --temp"),
        (("-p", "x", "-m", r"C:\nowhere\model.gguf"), 3, "cannot read the model"),
        (("-p", "word " * 6000), 4, "the context holds 4,096"),
        (("--server", "--host", "x.sock"), 5, "no Unix sockets"),
    ],
)
def test_mistakes_are_one_line_and_their_exit_code(
    wine: Runner, command: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    face = ("--cli", "-t", "1") if "--server" not in arguments else ()
    told = wine(command, *face, *arguments)
    assert (told.code, told.out) == (code, "")
    assert words in told.one_line
    assert told.one_line.startswith("qwen3 演示: ")


def test_rows_are_answered(wine: Runner, command: Path, tmp_path: Path) -> None:
    rows = "".join(f'"What is {number} + {number}?"\n' for number in (1, 2, 3))
    told = wine(command, *STEADY, "--jsonl", "-o", f"Z:{tmp_path}/out.jsonl", input=rows)
    assert told.code == 0, told.err
    content = (tmp_path / "out.jsonl").read_bytes()
    assert b"\r" not in content
    assert [json.loads(line)["line"] for line in content.splitlines()] == [1, 2, 3]


def test_rows_go_on_where_they_were(wine: Runner, command: Path, tmp_path: Path) -> None:
    """What failed is tried again, and comes where it belongs: the file is replaced while it is in use."""
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    ask = (*STEADY, "--jsonl", f"Z:{rows}", "-o", f"Z:{out}")
    wrong = '{"prompt": "What is 2 + 2?", "temprature": 1}'
    right = '{"prompt": "What is 2 + 2?"}'
    rows.write_text(f'"What is 1 + 1?"\n{wrong}\n"What is 3 + 3?"\n')
    assert wine(command, *ask).code == 1
    rows.write_text(f'"What is 1 + 1?"\n{right}\n"What is 3 + 3?"\n')
    told = wine(command, *ask)
    assert (told.code, told.err) == (0, "")
    assert [json.loads(line)["line"] for line in out.read_text().splitlines()] == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]


def test_two_runs_do_not_write_the_same_answers(wine: Runner, command: Path, tmp_path: Path) -> None:
    out = f"Z:{tmp_path}/out.jsonl"
    first = subprocess.Popen(
        [command, *STEADY, "--jsonl", "-o", out], env=dict(wine.env), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdin is not None
    first.stdin.write(b'"What is 1 + 1?"\n')
    first.stdin.flush()
    while not (tmp_path / "out.jsonl").is_file() or b"1 + 1" not in (tmp_path / "out.jsonl").read_bytes():
        assert first.poll() is None
    second = wine(command, *STEADY, "--jsonl", "-o", out, input='"What is 2 + 2?"')
    assert (second.code, "another run is writing" in second.one_line) == (2, True)
    first.communicate(timeout=TIMEOUT)
    assert first.returncode == 0


def start(wine: Runner, command: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start it as the leader of a group, as a terminal would: Ctrl-C goes to all of the group."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [command, *arguments], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=dict(wine.env), process_group=0
    )


def test_ctrl_c_ends_an_answer(wine: Runner, command: Path) -> None:
    child = start(wine, command, *STEADY, "--raw", "--ignore-eos", "-n", "4000", "-p", "Once")
    assert child.stdout is not None
    assert child.stdout.read(1)
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=TIMEOUT)
    assert (child.returncode, b"qwen3" in err) == (
        130,
        False,
    )  # wine's own server may have been hit as well, and says so


def test_the_launcher_ends_with_the_stub(wine: Runner, command: Path) -> None:
    child = start(wine, command, *STEADY, "--raw", "--ignore-eos", "-n", "100000", "-p", "Once")
    assert child.stdout is not None
    assert child.stdout.read(1)
    child.kill()
    rest = child.stdout.read()  # ends when the last process that holds the pipe has ended
    assert len(rest) < 10_000_000
    child.communicate(timeout=TIMEOUT)


def test_it_serves_the_openai_client(wine: Runner, command: Path, tmp_path: Path) -> None:
    with Server(command, wine) as server:
        seen = run_client(environment("clients"), "openai_client.py", server.url, server.facts["model"], cwd=tmp_path)
        assert seen["chat"]["content"] == ANSWER.strip()
        assert seen["stream"]["content"] == ANSWER.strip()
        status, body, _ = server.request("/v1/models", host="evil.example")
        assert (status, "evil.example" in str(body)) == (403, True)


def test_a_chat_reads_from_a_pipe(wine: Runner, command: Path) -> None:
    told = wine(command, "-t", "1", "--temp", "0", input=QUESTION)
    assert (told.code, told.out) == (0, ANSWER)


def test_a_chat_at_a_terminal(wine: Runner, exe: Path, tmp_path: Path) -> None:
    env = {**wine.env, "QWENFILE_CACHE": f"Z:{tmp_path}", "LOCALAPPDATA": f"Z:{tmp_path}"}
    chat = Terminal([*WINE, exe, "-t", "1", "--temp", "0", "--nothink"], env)
    chat.wait_for(r">>> *$")
    chat.enter(QUESTION)
    chat.wait_for(r"capital of France is Paris\..*>>> *$")
    chat.enter("My name is Ada.")
    chat.wait_for(r"Nice to meet you, Ada!.*>>> *$")
    chat.enter("/exit")
    assert chat.end() == 0


def test_a_closed_window_loses_nothing(wine: Runner, exe: Path, tmp_path: Path) -> None:
    """wine kills what runs in a window that closes, as Windows does with what takes its time. Meanwhile another chat
    does not write the conversation."""
    env = {**wine.env, "QWENFILE_CACHE": f"Z:{tmp_path}/cache", "LOCALAPPDATA": f"Z:{tmp_path}"}
    ask = [*WINE, exe, "-t", "1", "--temp", "0", "--nothink"]
    chat = Terminal(ask, env, columns=120)
    chat.wait_for(r">>> *$")
    chat.enter("My name is Ada.")
    chat.wait_for(r"Nice to meet you, Ada!.*>>> *$")
    chat.enter("/save Ada")
    chat.wait_for(r"saved as Ada;.*>>> *$")
    other = Terminal(ask, env, columns=120)
    other.wait_for(r">>> *$")
    other.enter("/load Ada")
    other.wait_for(r"in a copy.*>>> *$")
    other.enter("/exit")
    assert other.end() == 0
    chat.hang_up()
    again = Terminal(ask, env, columns=120)
    again.wait_for(r">>> *$")
    again.enter("/load Ada")
    again.wait_for(r"loaded 1 turn;.*>>> *$")
    again.enter("What is my name?")
    again.wait_for(r"Your name is Ada\..*>>> *$")
    again.enter("/exit")
    assert again.end() == 0


def test_it_runs_from_a_share(wine: Runner, exe: Path) -> None:
    """A classroom's server has it; wine keeps what it shows as \\\\SERVER\\SHARE in a folder of its own."""
    share = Path(wine.env["WINEPREFIX"], "dosdevices/unc/server/school")
    share.mkdir(parents=True)
    (share / "qwen3 演示.exe").hardlink_to(exe)
    told = wine(*WINE, "\\\\server\\school\\qwen3 演示.exe", *STEADY, "-p", QUESTION)
    assert (told.code, told.out, told.err) == (0, ANSWER, "")


def test_a_window_of_its_own_stays_open_after_an_error(wine: Runner, exe: Path) -> None:
    """As after a double-click: nobody else is at the console."""
    window = Terminal([*WINE, exe, "--cli", "-p", " "], wine.env)
    window.wait_for("prompt is empty.*Press Enter to close this window")
    window.type(ENTER)
    assert window.end() == 2


def test_the_console_keeps_its_code_page(wine: Runner, exe: Path, tmp_path: Path) -> None:
    (tmp_path / "x.exe").hardlink_to(exe)
    script = f'@chcp 850\n@x.exe {" ".join(STEADY)} -p "{QUESTION}"\n@chcp\n'
    (tmp_path / "ask.cmd").write_text(script, encoding="ascii", newline="\r\n")
    window = Terminal([*WINE, "cmd", "/c", f"cd /d Z:{tmp_path} & ask.cmd"], wine.env)
    window.wait_for(rf"code page: 850\s+{ANSWER.strip()}\s+Active code page: 850")
    assert window.end() == 0


def test_starts_at_once_do_not_disturb_each_other(wine: Runner, command: Path, tmp_path: Path) -> None:
    env = {**wine.env, "QWENFILE_CACHE": f"Z:{tmp_path}/new"}
    # wine's Python wants pipes; of files and of /dev/null it says at times that they are no handles
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    asked = [subprocess.Popen([command, *STEADY, "-p", QUESTION], env=env, **pipes) for _ in range(3)]
    for child in asked:  # wine's services hold the output of one until the last has ended, which reads to its end first
        assert child.stdin is not None
        child.stdin.close()
        child.stdin = None
    assert [child.communicate(timeout=TIMEOUT)[0].decode() for child in asked] == [ANSWER] * 3
    names = sorted(path.name.partition("-")[0] for path in (tmp_path / "new").iterdir() if path.is_dir())
    assert names == ["engine", "launcher"]


def test_a_damaged_cache_is_mended(wine: Runner, command: Path, tmp_path: Path) -> None:
    env = {"QWENFILE_CACHE": f"Z:{tmp_path}/cache"}
    assert wine(command, "--version", **env).code == 0
    (launcher,) = (tmp_path / "cache").glob("launcher-*")
    (launcher / "_internal" / "python311.dll").unlink()
    assert wine(command, "--version", **env).code == 0


def test_a_damaged_bundle_is_told(wine: Runner, exe: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.exe"
    cut.write_bytes(exe.read_bytes()[:1_000_000])
    told = wine(*WINE, cut, "--version")
    assert told.code == 3
    assert told.one_line.startswith("cut.exe: this file is damaged: it is cut off: 1000000 bytes")


def test_menu_entries_are_for_linux(wine: Runner, command: Path) -> None:
    for flag in ("--install-desktop", "--uninstall-desktop"):
        told = wine(command, flag)
        assert (told.code, told.out) == (2, "")
        assert "menu entries are for Linux desktops (here a double-click" in told.one_line


def test_no_cache_is_told(wine: Runner, exe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = dict.fromkeys(("QWENFILE_CACHE", "LOCALAPPDATA", "USERPROFILE", "TEMP"), f"Z:{tmp_path}/file")
    told = wine(*WINE, exe, "--version", **env)
    assert told.code in (0, 126)  # wine gives a process its own LOCALAPPDATA
    if told.code:
        assert "no usable cache folder; tried " in told.one_line


def test_weights_beside_it(run: Runner, wine: Runner, other_base: Callable[[str], Path], tmp_path: Path) -> None:
    base = other_base(TARGET)
    pair = tmp_path / "two files.exe"
    built = run.qwenfile("build", "--demo", "--target", TARGET, "--base", base, "--external-weights", "-o", pair)
    succeed(built, ["build", "--external-weights"])
    assert wine(*WINE, pair, *STEADY, "-p", QUESTION).out == ANSWER
    (tmp_path / "two files.gguf").rename(tmp_path / "other.gguf")
    lost = wine(*WINE, pair, *STEADY, "-p", QUESTION)
    assert (lost.code, "two files.gguf is not there" in lost.one_line) == (3, True)


@pytest.fixture(scope="module")
def identity(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate that nobody vouches for, its key, both in one file, and that one's password."""
    folder = tmp_path_factory.mktemp("identity")
    make = (
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Nobody",
        "-addext", "extendedKeyUsage=codeSigning", "-keyout", "key.pem", "-out", "certificate.pem",
    )  # fmt: skip
    join = ("openssl", "pkcs12", "-export", "-inkey", "key.pem", "-in", "certificate.pem", "-out", "id.pfx")
    (folder / "password").write_text("open sesame\n")
    for command in (make, (*join, "-passout", "file:password"), ("openssl", "genrsa", "-out", "other.pem")):
        succeed(run(*command, cwd=folder), command)
    return folder


@needs_osslsigncode
def test_a_signed_bundle_runs_and_verifies(
    run: Runner, wine: Runner, exe: Path, identity: Path, tmp_path: Path
) -> None:
    certificate, signed = identity / "certificate.pem", tmp_path / "signed 签名.exe"
    shutil.copy(exe, signed)
    pair = ("--certificate", certificate, "--key", identity / "key.pem")
    joined = ("--pkcs12", identity / "id.pfx", "--password-file", identity / "password")
    for given in (pair, joined):  # the second signature takes the place of the first
        succeed(run.qwenfile("sign", signed, *given), ["sign"])
        assert signed.stat().st_size > exe.stat().st_size
        checked = run("osslsigncode", "verify", "-CAfile", certificate, "-in", signed)
        assert "Signature verification: ok" in checked.out, checked.out
        assert "Number of verified signatures: 1" in checked.out
        assert run.qwenfile("verify", signed).code == 0
    assert wine(*WINE, signed, *STEADY, "-p", QUESTION).out == ANSWER
    succeed(run.qwenfile("args", signed, "--set", "--temp 0"), ["args"])
    assert run.qwenfile("verify", signed).code == 0
    assert "No signature found" in run("osslsigncode", "verify", "-in", signed).err


@needs_osslsigncode
def test_signing_says_what_is_wrong(run: Runner, exe: Path, demo_bundle: Path, identity: Path, tmp_path: Path) -> None:
    assert run.qwenfile("sign", demo_bundle).code == 2
    assert "--pkcs12" in run.qwenfile("sign", exe).one_line
    (tmp_path / "wrong").write_text("open barley")
    certificate = ("--certificate", identity / "certificate.pem")
    wrong = {
        ("--pkcs12", identity / "id.pfx"): "Wrong password",
        ("--pkcs12", identity / "id.pfx", "--password-file", tmp_path / "wrong"): "Wrong password",
        ("--pkcs12", identity / "key.pem"): "PKCS#12",
        (*certificate, "--key", identity / "certificate.pem"): "private key file",
        (*certificate, "--key", identity / "other.pem"): "private key",
        ("--certificate", identity / "key.pem", "--key", identity / "key.pem"): "certificate",
    }
    before = exe.read_bytes()
    for given, words in wrong.items():
        failed = run.qwenfile("sign", exe, *given)
        assert (failed.code, failed.one_line.startswith("qwenfile: osslsigncode failed: ")) == (1, True)
        assert words in failed.one_line.partition("(check the certificate")[0]
        assert ":error:" not in failed.one_line
    assert exe.read_bytes() == before


def test_a_program_shows_its_icon_and_what_it_is(
    run: Runner, other_base: Callable[[str], Path], tmp_path: Path
) -> None:
    """The bundle's name, the model's and qwenfile's version."""
    lief = pytest.importorskip("lief", reason="LIEF has no wheel for this system")
    base, named = other_base(TARGET), tmp_path / "x.exe"
    build = ("build", "--demo", "--base", base, "--name", "班级 4b", "--external-weights", "-o", named)
    succeed(run.qwenfile(*build), build)
    for path, name, product in (
        (named, "班级 4b", "qwenfile demo (F16), made with qwenfile"),
        (base, "qwenfile", "qwenfile"),
    ):
        program = lief.PE.parse(str(path))
        resources = program.resources_manager  # lives as long as the program
        assert sorted(icon.width for icon in resources.icons) == [16, 32, 48, 128]
        (version,) = resources.version
        texts = [entry for table in version.string_file_info.children for entry in table.entries]
        told = {entry.key: entry.value.rstrip("\0") for entry in texts}
        assert told == {"FileDescription": name, "ProductName": product, "ProductVersion": VERSION}
        number = version.file_info
        parts = (number.file_version_ms >> 16, number.file_version_ms & 0xFFFF, number.file_version_ls >> 16)
        assert ".".join(map(str, parts)) == VERSION
