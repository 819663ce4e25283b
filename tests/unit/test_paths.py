"""runtime.paths with an environment passed in and folders below tmp_path."""

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import paths
from runtime.errors import CacheError, ExitCode
from tests.unit.systems import posix_only

pytestmark = posix_only
needs_root = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root: other owners")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(autouse=True)
def loose_umask() -> Iterator[None]:
    """Some systems give the group write permission by default; private folders must not care."""
    old = os.umask(0o002)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_host_target_names_system_and_machine() -> None:
    assert re.fullmatch(r"(linux|macos|windows)-(x86_64|aarch64|arm64)", paths.host_target())


def test_build_cache_is_made_private_so_that_the_run_cache_may_be_its_parent(home: Path) -> None:
    env = {"HOME": str(home)}
    assert paths.build_cache(env) == home / ".cache/qwenfile/build"
    assert mode(home / ".cache/qwenfile/build") == mode(home / ".cache/qwenfile") == 0o700
    assert paths.run_cache(env) == home / ".cache/qwenfile"


def test_build_cache_override_and_failure(home: Path, tmp_path: Path) -> None:
    assert paths.build_cache({"QWENFILE_BUILD_CACHE": str(tmp_path / "b")}) == tmp_path / "b"
    (home / "file").touch()
    with pytest.raises(CacheError, match=r"file/b.*not a directory.*set QWENFILE_BUILD_CACHE"):
        paths.build_cache({"QWENFILE_BUILD_CACHE": str(home / "file/b")})


def test_run_cache_places_in_order() -> None:
    env = {
        "QWENFILE_CACHE": "/given",
        "XDG_CACHE_HOME": "/xdg",
        "HOME": "/home/me",
        "XDG_RUNTIME_DIR": "/run/me",
        "TMPDIR": "/fast",
    }
    mine = f"qwenfile-{os.geteuid()}"
    expected = ["/given", "/xdg/qwenfile", "/run/me/qwenfile", f"/fast/{mine}", f"/var/tmp/{mine}", f"/tmp/{mine}"]
    assert [str(place.path) for place in paths.run_cache_places(env)] == expected
    assert [place.temporary for place in paths.run_cache_places(env)] == [False, False, True, True, True, True]


def test_relative_xdg_folders_are_ignored_and_doubles_tried_once() -> None:
    env = {"XDG_CACHE_HOME": "cache", "HOME": "/home/me", "XDG_RUNTIME_DIR": "run", "TMPDIR": "/tmp"}
    places = [str(place.path) for place in paths.run_cache_places(env)]
    mine = f"qwenfile-{os.geteuid()}"
    assert places == ["/home/me/.cache/qwenfile", f"/tmp/{mine}", f"/var/tmp/{mine}"]


def test_run_cache_skips_what_is_unusable(home: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o775)
    (tmp_path / "file").touch()
    for given in ("open", "file", "file/deeper"):
        env = {"QWENFILE_CACHE": str(tmp_path / given), "HOME": str(home)}
        assert paths.run_cache(env) == home / ".cache/qwenfile"


def test_temporary_place_must_not_be_a_link_nor_renameable_by_all(tmp_path: Path) -> None:
    for name, bits in (("mine", 0o700), ("run", 0o700), ("loose", 0o777), ("tmp", 0o1777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(bits)
    (tmp_path / "run/qwenfile").symlink_to(tmp_path / "mine")
    for runtime in ("run", "loose", "missing"):
        env = {"HOME": "/dev/null", "XDG_RUNTIME_DIR": str(tmp_path / runtime), "TMPDIR": str(tmp_path / "tmp")}
        assert paths.run_cache(env) == tmp_path / f"tmp/qwenfile-{os.geteuid()}"
    assert not (tmp_path / "missing").exists()


@needs_root
def test_foreign_home_is_left_alone(home: Path, tmp_path: Path) -> None:
    os.chown(home, 54321, 54321)
    (tmp_path / "tmp").mkdir(mode=0o700)
    env = {"HOME": str(home), "TMPDIR": str(tmp_path / "tmp")}
    assert paths.run_cache(env) == tmp_path / "tmp/qwenfile-0"
    assert list(home.iterdir()) == []


def test_no_usable_cache_tells_all_reasons_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    tried = (paths.Place(path=tmp_path / "file"), paths.Place(path=tmp_path / "none/x", temporary=True))
    monkeypatch.setattr(paths, "run_cache_places", lambda _env: tried)
    with pytest.raises(CacheError) as caught:
        paths.run_cache({})
    assert caught.value.exit_code == ExitCode.NO_CACHE
    assert f"{tmp_path}/file: not a directory" in caught.value.message
    assert f"{tmp_path}/none/x: no such file or directory" in caught.value.message
    assert "QWENFILE_CACHE" in caught.value.remedy


def test_state_dir(home: Path, tmp_path: Path) -> None:
    assert paths.state_dir({"HOME": str(home)}) == home / ".local/state/qwenfile"
    assert mode(home / ".local/state/qwenfile") == 0o700
    assert paths.state_dir({"HOME": str(home), "XDG_STATE_HOME": str(tmp_path / "s")}) == tmp_path / "s/qwenfile"
    with pytest.raises(CacheError, match="history"):
        paths.state_dir({"HOME": "/dev/null"})


def test_private_folder_is_private_short_and_gone_afterwards(tmp_path: Path) -> None:
    with paths.private_folder({"HOME": str(tmp_path / ("x" * 90))}) as folder:
        assert mode(folder) == 0o700
        assert len(os.fsencode(folder)) <= paths.MAX_PRIVATE_PATH
        (folder / "engine.sock").touch()
        (folder / "deeper").mkdir()
    assert not folder.exists()


def test_private_folder_goes_after_an_error(short: Path) -> None:
    with pytest.raises(KeyError), paths.private_folder({"XDG_RUNTIME_DIR": str(short)}) as folder:  # noqa: PT012
        assert folder.parent == short
        raise KeyError
    assert list(short.iterdir()) == []


@pytest.fixture
def short() -> Iterator[Path]:
    """A private folder whose path leaves room for a socket's name (tmp_path's may not)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_kept(short: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(short)}
    dead = short / "qwenfile-999999-0123abcd"
    dead.mkdir()
    (dead / "lock").touch()  # nobody holds it
    (dead / "engine.sock").touch()
    with paths.private_folder(env) as alive:
        assert list(short.iterdir()) == [alive]
        with paths.private_folder(env):
            assert alive.exists()
    assert list(short.iterdir()) == []


def test_reaping_leaves_what_is_not_ours(short: Path) -> None:
    (short / "qwenfile-1-0123abcd").mkdir()  # just made, its owner has not locked it yet
    (short / "qwenfile-2-0123abcd").mkdir()
    os.utime(short / "qwenfile-2-0123abcd", (0, 0))
    (short / "elsewhere").mkdir()
    (short / "elsewhere" / "lock").touch()
    (short / "qwenfile-3-0123abcd").symlink_to(short / "elsewhere")
    with paths.private_folder({"XDG_RUNTIME_DIR": str(short)}):
        pass
    assert sorted(path.name for path in short.iterdir()) == ["elsewhere", "qwenfile-1-0123abcd", "qwenfile-3-0123abcd"]
    assert (short / "elsewhere" / "lock").exists()
