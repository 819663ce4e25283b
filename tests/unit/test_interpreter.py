"""Which Python is frozen, and what takes the place of its binaries for another machine."""

import json
from pathlib import Path

import pytest

from bundler.freeze import _counterpart
from bundler.interpreter import interpreter, this_python
from runtime.errors import QwenfileError
from runtime.paths import host_target
from tests.unit.systems import posix_only


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A build cache with a Python that runs here, made for an older system, and one for another machine."""
    pythons = tmp_path / "python"
    for name, facts in (
        ("old-1", {"version": "3.11.2", "command": ["bin/python3.11"], "library_path": "lib"}),
        ("other-2", {"version": "3.11.2", "host": "old-1"}),
    ):
        (pythons / name / "licenses").mkdir(parents=True)
        (pythons / name / "licenses" / "python.txt").write_text(f"licence of {name}")
        (pythons / name / "python.json").write_text(json.dumps(facts))
    (pythons / "other.current").write_text("other-2\n")
    return tmp_path


def test_this_machine_freezes_the_python_that_runs_unless_told_otherwise(cache: Path) -> None:
    assert interpreter(cache, host_target(), None) == this_python()
    old = interpreter(cache, host_target(), cache / "python/old-1")
    assert old.command == (str(cache / "python/old-1/bin/python3.11"),)
    assert old.env["LD_LIBRARY_PATH"] == str(cache / "python/old-1/lib")
    assert old.license_text("python") == b"licence of old-1"
    assert old.license_text("libz") is None
    assert old.version != this_python().version


def test_another_machines_binaries_are_frozen_by_the_python_that_runs_here(cache: Path) -> None:
    other = interpreter(cache, "other", None)
    assert other.command == (str(cache / "python/old-1/bin/python3.11"),)
    assert other.foreign == cache / "python/other-2"
    assert other.license_text("python") == b"licence of other-2"
    assert other.env["PATH"].startswith(str(cache / "python/other-2/tools"))


def test_what_is_missing_is_said_with_the_remedy(cache: Path) -> None:
    with pytest.raises(QwenfileError, match=r"no Python to freeze for nowhere.*build_python\.py --target nowhere"):
        interpreter(cache, "nowhere", None)
    foreign = next(target for target in ("windows-arm64", "macos-x86_64") if target != host_target())
    with pytest.raises(
        QwenfileError, match=f"no Python to freeze for {foreign}.*on such a system, with its own Python"
    ):
        interpreter(cache, foreign, None)
    with pytest.raises(QwenfileError, match="holds no Python to freeze"):
        interpreter(cache, "other", cache)
    (cache / "python/old-1/python.json").write_text('{"version": "3.11.1"}')
    with pytest.raises(QwenfileError, match=r"old-1 is 3\.11\.1, this 3\.11\.2"):
        interpreter(cache, "other", None)


@posix_only
def test_modules_and_libraries_are_replaced_one_by_one(tmp_path: Path) -> None:
    for name in ("lib-dynload/_json.cpython-311-aarch64-linux-gnu.so", "lib/libz.so.1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    module = ("lib-dynload/_json.cpython-311-x86_64-linux-gnu.so", "/here/_json.so", "EXTENSION")
    found = str(tmp_path / "lib-dynload/_json.cpython-311-aarch64-linux-gnu.so")
    assert _counterpart(module, tmp_path) == ("lib-dynload/_json.cpython-311-aarch64-linux-gnu.so", found, "EXTENSION")
    library = ("libz.so.1", "/here/libz.so.1", "BINARY")
    assert _counterpart(library, tmp_path) == ("libz.so.1", str(tmp_path / "lib/libz.so.1"), "BINARY")
    for name in ("libssl.so.3", "lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so"):
        with pytest.raises(QwenfileError, match="has no counterpart of"):
            _counterpart((name, "/here", "BINARY"), tmp_path)
