"""`qwenfile` as its user runs it: build, inspect, verify, unpack, args, upgrade, and every kind of bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.demo import DEMO_MODEL
from runtime.bundle import ALIGNMENT, MODEL, Bundle
from tests.integration.conftest import ROOT, Runner
from tests.unit.gguf_files import TinyGGUF


def test_the_summary_says_size_context_quantization_and_how_to_run_it(run: Runner, base: Path, tmp_path: Path) -> None:
    built = run.qwenfile("build", "--demo", "-o", "a.run", "--base", base, cwd=tmp_path)
    assert built.code == 0, built.err
    assert "verified: loaded its weights and generated a token" in built.err
    for words in ("./a.run", "added to the weights", "F16", "tokens by default"):
        assert words in built.out
    assert [path.name for path in tmp_path.iterdir()] == ["a.run"]


def test_a_bundle_is_named_after_its_model_when_nobody_says(run: Runner, base: Path, tmp_path: Path) -> None:
    model = tmp_path / "in.gguf"
    shutil.copy(DEMO_MODEL, model)
    built = run.qwenfile("build", model, "--name", "Class 4b: Qwen3", "--no-verify", "--base", base, cwd=tmp_path)
    assert built.code == 0, built.err
    assert (tmp_path / "class-4b-qwen3.run").exists()


def test_other_zip_readers_accept_a_bundle(run: Runner, demo_bundle: Path) -> None:
    with zipfile.ZipFile(demo_bundle) as archive:
        assert archive.testzip() is None
    listed = run(sys.executable, "-m", "zipfile", "-l", demo_bundle)
    assert listed.code == 0
    assert MODEL in listed.out
    tested = run("unzip", "-t", demo_bundle)
    assert tested.code == 0, tested.out + tested.err
    assert "No errors detected" in tested.out


def test_the_weights_are_the_model_byte_for_byte_and_aligned(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    assert bundle.require(MODEL).offset % ALIGNMENT == 0
    assert bundle.read(MODEL) == DEMO_MODEL.read_bytes()


def test_inspect_describes_all_three_kinds(run: Runner, base: Path, demo_bundle: Path) -> None:
    kinds = {}
    for path in (DEMO_MODEL, base, demo_bundle):
        described = run.qwenfile("inspect", path, "--json")
        assert described.code == 0, described.err
        kinds[path] = json.loads(described.out)
        assert run.qwenfile("inspect", path).code == 0
    assert [kinds[path]["kind"] for path in (DEMO_MODEL, base, demo_bundle)] == ["gguf", "base", "bundle"]
    assert kinds[demo_bundle]["model"]["architecture"] == "qwen3"
    assert kinds[demo_bundle]["size"] == demo_bundle.stat().st_size
    assert kinds[base]["target"] == "linux-x86_64"


def test_verify_hashes_and_generates(run: Runner, demo_bundle: Path) -> None:
    verified = run.qwenfile("verify", demo_bundle)
    assert verified.code == 0, verified.err
    assert "bytes as they were built" in verified.err
    assert "generated a token" in verified.err


@pytest.fixture
def copy(demo_bundle: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy.run"
    shutil.copy(demo_bundle, path)
    return path


def test_verify_names_the_damaged_member(run: Runner, copy: Path) -> None:
    bundle = Bundle.open(copy)
    for name in (MODEL, "launcher.tar", "engine/libllama.so"):
        member = bundle.require(name)
        with copy.open("r+b") as file:
            file.seek(member.offset + member.size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
            file.flush()
            damaged = run.qwenfile("verify", copy)
            file.seek(-1, os.SEEK_CUR)
            file.write(byte)
        assert damaged.code == 3
        assert f"damaged member {name}" in damaged.err.splitlines()[-1]


def test_verify_notices_one_missing_byte(run: Runner, copy: Path) -> None:
    os.truncate(copy, copy.stat().st_size - 1)
    cut = run.qwenfile("verify", copy)
    assert cut.code == 3
    assert "is truncated" in cut.err.splitlines()[-1]


def test_arguments_are_shown_and_replaced_in_place(run: Runner, copy: Path) -> None:
    before = Bundle.open(copy).require(MODEL).offset
    inode = copy.stat().st_ino
    changed = run.qwenfile("args", copy, "--set", "-sys 'Your name is Ada.' ...")
    assert (changed.code, changed.out) == (0, "-sys 'Your name is Ada.' ...\n")
    assert run.qwenfile("args", copy).out == changed.out
    assert (Bundle.open(copy).require(MODEL).offset, copy.stat().st_ino) == (before, inode)
    asked = run(copy, "--cli", "-p", "Who are you?", "--temp", "0")
    assert asked.code == 0, asked.err
    assert "Ada" in asked.out


def test_a_baked_system_prompt_is_followed(run: Runner, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "caps.run"
    prompt = "Always answer in capital letters."
    built = run.qwenfile("build", "--demo", "-o", out, "--base", base, "--system-prompt", prompt, "--no-verify")
    assert built.code == 0, built.err
    asked = run(out, "--cli", "-p", "What is the capital of Italy?", "--temp", "0")
    assert asked.out == "THE CAPITAL OF ITALY IS ROME.\n"


def test_unpack_gives_back_the_model(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    unpacked = run.qwenfile("unpack", demo_bundle, tmp_path / "parts")
    assert unpacked.code == 0, unpacked.err
    assert (tmp_path / "parts" / MODEL).read_bytes() == DEMO_MODEL.read_bytes()
    assert (tmp_path / "parts/licenses").is_dir()


def test_upgrade_keeps_weights_and_arguments(run: Runner, base: Path, copy: Path, tmp_path: Path) -> None:
    run.qwenfile("args", copy, "--set", "-n 7")
    upgraded = run.qwenfile("upgrade", copy, "-o", tmp_path / "new.run", "--base", base)
    assert upgraded.code == 0, upgraded.err
    assert (tmp_path / "new.run").read_bytes() == copy.read_bytes()


def test_external_weights_lie_beside_and_run(run: Runner, base: Path, tmp_path: Path) -> None:
    built = run.qwenfile("build", "--demo", "--external-weights", "-o", tmp_path / "e.run", "--base", base)
    assert built.code == 0, built.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.gguf", "e.run"]
    (tmp_path / "e.gguf").unlink()
    gone = run(tmp_path / "e.run", "--cli", "-p", "Hi")
    assert gone.code == 3
    assert "e.gguf" in gone.one_line


def test_licences_of_everything_inside_are_carried(demo_bundle: Path) -> None:
    names = {member.name for member in Bundle.open(demo_bundle).manifest.prefixed("licenses/")}
    for part in ("qwenfile", "python", "rich", "prompt_toolkit", "pygments", "pyinstaller", "llama"):
        assert any(part in name.lower() for name in names), part


def bad_models(folder: Path) -> Iterator[tuple[str, bytes | None, str]]:
    """(name, content, words of the message)"""
    whole = DEMO_MODEL.read_bytes()
    other = TinyGGUF()
    other.values["general.architecture"] = "llama"
    yield "text.gguf", b"hello, I am no model\n" * 9, "is not a GGUF file"
    yield "empty.gguf", b"", "it has 0 bytes"
    yield "cut-header.gguf", whole[:20], "it has 20 bytes"
    yield "cut-keys.gguf", whole[:400], "is truncated"
    yield "cut-tensor-table.gguf", whole[:41_000], "is truncated"
    yield "cut-data.gguf", whole[:-1], "is truncated"
    yield "llama.gguf", other.data(), "architecture 'llama'"
    yield "missing.gguf", None, "No such file"


@pytest.mark.parametrize(
    "name", ["text", "empty", "cut-header", "cut-keys", "cut-tensor-table", "cut-data", "llama", "missing"]
)
def test_a_bad_model_gets_one_line_and_leaves_nothing(run: Runner, base: Path, tmp_path: Path, name: str) -> None:
    file, content, words = next(row for row in bad_models(tmp_path) if row[0] == f"{name}.gguf")
    if content is not None:
        (tmp_path / file).write_bytes(content)
    before = set(tmp_path.iterdir())
    failed = run.qwenfile("build", tmp_path / file, "-o", tmp_path / "out.run", "--base", base)
    assert failed.code == 3
    assert words in failed.one_line
    assert set(tmp_path.iterdir()) == before


def test_a_directory_is_no_model(run: Runner, base: Path, tmp_path: Path) -> None:
    failed = run.qwenfile("build", tmp_path, "-o", tmp_path / "out.run", "--base", base)
    assert (failed.code, "is a directory" in failed.one_line) == (3, True)


def test_an_unreadable_model(run: Runner, base: Path, tmp_path: Path) -> None:
    """Root reads everything, so the test becomes somebody else where it can."""
    shutil.copy(DEMO_MODEL, tmp_path / "m.gguf")
    (tmp_path / "m.gguf").chmod(0)
    if os.geteuid() == 0:
        script = """
