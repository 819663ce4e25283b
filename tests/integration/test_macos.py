"""Bundles for macOS, made here and looked at by an independent parser (LIEF). No Mac has run one: structure only."""

import hashlib
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundler import macho, verify
from bundler.demo import DEMO_MODEL
from bundler.writer import create
from runtime.bundle import LAUNCHER, MODEL, Bundle, Manifest
from runtime.errors import ModelError
from tests.integration.conftest import ROOT, Runner

lief = pytest.importorskip("lief", reason="LIEF has no wheel for this system")
lief.logging.disable()

TARGETS = {"macos-arm64": "ARM64", "macos-x86_64": "X86_64"}


@pytest.fixture(scope="module", params=TARGETS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with a real stub, and bytes that nobody looks at for launcher and engine."""
    command = [sys.executable, ROOT / "build_scripts/build_stub.py", "--target", request.param]
    built = subprocess.run(command, check=True, capture_output=True, text=True)
    stub = Path(built.stdout.splitlines()[-1]).read_bytes()
    path = tmp_path_factory.mktemp("macos") / f"{request.param}.base"
    with create(path) as writer:
        stub_size, stub_sha256 = writer.add_stub(stub, request.param)
        writer.add(LAUNCHER, b"launcher" * 50_000)
        writer.add("engine/libengine.dylib", b"engine" * 10_000, compress=True)
        writer.finish(
            Manifest(
                target=request.param,
                qwenfile="0",
                engine={},
                name="qwenfile",
                stub_size=stub_size,
                stub_sha256=stub_sha256,
            )
        )
    return path


@pytest.fixture
def bundle(run: Runner, base: Path, tmp_path: Path) -> Path:
    built = run.qwenfile("build", "--demo", "--base", base, "--args", "-c 2048 ...", cwd=tmp_path)
    assert built.code == 0, built.err
    assert "not tried out" in built.err
    return tmp_path / "qwenfile-demo.command"


def parsed(path: Path) -> Any:
    programs = lief.MachO.parse(str(path))
    return programs.take(programs.at(0).header.cpu_type)  # a program of its own, no part of the list


def check_structure(path: Path) -> None:
    """What dyld and codesign look at: the last segment reaches to the last byte, the signature is the end of it."""
    program = parsed(path)
    size = path.stat().st_size
    assert lief.MachO.check_layout(program) == (True, "")
    linkedit = program.get_segment("__LINKEDIT")
    assert linkedit.file_offset + linkedit.file_size == size
    assert linkedit.virtual_size % 0x4000 == 0
    assert linkedit.virtual_size >= linkedit.file_size
    assert program.segments[-1].name == "__LINKEDIT"
    signature, symbols = program.code_signature, program.symbol_command
    assert signature.data_offset % 16 == 0
    assert signature.data_offset + signature.data_size == size
    # between them is what aligns the signature: zig's names hold the folder's, which is as long as it is
    assert 0 <= signature.data_offset - (symbols.strings_offset + symbols.strings_size) < 16


def code_directory(path: Path) -> tuple[dict[str, int], list[bytes]]:
    """Fields and page hashes of the signature, read by offsets (<kern/cs_blobs.h>)."""
    signature = parsed(path).code_signature
    blob = path.read_bytes()[signature.data_offset : signature.data_offset + signature.data_size]
    magic, _, count, kind, at = struct.unpack_from(">5I", blob)
    assert (magic, count, kind) == (0xFADE0CC0, 1, 0)
    names = "magic length version flags hashes identifier special slots limit size type platform page"
    fields = dict(zip(names.split(), struct.unpack_from(">9I4B", blob, at), strict=True))
    fields["text_start"], fields["text_size"], fields["main"] = struct.unpack_from(">3Q", blob, at + 64)
    start = at + fields["hashes"]
    return fields, [blob[start + 32 * n : start + 32 * (n + 1)] for n in range(fields["slots"])]


def check_signature(path: Path) -> None:
    fields, hashes = code_directory(path)
    content, page = path.read_bytes()[: fields["limit"]], 1 << fields["page"]
    assert fields["limit"] == parsed(path).code_signature.data_offset
    assert hashes == [hashlib.sha256(content[at : at + page]).digest() for at in range(0, len(content), page)]


def test_structure_and_signature(base: Path, bundle: Path) -> None:
    for path in (base, bundle):
        check_structure(path)
        check_signature(path)
        assert parsed(path).header.cpu_type.name == TARGETS[Bundle.open(path).manifest.target]
    assert Bundle.open(bundle).read(MODEL) == DEMO_MODEL.read_bytes()


def test_the_signature_has_the_form_of_the_linkers(tmp_path: Path) -> None:
    """zig's linker signs a program for Apple silicon; our signature says the same of the same program."""
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-macos.11.0", "main.c", "-o", "linked"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    linked, ours = tmp_path / "linked", tmp_path / "ours"
    ours.write_bytes(macho.prepare(linked.read_bytes()))
    with ours.open("r+b") as file:
        macho.finish(file.fileno(), ours.stat().st_size)
    for path in (linked, ours):
        check_structure(path)
        check_signature(path)
    theirs, _ = code_directory(linked)
    fields, _ = code_directory(ours)
    for name in ("magic", "version", "flags", "special", "limit", "size", "type", "text_start", "text_size", "main"):
        assert fields[name] == theirs[name], name
    assert fields["page"] == 12  # as Apple's codesign has it; zig takes the pages of the processor


def test_verify_and_other_commands(run: Runner, base: Path, bundle: Path, tmp_path: Path) -> None:
    assert run.qwenfile("verify", bundle).code == 0
    before = bundle.read_bytes()
    assert run.qwenfile("args", bundle, "--set", "-c 1024 ...").code == 0
    check_structure(bundle)
    check_signature(bundle)
    assert run.qwenfile("args", bundle, "--set", "-c 2048 ...").code == 0
    assert bundle.read_bytes() == before
    assert run.qwenfile("upgrade", bundle, "-o", tmp_path / "again.command", "--base", base).code == 0
    assert (tmp_path / "again.command").read_bytes() == before


def test_damage_in_load_commands_and_signature_is_found(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    content = bytearray(bundle.read_bytes())
    layout = macho.read_layout(bytes(content))
    positions = [at + n for at, size in layout.fields for n in range(size)]
    positions += [4, layout.linkedit + 8, parsed(bundle).code_signature.data_offset + 200, len(content) - 1]
    for position in positions:
        content[position] ^= 1
        bundle.write_bytes(content)
        with pytest.raises(ModelError, match="damaged"):
            verify.verify_bytes(opened, lambda count: None)
        content[position] ^= 1


def test_weights_beside_are_outside_of_the_signature(run: Runner, base: Path, tmp_path: Path) -> None:
    built = run.qwenfile("build", "--demo", "--external-weights", "--base", base, "-o", tmp_path / "x.command")
    assert built.code == 0, built.err
    assert (tmp_path / "x.gguf").read_bytes() == DEMO_MODEL.read_bytes()
    check_structure(tmp_path / "x.command")
    check_signature(tmp_path / "x.command")
