"""What PyInstaller makes of the launcher's packages: complete, small, the same twice, and the stub can carry it.

Instead of the launcher a probe is frozen, with everything the launcher may use; the launcher itself is exercised by
every test that runs a bundle.
"""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bundler.freeze import freeze, launcher_tar
from runtime.bundle import HEADER, MAGIC

ROOT = Path(__file__).resolve().parents[2]

PROBE = (ROOT / "tests/integration/frozen_probe.py").read_text("utf-8")


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    return freeze(folder / "work", folder / "dist", PROBE)


def answer(command: list[str | Path], **env: str) -> dict[str, Any]:
    result = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def test_frozen_program_has_all_it_needs_without_python_and_in_a_c_locale(frozen: Path) -> None:
    facts = answer([frozen / "launcher", "a b", "ü"], LANG="C", LC_ALL="C")
    assert facts["argv"] == ["a b", "ü"]
    assert facts["executable"] == str(frozen / "launcher")
    assert facts["utf8"] == 1
    assert facts["encodings"] == ["utf-8"] * 3
    assert facts["said"] == "naïve 千问 🙂"
    assert facts["sha256"] == hashlib.sha256(b"x").hexdigest()
    assert facts["address"] == "127.0.0.1"


def test_common_languages_are_highlighted_and_rare_ones_unknown(frozen: Path) -> None:
    facts = answer([frozen / "launcher"])
    assert facts["languages"] > 150
    assert facts["unknown"] is True
    assert "Title" in facts["markdown"]
    assert "千问" in facts["markdown"]


def test_linker_settings_of_the_user_return(frozen: Path) -> None:
    assert answer([frozen / "launcher"])["linker"] == {}
    assert answer([frozen / "launcher"], LD_LIBRARY_PATH="/mine")["linker"] == {"LD_LIBRARY_PATH": "/mine"}


def test_nothing_superfluous_is_carried(frozen: Path) -> None:
    names = {path.name for path in frozen.rglob("*") if path.is_file()}
    for part in ("libssl", "libcrypto", "libsqlite3", "liblzma", "_tkinter", "_codecs_jp", "_wcwidth_c", "RECORD"):
        assert not [name for name in names if part in name]
    assert "libpython3.11.so.1.0" in names or any(name.startswith("libpython") for name in names)
    assert sum(path.stat().st_size for path in frozen.rglob("*") if path.is_file()) < 16_000_000


def test_same_bytes_in_another_folder(frozen: Path, tmp_path: Path) -> None:
    again = freeze(tmp_path / "another" / "work", tmp_path / "another" / "dist", PROBE)
    digests = []
    for folder in (frozen, again):
        launcher_tar(folder, tmp_path / "launcher.tar")
        digests.append(hashlib.sha256((tmp_path / "launcher.tar").read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_archive_says_nothing_about_time_and_owner(frozen: Path, tmp_path: Path) -> None:
    launcher_tar(frozen, tmp_path / "launcher.tar")
    with tarfile.open(tmp_path / "launcher.tar") as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names)
    assert {member.name for member in members if member.mode & 0o100 and "/" not in member.name} >= {"launcher"}
    assert all(member.isfile() or member.isdir() for member in members)
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    assert {member.mode for member in members} <= {0o755, 0o644}


def test_links_are_packed_as_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "_internal").mkdir(parents=True)
    (folder / "_internal" / "lib.so.1").write_bytes(b"library")
    (folder / "_internal" / "lib.so").symlink_to("lib.so.1")
    launcher_tar(folder, tmp_path / "launcher.tar")
    with tarfile.open(tmp_path / "launcher.tar") as tar:
        assert [(m.name, m.isfile(), m.size) for m in tar.getmembers()] == [
            ("_internal", False, 0),
            ("_internal/lib.so", True, 7),
            ("_internal/lib.so.1", True, 7),
        ]


def test_stub_runs_it(frozen: Path, tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, ROOT / "build_scripts/build_stub.py"], check=True, capture_output=True, text=True
    )
    stub = Path(built.stdout.splitlines()[-1]).read_bytes()
    launcher_tar(frozen, tmp_path / "launcher.tar")
    tar = (tmp_path / "launcher.tar").read_bytes()
    position = stub.index(MAGIC)
    header = HEADER.pack(MAGIC, 1, 0, len(stub), len(tar), hashlib.sha256(tar).digest(), 0, 0)
    bundle = tmp_path / "千问 3.run"
    bundle.write_bytes(stub[:position] + header + stub[position + HEADER.size :] + tar)
    bundle.chmod(0o755)
    cache = tmp_path / "cache"
    for _ in range(2):
        facts = answer([bundle, "one"], QWENFILE_CACHE=os.fspath(cache))
        assert facts["argv"] == ["one"]
        assert facts["bundle"] == str(bundle)
        assert Path(facts["executable"]).parent.parent == cache
    assert len(list(cache.iterdir())) == 1
