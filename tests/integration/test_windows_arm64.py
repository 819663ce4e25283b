"""Bundles for Windows on Arm, made here and looked at by an independent parser (LIEF). None has ever run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundler.demo import DEMO_MODEL
from bundler.writer import create
from runtime.bundle import LAUNCHER, MODEL, Bundle, Manifest
from tests.integration.conftest import ROOT, Runner

lief = pytest.importorskip("lief", reason="LIEF has no wheel for this system")
lief.logging.disable()

TARGET = "windows-arm64"


@pytest.fixture(scope="module")
def stub() -> Path:
    command = [sys.executable, ROOT / "build_scripts/build_stub.py", "--target", TARGET]
    built = subprocess.run(command, check=True, capture_output=True, text=True)
    return Path(built.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def base(stub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with a real stub, and bytes that nobody looks at for launcher and engine."""
    path = tmp_path_factory.mktemp(TARGET) / f"{TARGET}.base"
    with create(path) as writer:
        stub_size, stub_sha256 = writer.add_stub(stub.read_bytes(), TARGET)
        writer.add(LAUNCHER, b"launcher" * 50_000)
        writer.add("engine/engine.dll", b"engine" * 10_000, compress=True)
        facts: dict[str, Any] = {"target": TARGET, "qwenfile": "0", "engine": {}, "name": "qwenfile"}
        writer.finish(Manifest(**facts, stub_size=stub_size, stub_sha256=stub_sha256))
    return path


@pytest.fixture
def bundle(run: Runner, base: Path, tmp_path: Path) -> Path:
    built = run.qwenfile("build", "--demo", "--target", TARGET, "--base", base, cwd=tmp_path)
    assert built.code == 0, built.err
    assert "not tried out" in built.err
    return tmp_path / "qwenfile-demo.exe"


def check_program(path: Path) -> None:
    """A console program for Arm's 64 bits that Windows 10 may load anywhere, with sections that lie inside the file."""
    program = lief.PE.parse(str(path))
    header = program.optional_header
    assert program.header.machine == lief.PE.Header.MACHINE_TYPES.ARM64
    assert header.subsystem == lief.PE.OptionalHeader.SUBSYSTEM.WINDOWS_CUI
    assert header.major_subsystem_version <= 10
    assert header.has(lief.PE.OptionalHeader.DLL_CHARACTERISTICS.DYNAMIC_BASE)  # Arm's Windows refuses any other
    assert header.has(lief.PE.OptionalHeader.DLL_CHARACTERISTICS.NX_COMPAT)
    assert program.relocations
    size = path.stat().st_size
    assert all(section.pointerto_raw_data + section.sizeof_raw_data <= size for section in program.sections)
    # what every Windows has: nothing of the compiler's must be brought along
    assert {entry.name.lower().partition("-crt-")[0] for entry in program.imports} == {"kernel32.dll", "api-ms-win"}


def test_the_stub_is_a_program_for_arm(stub: Path) -> None:
    check_program(stub)
    assert [path.name for path in (stub.parent / "licenses").iterdir()] == ["mingw-w64.txt"]


def test_a_bundle_is_that_program_with_its_own_name(run: Runner, bundle: Path) -> None:
    check_program(bundle)
    opened = Bundle.open(bundle)
    assert opened.manifest.target == TARGET
    assert opened.read(MODEL) == DEMO_MODEL.read_bytes()
    program = lief.PE.parse(str(bundle))  # what it gives out lives as long as it does
    (version,) = program.resources_manager.version
    told = {entry.key: entry.value for table in version.string_file_info.children for entry in table.entries}
    assert told["FileDescription"].rstrip("\0") == opened.manifest.name
    assert "made with qwenfile" in told["ProductName"]
    assert run.qwenfile("verify", bundle).code == 0


def test_it_can_be_changed(run: Runner, base: Path, bundle: Path, tmp_path: Path) -> None:
    before = bundle.read_bytes()
    assert run.qwenfile("args", bundle, "--set", "-c 1024 ...").code == 0
    check_program(bundle)
    assert run.qwenfile("args", bundle, "--set", "").code == 0
    assert run.qwenfile("upgrade", bundle, "-o", tmp_path / "again.exe", "--base", base).code == 0
    assert (tmp_path / "again.exe").read_bytes() == before
