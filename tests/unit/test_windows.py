"""Bundles for Windows without Windows: the limit of 4 GiB, and what signing writes into a program's file."""

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bundler import assemble
from bundler.build import _fitting
from bundler.platforms import default_name, platform_of, windows
from runtime.bundle import Manifest
from runtime.errors import UsageError
from tests.unit.test_build_order import order

START = 128  # of the PE header


def program() -> bytearray:
    """As much of a PE file as the fields in question need."""
    image = bytearray(os.urandom(START + 24 + 240))
    image[:2], image[60:64] = b"MZ", struct.pack("<I", START)
    image[START : START + 4] = b"PE\0\0"
    return image


TARGETS = pytest.mark.parametrize("target", ["windows-x86_64", "windows-arm64"])


@TARGETS
def test_the_targets_are_known_and_their_programs_end_in_exe(target: str) -> None:
    assert platform_of(target) is windows
    assert default_name("Qwen3 0.6B", target) == "qwen3-0.6b.exe"


@TARGETS
def test_less_than_4_gib_are_one_file_and_more_are_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    plain = order(tmp_path, out=tmp_path / "m.exe")
    manifest = replace(plain.base.manifest, target=target)

    def sized(size: int) -> assemble.Order:
        return replace(plain, base=replace(plain.base, manifest=manifest, size=size))

    assert not _fitting(sized(2**32 - 2**23)).external_weights
    large = sized(2**32 - 2**21)
    with pytest.raises(UsageError, match=rf"{target} starts no file of .*; its limit is 4,293,918,720 .*external"):
        assemble.check(large)
    assert _fitting(large).external_weights
    assert "the weights go into m.gguf beside the bundle" in capsys.readouterr().err


def test_signing_leaves_the_stub_what_it_is() -> None:
    image = program()
    signed = bytearray(image)
    signed[START + 88 : START + 92] = b"SUM!"
    signed[START + 168 : START + 176] = b"SIGNATUR"
    assert windows.stub_identity(bytes(signed)) == windows.stub_identity(bytes(image))
    signed[START + 92] ^= 1
    assert windows.stub_identity(bytes(signed)) != windows.stub_identity(bytes(image))


def test_a_change_takes_the_signature_away(tmp_path: Path) -> None:
    image = program()
    path = tmp_path / "program.exe"
    path.write_bytes(image)
    with path.open("r+b") as file:
        windows.finish(file.fileno(), len(image))
    assert path.read_bytes() == windows.stub_identity(bytes(image))
    assert path.read_bytes() != image


def record(key: str, room: int) -> bytes:
    """A text of a version record, with room for more."""
    name = key.encode("utf-16-le") + b"\0\0"
    head = (6 + len(name) + 3) // 4 * 4
    return struct.pack("<3H", head + room, 2, 1) + name.ljust(head - 6, b"\0") + b"?\0".ljust(room, b"\0")


def test_a_program_says_what_it_is(tmp_path: Path) -> None:
    image = bytes(program()) + record("FileDescription", 20) + record("ProductName", 200) + record("ProductVersion", 20)
    path = tmp_path / "program.exe"
    path.write_bytes(image)
    facts = {"target": "windows-x86_64", "engine": {}, "stub_size": len(image), "stub_sha256": "", "qwenfile": "1.2.3"}
    model = {"name": "Qwen3-8B", "quantization": "Q8_0"}
    manifest = Manifest(**facts, name="模型 of \U0001f600 a long name", model=model)  # type: ignore[arg-type]
    with path.open("r+b") as file:
        windows.describe(file.fileno(), manifest)
    told = path.read_bytes()
    assert len(told) == len(image)
    assert told.decode("utf-16-le", "replace").count("模型 of \U0001f600 \0") == 1
    start = told.index("FileDescription".encode("utf-16-le")) - 6
    assert struct.unpack_from("<2H", told, start) == (struct.unpack_from("<H", image, start)[0], 10)
    assert "Qwen3-8B (Q8_0), made with qwenfile\0".encode("utf-16-le") in told
    assert "1.2.3\0".encode("utf-16-le") in told
    assert windows.stub_identity(told) == windows.stub_identity(image)


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF" + bytes(100), b"MZ" + bytes(58) + b"\xff\xff\xff\xff"])
def test_what_is_no_program_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match="no program for Windows"):
        windows.stub_identity(content)