import os, sys
from pathlib import Path
from bundler import model
from runtime.errors import ModelError
os.setgid(65534)
os.setuid(65534)
try:
    model.load(Path(sys.argv[1]))
except ModelError as error:
    sys.stderr.write(str(error))
    raise SystemExit(error.exit_code)
"""
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(folder.stat().st_mode | 0o005)
        failed = run(sys.executable, "-c", script, tmp_path / "m.gguf", PYTHONPATH=str(ROOT))
        assert (failed.code, "Permission denied" in failed.one_line) == (3, True)
    else:
        failed = run.qwenfile("build", tmp_path / "m.gguf", "-o", tmp_path / "out.run", "--base", base)
        assert (failed.code, "Permission denied" in failed.one_line) == (3, True)


def test_an_existing_output_needs_force(run: Runner, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.run"
    out.write_text("precious")
    failed = run.qwenfile("build", "--demo", "-o", out, "--base", base)
    assert (failed.code, out.read_text()) == (2, "precious")
    assert "--force" in failed.one_line
    assert run.qwenfile("build", "--demo", "-o", out, "--base", base, "--force", "--no-verify").code == 0


def test_the_output_is_not_the_input(run: Runner, base: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    shutil.copy(DEMO_MODEL, model)
    failed = run.qwenfile("build", model, "-o", model, "--base", base, "--force")
    assert failed.code == 2
    assert "is the input" in failed.one_line
    assert model.read_bytes() == DEMO_MODEL.read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 8 MB, smaller than any bundle."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    ).returncode
    if mounted:
        pytest.skip("mounting a small filesystem needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_before_writing(run: Runner, base: Path, small_disk: Path) -> None:
    failed = run.qwenfile("build", "--demo", "-o", small_disk / "out.run", "--base", base)
    assert failed.code == 1
    assert "bytes free; the bundle needs" in failed.one_line
    assert list(small_disk.iterdir()) == []


def test_ctrl_c_leaves_nothing(run: Runner, base: Path, tmp_path: Path) -> None:
    """A large model of zeros behind a true header, so that the copy takes long enough to be interrupted."""
    model = tmp_path / "large.gguf"
    shutil.copy(DEMO_MODEL, model)
    os.truncate(model, 6 << 30)  # sparse; hashing it takes seconds
    process = subprocess.Popen(
        [sys.executable, "-m", "bundler", "build", model, "-o", tmp_path / "out.run", "--base", base, "--no-verify"],
        env={**run.env, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not list(tmp_path.glob(".out.run.*.part")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["large.gguf"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["build"], 2),
        (["build", "--demo", "--target", "amiga"], 2),
        (["inspect", "nothing.run"], 3),
        (["verify", "/bin/sh"], 3),
        (["args", "/bin/sh"], 3),
        (["--version"], 0),
        (["--help"], 0),
    ],
)
def test_exit_codes(run: Runner, tmp_path: Path, arguments: list[str], code: int) -> None:
    done = run.qwenfile(*arguments, cwd=tmp_path)
    assert done.code == code
    assert "Traceback" not in done.err


def test_building_needs_no_compiler(run: Runner, base: Path, tmp_path: Path) -> None:
    built = run(
        sys.executable, "-m", "bundler", "build", "--demo", "-o", tmp_path / "x.run", "--base", base, "--no-verify",
        PATH=str(tmp_path), PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert built.code == 0, built.err
