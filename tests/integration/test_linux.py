"""Linux of another age and another processor: bases made here, run on Debian 11's libraries and under qemu.

The engines have one CPU variant (--fast); all else is as in a release.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.bases import ANSWER, ASK, needs_cross, needs_debian, script
from tests.integration.conftest import Result, Runner, succeed
from tests.integration.server import QUESTION, Server

pytestmark = needs_debian
needs_root = pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0,
    reason="needs root and mounts: another root folder with this system's /proc and /dev",
)


def system_needs(run: Runner, path: Path) -> dict[str, tuple[int, ...]]:
    """The versions of system libraries that `inspect` measures."""
    described = json.loads(succeed(run.qwenfile("inspect", path, "--json"), ["inspect"]).out)
    return {name: tuple(map(int, version.split("."))) for name, version in described["system"]["versions"].items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("linux")


@pytest.fixture(scope="module")
def portable(run: Runner, other_base: Callable[[str], Path], folder: Path) -> Path:
    """The demo bundle for this machine's kind, on the portable base."""
    base = other_base("linux-x86_64")
    bundle = folder / "portable.run"
    succeed(run.qwenfile("build", "--demo", "--base", base, "-o", bundle), ["build"])
    return bundle


@pytest.fixture(scope="module")
def debian_11(run: Runner, folder: Path) -> Path:
    """A root folder with nothing but Debian 11's libraries."""
    root = folder / "debian 11"
    shutil.copytree(script(run, "sysroot.py"), root, symlinks=True)
    for name in ("proc", "dev", "tmp", "root"):
        (root / name).mkdir()
    return root


def in_root(root: Path, bundle: Path, *arguments: str) -> Result:
    """Run a bundle in another root, with this system's /proc and /dev."""
    place = root / "bundle.run"
    place.unlink(missing_ok=True)
    os.link(bundle, place)
    mount = 'for name in proc dev; do [ ! -d "$0/$name" ] || mount --rbind "/$name" "$0/$name"; done'
    start = 'exec chroot "$0" /bundle.run "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{mount}; {start}", root, *arguments],
        env={"HOME": "/root", "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return Result(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def test_a_portable_bundle_needs_no_newer_libraries_than_debian_11_has(run: Runner, portable: Path) -> None:
    needs = system_needs(run, portable)
    assert needs["GLIBC"] <= (2, 31)
    assert needs["GLIBCXX"] <= (3, 4, 28)
    assert "glibc 2." in run.qwenfile("inspect", portable).out


@needs_root
def test_debian_11_runs_it(portable: Path, debian_11: Path) -> None:
    for _ in range(2):  # unpacks, then finds what it has unpacked
        answer = in_root(debian_11, portable, *ASK)
        assert (answer.code, answer.out) == (0, ANSWER), answer.err
    assert in_root(debian_11, portable, "--version").code == 0


@needs_root
def test_debian_11_does_not_run_what_needs_more(run: Runner, debian_11: Path, demo_bundle: Path) -> None:
    if system_needs(run, demo_bundle)["GLIBC"] <= (2, 31):
        pytest.skip("this machine's own bundles need no more than glibc 2.31")
    refused = in_root(debian_11, demo_bundle, *ASK)
    assert refused.code != 0
    assert "GLIBC" in refused.err


@needs_root
def test_a_system_without_glibc_is_told_so(demo_bundle: Path, folder: Path) -> None:
    root = folder / "musl"
    (root / "tmp").mkdir(parents=True)
    told = in_root(root, demo_bundle, "--version")
    assert told.code == 1
    assert "this bundle needs a Linux system with glibc" in told.one_line
    assert "musl" in told.one_line


@pytest.fixture(scope="module")
def arm(run: Runner, other_base: Callable[[str], Path], folder: Path) -> Path:
    """The demo bundle for arm64."""
    base = other_base("linux-aarch64")
    bundle = folder / "arm.run"
    built = run.qwenfile("build", "--demo", "--target", "linux-aarch64", "--base", base, "-o", bundle)
    succeed(built, ["build", "--target", "linux-aarch64"])
    assert "not tried out" in built.err
    return bundle


@needs_cross
def test_an_arm64_bundle_needs_no_newer_libraries_than_debian_11_has(run: Runner, arm: Path) -> None:
    needs = system_needs(run, arm)
    assert needs["GLIBC"] <= (2, 31)
    assert needs["GLIBCXX"] <= (3, 4, 28)


@needs_cross
def test_every_program_inside_is_for_arm64(run: Runner, arm: Path, tmp_path: Path) -> None:
    succeed(run.qwenfile("unpack", arm, tmp_path / "parts"), ["unpack"])
    shutil.unpack_archive(tmp_path / "parts" / "launcher.tar", tmp_path / "launcher")
    programs = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    assert len(programs) > 20
    assert {int.from_bytes(path.read_bytes()[18:20], "little") for path in (arm, *programs)} == {183}  # EM_AARCH64


@needs_cross
def test_arm64_answers(emulated: Runner, arm: Path) -> None:
    version = succeed(emulated(arm, "--version"), ["--version"])
    assert version.out
    for _ in range(2):
        answer = succeed(emulated(arm, *ASK), ASK)
        assert answer.out == ANSWER


@needs_cross
def test_arm64_serves(emulated: Runner, arm: Path) -> None:
    with Server(arm, emulated) as server:
        body = json.dumps({"messages": QUESTION, "temperature": 0, "chat_template_kwargs": {"enable_thinking": False}})
        asked = ["curl", "-s", f"{server.url}/v1/chat/completions", "-d", body]
        answer = json.loads(succeed(emulated(*asked), asked).out)
        assert answer["choices"][0]["message"]["content"] == ANSWER.strip()
