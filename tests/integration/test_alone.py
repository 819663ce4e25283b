"""A bundle alone: another user, an empty environment, no network; and what it leaves behind."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.tidy import sweep
from tests.integration.conftest import TIMEOUT, Runner
from tests.integration.server import Server

NOBODY = 65534
QUESTION = ("--cli", "-p", "What is the capital of France?", "--temp", "0")
ANSWER = "The capital of France is Paris.\n"


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path below `folder` with its inode and time of change."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in folder.rglob("*")
    }


@pytest.fixture
def alone(demo_bundle: Path, tmp_path: Path) -> Path:
    """The bundle by itself in an empty folder that everybody can read."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    bundle = tmp_path / "alone" / "qwen3.run"
    bundle.parent.mkdir()
    shutil.copy(demo_bundle, bundle)
    return bundle


@pytest.fixture
def nobodys_cache() -> Iterator[Path]:
    """Where a user without a home keeps the cache; removed before and after."""
    cache = Path(f"/var/tmp/qwenfile-{NOBODY}")
    shutil.rmtree(cache, ignore_errors=True)
    yield cache
    shutil.rmtree(cache, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_user_with_an_empty_environment(alone: Path, nobodys_cache: Path) -> None:
    done = subprocess.run(
        [alone, *QUESTION],
        env={}, cwd=alone.parent, user=NOBODY, group=NOBODY, extra_groups=[],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, ANSWER, b"")
    assert [path.name for path in alone.parent.iterdir()] == [alone.name]
    assert sorted(path.name.split("-")[0] for path in nobodys_cache.iterdir() if path.is_dir()) == [
        "engine", "launcher",
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace without network needs root")
def test_without_any_network(run: Runner, alone: Path) -> None:
    done = run("unshare", "--net", alone, *QUESTION)
    assert (done.code, done.out) == (0, ANSWER), done.err


def test_a_second_start_writes_nothing(run: Runner, alone: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    home = tmp_path / "home"
    home.mkdir()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    places = {"QWENFILE_CACHE": str(cache), "HOME": str(home), "TMPDIR": str(temporary)}
    assert run(alone, *QUESTION, **places).out == ANSWER
    before = tree(tmp_path)
    assert run(alone, *QUESTION, **places).out == ANSWER
    after = tree(tmp_path)
    assert after.keys() == before.keys()
    files = {name for name in before if (tmp_path / name).is_file()}
    assert {name: after[name] for name in files} == {name: before[name] for name in files}
    assert list(temporary.iterdir()) == list(home.iterdir()) == []


def folders(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_a_first_start_takes_away_what_nothing_has_used_for_a_month(run: Runner, alone: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old = [cache / "launcher-0123456789abcdef/_internal", cache / "engine-0123456789abcdef"]
    for folder in old:
        folder.mkdir(parents=True)
        (folder / "file").touch()
    cache.chmod(0o700)
    for folder in folders(cache):
        os.utime(folder, (0, 0))
    assert run(alone, *QUESTION, QWENFILE_CACHE=str(cache)).out == ANSWER
    assert not any(folder.exists() for folder in old)
    assert [path.name.split("-")[0] for path in folders(cache)] == ["engine", "launcher"]


def test_what_a_running_bundle_uses_is_never_taken_away(run: Runner, alone: Path, tmp_path: Path) -> None:
    """The same rule, asked by this process, while a server runs out of folders that look old, and after its end."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    with Server(alone, run, QWENFILE_CACHE=str(cache)) as server:
        used = folders(cache)
        assert len(used) == 2
        for folder in used:
            os.utime(folder, (0, 0))
        sweep(cache)
        assert folders(cache) == used
        server.child.terminate()
        server.child.communicate(timeout=TIMEOUT)
    sweep(cache)
    assert folders(cache) == []


def test_from_a_read_only_folder(run: Runner, alone: Path) -> None:
    alone.chmod(0o555)
    alone.parent.chmod(0o555)
    try:
        assert run(alone, *QUESTION, cwd=alone.parent).out == ANSWER
    finally:
        alone.parent.chmod(0o755)


def test_through_a_link_and_by_a_relative_path(run: Runner, alone: Path) -> None:
    (alone.parent / "link").symlink_to(alone.name)
    assert run("./link", *QUESTION, cwd=alone.parent).out == ANSWER


@pytest.mark.parametrize("planted", ["libggml-cpu-evil.so", "libggml-cuda.so", "libllama.so", "libengine.so"])
def test_a_planted_library_is_not_loaded(run: Runner, alone: Path, planted: str) -> None:
    """A library whose constructor writes a file lies where the bundle starts; the file never appears."""
    source = alone.parent / "evil.c"
    witness = alone.parent / "witness"
    source.write_text(
        '#include <stdio.h>\n__attribute__((constructor)) static void evil(void) { fclose(fopen("witness", "w")); }\n'
    )
    library = alone.parent / planted
    assert run("cc", "-shared", "-fPIC", "-o", library, source).code == 0
    loads = f"import ctypes; ctypes.CDLL({str(library)!r})"
    assert run("python3", "-c", loads, cwd=alone.parent).code == 0
    assert witness.exists()
    witness.unlink()
    assert run(alone, *QUESTION, cwd=alone.parent).out == ANSWER
    assert not witness.exists()


def test_the_weights_are_mapped_from_the_bundle(run: Runner, alone: Path) -> None:
    """While the bundle serves, its memory map holds the bundle's own file, and no model file exists elsewhere."""
    process = subprocess.Popen(
        [alone, "--server", "--port", "0", "--nobrowser"],
        env=dict(run.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if b"http://" in line:
                break
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        opened = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert str(alone) in maps
    assert not [name for name in [*maps.splitlines(), *opened] if name.endswith(".gguf")]
