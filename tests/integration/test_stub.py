"""The real stub in front of little launchers: caches, races, kills, damage, and what it says.

Most of it needs no privileges. Where ownership or mounts matter the tests want root and run the bundle as a user id
that has no account; without root they are skipped.
"""

import hashlib
import io
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.bundle import HEADER, MAGIC

ROOT = Path(__file__).resolve().parents[2]
NOBODY = random.randrange(50_000, 60_000)  # a user without account and home

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: other owners, mounts")

LAUNCHER_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char exe[4096] = "";
    if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0) snprintf(exe, sizeof exe, "none");
    printf("%s%c%s%c", exe, 0, getenv("QWENFILE_BUNDLE"), 0);
    for (int i = 0; i < argc; i++) printf("%s%c", argv[i], 0);
    return argc > 1 ? atoi(argv[1]) : 0;
}
"""

Entry = tuple[tarfile.TarInfo, bytes]
Files = list[Entry]


@pytest.fixture(scope="session")
def stub() -> bytes:
    built = subprocess.run(
        [sys.executable, ROOT / "build_scripts/build_stub.py"], check=True, capture_output=True, text=True
    )
    return Path(built.stdout.splitlines()[-1]).read_bytes()


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("launcher")
    (folder / "launcher.c").write_text(LAUNCHER_C)
    command = ["-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-s", "launcher.c", "-o", "launcher"]
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    return (folder / "launcher").read_bytes()


@pytest.fixture
def box() -> Iterator[Path]:
    """A folder that every user can reach, with short names; the fixed temporary places of NOBODY go with it."""
    folder = Path(tempfile.mkdtemp(prefix="stub-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for place in (folder, Path(f"/var/tmp/qwenfile-{NOBODY}"), Path(f"/tmp/qwenfile-{NOBODY}")):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def entry(
    name: str, data: bytes = b"", mode: int = 0o644, kind: bytes = tarfile.REGTYPE
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = len(data), mode, kind
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = "launcher"
    return info, data


def tar_of(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in files:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def usual(launcher: bytes) -> Files:
    deep = "_internal/" + "d" * 90 + "/" + "e" * 90 + "/deep.txt"  # its name needs ustar's prefix field
    return [
        entry("launcher", launcher, 0o755),
        entry("_internal", kind=tarfile.DIRTYPE),
        entry("_internal/empty"),
        entry("_internal/libx.so", b"x" * 300_001, 0o755),
        entry(deep, b"deep"),
    ]


class Made:
    """A bundle on disk, and what its cache folder will be called."""

    def __init__(self, path: Path, stub: bytes, tar: bytes) -> None:
        digest = hashlib.sha256(tar).digest()
        position = stub.index(MAGIC)
        header = HEADER.pack(MAGIC, 1, 0, len(stub), len(tar), digest, len(stub) + len(tar), 4)
        path.write_bytes(stub[:position] + header + stub[position + HEADER.size :] + tar + b"rest")
        path.chmod(0o755)
        self.path = path
        self.tar_start = len(stub)
        self.folder = f"launcher-{digest.hex()[:16]}"

    def run(self, *args: str, env: dict[str, str], user: int | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path, *args], env=env, user=user, capture_output=True, text=True, timeout=60, check=False, cwd="/"
        )


@pytest.fixture
def make(stub: bytes, launcher: bytes, box: Path) -> Callable[..., Made]:
    def build(name: str = "b.run", files: Files | None = None) -> Made:
        return Made(box / name, stub, tar_of(usual(launcher) if files is None else files))

    return build


def fields(result: subprocess.CompletedProcess[str]) -> list[str]:
    """[launcher's path, QWENFILE_BUNDLE, argv...] as the launcher printed them."""
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.split("\0")[:-1]


def one_line(result: subprocess.CompletedProcess[str], code: int, *parts: str) -> str:
    """Check exit code, silence on stdout, and one line on stderr that has all `parts`."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(")\n")
    for part in parts:
        assert part in result.stderr
    return result.stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_stub_is_small_and_holds_its_magic_once(stub: bytes) -> None:
    assert len(stub) <= 64 * 1024
    assert stub.count(MAGIC) == 1
    assert stub.count(MAGIC[:9]) == 1
    assert stub.index(MAGIC) % 16 == 0


def test_stub_without_a_launcher_says_so(stub: bytes, box: Path) -> None:
    path = box / "bare"
    path.write_bytes(stub)
    path.chmod(0o755)
    result = subprocess.run([path], capture_output=True, text=True, check=False)
    one_line(result, 3, "bare: ", "qwenfile build")


def test_arguments_environment_and_files_arrive(make: Callable[..., Made], box: Path, launcher: bytes) -> None:
    made = make()
    old = os.umask(0o077)
    try:
        result = made.run("0", "two words", "", "ü", env={"QWENFILE_CACHE": str(box / "c"), "QWENFILE_BUNDLE": "x"})
    finally:
        os.umask(old)
    folder = box / "c" / made.folder
    path = str(made.path)
    assert fields(result) == [str(folder / "launcher"), path, path, "0", "two words", "", "ü"]
    assert (folder / "launcher").read_bytes() == launcher
    assert (folder / "_internal/libx.so").read_bytes() == b"x" * 300_001
    assert (folder / "_internal" / ("d" * 90) / ("e" * 90) / "deep.txt").read_bytes() == b"deep"
    assert stat.S_IMODE((folder / "launcher").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "_internal/empty").stat().st_mode) == 0o600
    assert stat.S_IMODE((box / "c").stat().st_mode) == 0o700
    assert names(box / "c") == [made.folder]


def test_exit_code_is_the_launchers(make: Callable[..., Made], box: Path) -> None:
    assert make().run("42", env={"QWENFILE_CACHE": str(box / "c")}).returncode == 42


def test_second_start_unpacks_nothing(make: Callable[..., Made], box: Path) -> None:
    made, env = make(), {"QWENFILE_CACHE": str(box / "c")}
    made.run(env=env)
    before = snapshot(box / "c")
    made.run(env=env)
    assert snapshot(box / "c") == before


@pytest.mark.parametrize("change", ["delete", "cut", "empty marker", "no marker", "link", "whole _internal"])
def test_cache_with_missing_or_cut_files_is_mended(make: Callable[..., Made], box: Path, change: str) -> None:
    made, env = make(), {"QWENFILE_CACHE": str(box / "c")}
    made.run(env=env)
    folder = box / "c" / made.folder
    library = folder / "_internal/libx.so"
    match change:
        case "delete":
            library.unlink()
        case "cut":
            library.write_bytes(b"x" * 300_000)
        case "empty marker":
            (folder / ".complete").write_bytes(b"")
        case "no marker":
            (folder / ".complete").unlink()
        case "link":
            library.rename(box / "elsewhere")
            library.symlink_to(box / "elsewhere")
        case "whole _internal":
            shutil.rmtree(folder / "_internal")
    fields(made.run(env=env))
    assert library.read_bytes() == b"x" * 300_001
    assert not library.is_symlink()
    assert names(box / "c") == [made.folder]


def test_launcher_that_cannot_be_executed_is_unpacked_again_once(make: Callable[..., Made], box: Path) -> None:
    made, env = make(), {"QWENFILE_CACHE": str(box / "c")}
    made.run(env=env)
    program = box / "c" / made.folder / "launcher"
    program.write_bytes(bytes(program.stat().st_size))  # same size, all zero: what a power cut can leave
    assert fields(made.run(env=env))[0] == str(program)
    assert names(box / "c") == [made.folder]


def test_something_else_at_the_final_name_is_replaced(make: Callable[..., Made], box: Path) -> None:
    made = make()
    (box / "c").mkdir(mode=0o700)
    (box / "target").mkdir()
    (box / "target" / "kept").touch()
    (box / "c" / made.folder).symlink_to(box / "target")
    fields(made.run(env={"QWENFILE_CACHE": str(box / "c")}))
    assert names(box / "c") == [made.folder]
    assert names(box / "target") == ["kept"]


def test_six_first_starts_at_once(make: Callable[..., Made], box: Path, launcher: bytes) -> None:
    made = make(files=[*usual(launcher), entry("_internal/big", os.urandom(8_000_000))])
    env = {"QWENFILE_CACHE": str(box / "c")}
    started = [subprocess.Popen([made.path, "0", str(i)], env=env, stdout=subprocess.PIPE, text=True) for i in range(6)]
    outputs = [process.communicate(timeout=60)[0].split("\0") for process in started]
    assert [process.returncode for process in started] == [0] * 6
    assert [output[4] for output in outputs] == [str(i) for i in range(6)]
    assert names(box / "c") == [made.folder]


def started_unpacking(made: Made, cache: Path, action: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[bytes]:
    """Start the bundle and return once a file in its work folder is growing. `action`: what signals do to it."""

    def prepare() -> None:
        os.nice(19)  # on a busy machine this test shall get on before the stub does
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, action)

    process = subprocess.Popen(
        [made.path],
        env={"QWENFILE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        preexec_fn=prepare,
    )
    deadline = time.monotonic() + 30
    while not list(cache.glob("*.work-*/_internal/big")):
        assert process.poll() is None, "it was through before it could be interrupted"
        assert time.monotonic() < deadline
    return process


def test_killed_while_unpacking_then_started_again(make: Callable[..., Made], box: Path, launcher: bytes) -> None:
    made = make(files=[entry("_internal/big", bytes(150_000_000)), *usual(launcher)])
    process = started_unpacking(made, box / "c")
    process.kill()
    process.wait()
    left = names(box / "c")
    assert made.folder not in left
    assert any(".work-" in name for name in left)
    fields(made.run(env={"QWENFILE_CACHE": str(box / "c")}))
    assert names(box / "c") == [made.folder]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_while_unpacking_leaves_nothing(
    make: Callable[..., Made], box: Path, launcher: bytes, number: signal.Signals
) -> None:
    made = make(files=[entry("_internal/big", bytes(150_000_000)), *usual(launcher)])
    process = started_unpacking(made, box / "c")
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    assert names(box / "c") == []


def test_ignored_signals_stay_ignored(make: Callable[..., Made], box: Path, launcher: bytes) -> None:
    script = b"#!/bin/sh\nkill -HUP $$; kill -INT $$; exit 7\n"  # nohup's purpose: it survives both
    made = make(files=[entry("_internal/big", bytes(150_000_000)), entry("launcher", script, 0o755)])
    process = started_unpacking(made, box / "c", signal.SIG_IGN)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 7


def test_abandoned_work_folders_are_removed(make: Callable[..., Made], box: Path) -> None:
    made, cache = make(), box / "c"
    cache.mkdir(mode=0o700)
    (box / "outside").mkdir()
    (box / "outside" / "kept").touch()
    mine, old, young = f"{made.folder}.work-1-0", "launcher-0123456789abcdef.work-1-0", "launcher-0f.work-1-0"
    for name in (mine, old, young):
        (cache / name / "_internal").mkdir(parents=True)
        (cache / name / "_internal" / "file").touch()
        (cache / name / "link").symlink_to(box / "outside")
    os.utime(cache / old, (0, 0))
    fields(made.run(env={"QWENFILE_CACHE": str(cache)}))
    assert names(cache) == sorted([made.folder, young])
    assert names(box / "outside") == ["kept"]


@pytest.mark.parametrize("position", [0, 257, 600, 300_000], ids=["name", "magic", "data", "late data"])
def test_flipped_byte_is_damage(make: Callable[..., Made], box: Path, position: int) -> None:
    made = make()
    content = bytearray(made.path.read_bytes())
    content[made.tar_start + position] ^= 1
    made.path.write_bytes(content)
    one_line(made.run(env={"QWENFILE_CACHE": str(box / "c")}), 3, "b.run: this file is damaged", "download it again")
    assert names(box / "c") == []


@pytest.mark.parametrize("cut", [1, 5, 100_000], ids=["last byte", "into the tar", "far into the tar"])
def test_cut_file_is_damage(make: Callable[..., Made], box: Path, cut: int) -> None:
    made = make()
    size = made.path.stat().st_size
    os.truncate(made.path, size - cut)
    line = one_line(made.run(env={"QWENFILE_CACHE": str(box / "c")}), 3, "it is cut off")
    assert f"{size - cut} bytes of at least {size}" in line
    assert names(box / "c") == []


EVIL = {
    "up": entry("../evil", b"x"),
    "up later": entry("_internal/../../evil", b"x"),
    "absolute": entry("/evil", b"x"),
    "dot": entry("./evil", b"x"),
    "double slash": entry("a//evil", b"x"),
    "symlink": entry("evil", kind=tarfile.SYMTYPE),
    "hard link": entry("evil", kind=tarfile.LNKTYPE),
    "device": entry("evil", kind=tarfile.CHRTYPE),
    "pipe": entry("evil", kind=tarfile.FIFOTYPE),
    "twice": entry("launcher", b"x"),
}


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_hostile_archive_is_refused(make: Callable[..., Made], box: Path, launcher: bytes, evil: Entry) -> None:
    made = make(files=[*usual(launcher), evil])
    one_line(made.run(env={"QWENFILE_CACHE": str(box / "c")}), 3, "its launcher holds", evil[0].name)
    assert names(box / "c") == []
    assert names(box) == ["b.run", "c"]
    assert not Path("/evil").exists()


def test_archive_without_an_end_or_with_gnu_extensions_is_refused(
    make: Callable[..., Made], stub: bytes, launcher: bytes, box: Path
) -> None:
    env = {"QWENFILE_CACHE": str(box / "c")}
    whole = tar_of([entry("launcher", launcher, 0o755)])
    endless = Made(box / "e.run", stub, whole[: 512 + (len(launcher) + 511) // 512 * 512])
    one_line(endless.run(env=env), 3, "ends too early")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(entry("x" * 200)[0])
    one_line(Made(box / "g.run", stub, out.getvalue()).run(env=env), 3, "not a readable archive")
    assert names(box / "c") == []


@pytest.mark.parametrize("name", ["two words.run", "千问 模型.run", "-dash.run"])
def test_any_name_and_folder(make: Callable[..., Made], box: Path, name: str) -> None:
    (box / "多 个").mkdir()
    made = make(f"多 个/{name}")
    result = made.run("0", env={"QWENFILE_CACHE": str(box / "我的 cache")})
    assert fields(result) == [str(box / "我的 cache" / made.folder / "launcher"), str(made.path), str(made.path), "0"]


def test_started_through_a_link_and_from_the_search_path(make: Callable[..., Made], box: Path) -> None:
    made = make()
    (box / "bin").mkdir()
    (box / "bin" / "linked").symlink_to(made.path)
    env = {"QWENFILE_CACHE": str(box / "c"), "PATH": str(box / "bin")}
    result = subprocess.run(["linked", "0"], env=env, capture_output=True, text=True, check=False)
    assert fields(result)[1:] == [str(made.path), "linked", "0"]


def test_relative_cache_is_taken_from_the_current_folder(make: Callable[..., Made], box: Path) -> None:
    made = make()
    env = {"QWENFILE_CACHE": "here"}
    result = subprocess.run([made.path], env=env, cwd=box, capture_output=True, text=True, check=False)
    assert fields(result)[0] == str(box / "here" / made.folder / "launcher")


def test_interpreter_missing_names_glibc(make: Callable[..., Made], box: Path) -> None:
    made = make(files=[entry("launcher", b"#!/lib/ld-missing.so\n", 0o755)])
    one_line(made.run(env={"QWENFILE_CACHE": str(box / "c")}), 1, "glibc")


def test_order_of_places(make: Callable[..., Made], box: Path) -> None:
    made = make()
    for name in ("home", "xdg", "run", "tmp"):
        (box / name).mkdir(mode=0o700)
    env = {
        "QWENFILE_CACHE": str(box / "given"),
        "XDG_CACHE_HOME": str(box / "xdg"),
        "HOME": str(box / "home"),
        "XDG_RUNTIME_DIR": str(box / "run"),
        "TMPDIR": str(box / "tmp"),
    }
    expected = {
        "QWENFILE_CACHE": "given",
        "XDG_CACHE_HOME": "xdg/qwenfile",
        "HOME": "home/.cache/qwenfile",
        "XDG_RUNTIME_DIR": "run/qwenfile",
        "TMPDIR": f"tmp/qwenfile-{os.geteuid()}",
    }
    for variable, folder in expected.items():
        assert fields(made.run(env=env))[0] == str(box / folder / made.folder / "launcher")
        env[variable] = "/dev/null/none" if variable == "HOME" else "relative"  # an XDG path must be absolute
        if variable == "QWENFILE_CACHE":
            env[variable] = "/dev/null/none"


def test_group_writable_or_plain_file_falls_to_the_next(make: Callable[..., Made], box: Path) -> None:
    made = make()
    (box / "open").mkdir()
    (box / "open").chmod(0o770)
    (box / "file").touch()
    for given in ("open", "file"):
        env = {"QWENFILE_CACHE": str(box / given), "HOME": str(box)}
        assert fields(made.run(env=env))[0].startswith(str(box / ".cache/qwenfile"))
    assert names(box / "open") == []


def test_link_in_a_temporary_place_is_refused(make: Callable[..., Made], box: Path) -> None:
    made = make()
    (box / "mine").mkdir(mode=0o700)
    (box / "run").mkdir(mode=0o700)
    (box / "run" / "qwenfile").symlink_to(box / "mine")
    (box / "tmp").mkdir(mode=0o700)
    env = {"HOME": "/dev/null", "XDG_RUNTIME_DIR": str(box / "run"), "TMPDIR": str(box / "tmp")}
    assert fields(made.run(env=env))[0].startswith(str(box / "tmp"))
    assert names(box / "mine") == []


def test_temporary_place_in_a_folder_without_sticky_bit_is_refused(make: Callable[..., Made], box: Path) -> None:
    made = make()
    for name, mode in (("loose", 0o777), ("tmp", 0o1777)):
        (box / name).mkdir()
        (box / name).chmod(mode)
    env = {"HOME": "/dev/null", "XDG_RUNTIME_DIR": str(box / "loose"), "TMPDIR": str(box / "tmp")}
    assert fields(made.run(env=env))[0].startswith(str(box / "tmp"))


@needs_root
def test_empty_environment_and_user_without_account(make: Callable[..., Made], box: Path) -> None:
    made = make()
    result = made.run("0", env={}, user=NOBODY)
    assert fields(result)[0] == f"/var/tmp/qwenfile-{NOBODY}/{made.folder}/launcher"


@needs_root
def test_unwritable_foreign_and_linked_places_fall_to_the_next(make: Callable[..., Made], box: Path) -> None:
    made = make()
    (box / "home").mkdir()
    os.chown(box / "home", NOBODY, NOBODY)
    (box / "locked").mkdir(mode=0o500)
    os.chown(box / "locked", NOBODY, NOBODY)
    (box / "foreign").mkdir(mode=0o755)
    for given in ("locked", "foreign", "foreign/deeper"):
        env = {"QWENFILE_CACHE": str(box / given), "HOME": str(box / "home")}
        assert fields(made.run(env=env, user=NOBODY))[0].startswith(str(box / "home/.cache/qwenfile"))
    assert names(box / "foreign") == names(box / "locked") == []


@needs_root
def test_planted_link_in_tmp_of_another_user_is_refused(make: Callable[..., Made], box: Path) -> None:
    made = make()
    (box / "victim").mkdir(mode=0o700)
    os.chown(box / "victim", NOBODY, NOBODY)
    Path(f"/var/tmp/qwenfile-{NOBODY}").symlink_to(box / "victim")
    result = made.run("0", env={}, user=NOBODY)
    assert fields(result)[0].startswith(f"/tmp/qwenfile-{NOBODY}/")
    assert names(box / "victim") == []


@needs_root
def test_root_makes_nothing_in_the_home_of_another_user(make: Callable[..., Made], box: Path) -> None:
    made = make()
    for name, owner in (("home", NOBODY), ("tmp", 0)):
        (box / name).mkdir(mode=0o700)
        os.chown(box / name, owner, owner)
    result = made.run("0", env={"HOME": str(box / "home"), "TMPDIR": str(box / "tmp")})
    assert fields(result)[0].startswith(str(box / "tmp"))
    assert names(box / "home") == []


@needs_root
def test_no_usable_place_is_one_line_with_the_remedy(make: Callable[..., Made], box: Path) -> None:
    made = make()
    for folder in ("/var/tmp", "/tmp"):
        Path(f"{folder}/qwenfile-{NOBODY}").mkdir()
    env = {"QWENFILE_CACHE": str(box / "no"), "HOME": "/dev/null"}
    result = made.run("0", env=env, user=NOBODY)
    line = one_line(result, 126, "no usable cache folder", "set QWENFILE_CACHE to a folder")
    assert f"{box / 'no'}: No such file or directory" in line
    assert f"/var/tmp/qwenfile-{NOBODY}: belongs to user 0; /tmp/qwenfile-{NOBODY}: belongs to user 0" in line


@pytest.fixture
def mount(box: Path) -> Iterator[Callable[[str], Path]]:
    mounted: list[Path] = []

    def tmpfs(options: str) -> Path:
        folder = box / f"mount{len(mounted)}"
        folder.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "tmpfs", folder], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("this root may not mount")
        mounted.append(folder)
        return folder

    yield tmpfs
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@needs_root
@pytest.mark.parametrize("options", ["noexec", "ro", "size=64k", "nr_inodes=5"])
def test_unfit_filesystem_falls_to_the_next(
    make: Callable[..., Made], box: Path, mount: Callable[[str], Path], options: str
) -> None:
    made = make()
    small = mount(options)
    result = made.run("0", env={"QWENFILE_CACHE": str(small), "HOME": str(box)})
    assert fields(result)[0].startswith(str(box / ".cache/qwenfile"))
    assert names(small) == []


@needs_root
def test_every_place_full_says_why(make: Callable[..., Made], box: Path, mount: Callable[[str], Path]) -> None:
    made = make()
    cut, full = mount("size=64k"), mount("nr_inodes=5")
    for folder in (cut, full):
        os.chown(folder, NOBODY, NOBODY)
    for parent in ("/var/tmp", "/tmp"):
        Path(f"{parent}/qwenfile-{NOBODY}").touch()
    result = made.run(
        "0", env={"QWENFILE_CACHE": str(cut), "XDG_CACHE_HOME": str(box), "TMPDIR": str(full)}, user=NOBODY
    )
    line = one_line(result, 126, "0 MB free, 1 MB needed", f"{full}/qwenfile-{NOBODY}: No space left on device")
    assert "the home folder belongs to user 0" in line
    assert names(cut) == names(full / f"qwenfile-{NOBODY}") == []


@needs_root
def test_bundle_on_read_only_media(make: Callable[..., Made], box: Path, mount: Callable[[str], Path]) -> None:
    made = make()
    media = mount("size=8m")
    copy = media / "b.run"
    shutil.copy2(made.path, copy)
    subprocess.run(["mount", "-o", "remount,ro", media], check=True)
    result = subprocess.run([copy], env={"QWENFILE_CACHE": str(box / "c")}, capture_output=True, text=True, check=False)
    assert fields(result)[1] == str(copy)


@needs_root
def test_without_proc_the_bundle_is_found_and_the_launcher_told(make: Callable[..., Made], box: Path) -> None:
    made = make()
    result = subprocess.run(
        ["/b.run", "0"],
        env={"QWENFILE_CACHE": "/c"},
        preexec_fn=lambda: os.chroot(box),
        capture_output=True,
        text=True,
        check=False,
    )
    assert fields(result) == ["none", "/b.run", f"/c/{made.folder}/launcher", "0"]
