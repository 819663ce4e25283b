"""The real stub for Windows in front of a little launcher, under wine: command lines, caches, damage, what ends it."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from runtime.bundle import HEADER, MAGIC
from runtime.paths import build_cache
from tests.integration.bases import needs_wine
from tests.integration.conftest import ROOT, TIMEOUT, Runner
from tests.integration.test_stub import Files, entry, tar_of
from tests.integration.windows import WINE

pytestmark = needs_wine

# Prints what it was given, in UTF-8, a line each; with "wait" it then waits until something ends it.
LAUNCHER_C = r"""
#include <windows.h>
#include <stdio.h>
#include <wchar.h>
static void put(const wchar_t *text) {
    static char line[200000];
    int size = WideCharToMultiByte(CP_UTF8, 0, text, -1, line, sizeof line, NULL, NULL);
    fwrite(line, 1, size ? size - 1 : 0, stdout);
    putchar('\n');
}
static BOOL WINAPI on_event(DWORD event) { ExitProcess(40 + event); return TRUE; }
int main(void) {
    static wchar_t text[40000];
    put(GetCommandLineW());
    GetEnvironmentVariableW(L"QWENFILE_BUNDLE", text, 40000);
    put(text);
    GetModuleFileNameW(NULL, text, 40000);
    put(text);
    fflush(stdout);
    if (wcsstr(GetCommandLineW(), L"wait")) {
        SetConsoleCtrlHandler(NULL, FALSE);
        SetConsoleCtrlHandler(on_event, TRUE);
        puts("waiting");
        fflush(stdout);
        Sleep(60000);
    }
    const wchar_t *code = wcsstr(GetCommandLineW(), L"exit=");
    return code ? _wtoi(code + 5) : 0;
}
"""


@pytest.fixture(scope="session")
def stub() -> bytes:
    command = [sys.executable, ROOT / "build_scripts/build_stub.py", "--target", "windows-x86_64"]
    built = subprocess.run(command, check=True, capture_output=True, text=True)
    return Path(built.stdout.splitlines()[-1]).read_bytes()


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("launcher")
    (folder / "launcher.c").write_text(LAUNCHER_C)
    command = ["-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-Os", "-s", "launcher.c", "-o", "launcher.exe"]
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(build_cache(os.environ) / "zig")}  # has the C library compiled
    subprocess.run([sys.executable, *command], cwd=folder, env=env, check=True, capture_output=True)
    return (folder / "launcher.exe").read_bytes()


def usual(launcher: bytes) -> Files:
    deep = "_internal/" + "d" * 90 + "/" + "e" * 90 + "/deep.txt"
    return [
        entry("launcher.exe", launcher, 0o755),
        entry("_internal", kind=tarfile.DIRTYPE),
        entry("_internal/empty"),
        entry(deep, b"deep"),
    ]


def make(path: Path, stub: bytes, tar: bytes, *, spoiled: bool = False) -> Path:
    """A bundle; `spoiled`: its launcher is not what the header says."""
    position = stub.index(MAGIC)
    digest = hashlib.sha256(tar).digest()
    header = HEADER.pack(MAGIC, 1, 0, len(stub), len(tar), digest, len(stub) + len(tar), 4)
    tar = tar.replace(b"deep\0\0", b"DEEP\0\0") if spoiled else tar
    path.write_bytes(stub[:position] + header + stub[position + HEADER.size :] + tar + b"rest")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "缓存 cache"


@pytest.fixture
def wine(wine_environment: Mapping[str, str], cache: Path) -> Runner:
    return Runner(env={**wine_environment, "QWENFILE_CACHE": f"Z:{cache}"})


@pytest.fixture
def bundle(tmp_path: Path, stub: bytes, launcher: bytes) -> Iterator[Path]:
    return make(tmp_path / "a bundle 模型.exe", stub, tar_of(usual(launcher)))


def windows_path(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


def test_the_launcher_gets_everything(wine: Runner, bundle: Path, cache: Path) -> None:
    words = ["plain", "two words", 'a "quote"', "tail\\", "模型 \U0001f600", ""]
    for _ in range(2):
        told = wine(*WINE, bundle, *words)
        assert (told.code, told.err) == (0, "")
        line, itself, program = told.out.split("\r\n")[:3] if "\r\n" in told.out else told.out.split("\n")[:3]
        assert line.endswith(r' plain "two words" "a \"quote\"" tail\ "模型 😀" ""')
        assert itself == windows_path(bundle)
        (folder,) = cache.glob("launcher-*")
        assert program == windows_path(folder / "launcher.exe")
    assert sorted(path.name for path in cache.iterdir()) == [folder.name]
    assert len((folder / "_internal").rglob("deep.txt").__next__().read_bytes()) == 4


@pytest.mark.parametrize("code", [0, 1, 3, 130, 255])
def test_exit_codes(wine: Runner, bundle: Path, code: int) -> None:
    assert wine(*WINE, bundle, f"exit={code}").code == code


def test_a_long_way_to_the_cache(wine: Runner, bundle: Path, tmp_path: Path) -> None:
    deep = tmp_path / "/".join("abcdefghij" * 10 for _ in range(3))
    assert len(str(deep)) > 260
    assert wine(*WINE, bundle, QWENFILE_CACHE=f"Z:{deep}").code == 0
    assert list(deep.glob("launcher-*"))


def test_it_starts_from_a_share_and_unpacks_to_one(wine: Runner, bundle: Path) -> None:
    """wine keeps what it shows as \\\\SERVER\\SHARE in a folder of its own."""
    share = Path(wine.env["WINEPREFIX"], "dosdevices/unc/server", "share 模型")
    share.mkdir(parents=True)
    shutil.copy(bundle, share / "a bundle.exe")
    itself, cache = "\\\\server\\share 模型\\a bundle.exe", "\\\\server\\share 模型\\cache"
    for _ in range(2):
        told = wine(*WINE, itself, "exit=3", QWENFILE_CACHE=cache)
        assert (told.code, told.err) == (3, "")
        assert told.out.replace("\r\n", "\n").splitlines()[1] == itself
    (folder,) = (share / "cache").iterdir()
    assert (folder / "launcher.exe").is_file()


def test_what_is_missing_or_cut_is_unpacked_again(wine: Runner, bundle: Path, cache: Path) -> None:
    assert wine(*WINE, bundle).code == 0
    (folder,) = cache.glob("launcher-*")
    (folder / "_internal" / "empty").unlink()
    assert wine(*WINE, bundle).code == 0
    assert (folder / "_internal" / "empty").is_file()
    (folder / "launcher.exe").write_bytes(b"MZ")
    assert wine(*WINE, bundle).code == 0
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_leftovers_of_killed_processes_go(wine: Runner, bundle: Path, cache: Path) -> None:
    assert wine(*WINE, bundle).code == 0
    (folder,) = cache.glob("launcher-*")
    shutil.rmtree(folder)
    (cache / f"{folder.name}.work-1-0" / "inside").mkdir(parents=True)
    assert wine(*WINE, bundle).code == 0
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_starts_at_once_unpack_once(wine: Runner, bundle: Path, cache: Path) -> None:
    command = [*WINE, str(bundle), "exit=7"]
    started = [subprocess.Popen(command, env=dict(wine.env), stdout=subprocess.PIPE) for _ in range(5)]
    for child in started:
        child.communicate(timeout=TIMEOUT)
    assert [child.returncode for child in started] == [7] * 5
    assert len(list(cache.iterdir())) == 1


def test_damage_is_told(wine: Runner, stub: bytes, launcher: bytes, tmp_path: Path, cache: Path) -> None:
    told = wine(*WINE, make(tmp_path / "spoiled.exe", stub, tar_of(usual(launcher)), spoiled=True))
    assert told.code == 3
    assert told.one_line.startswith("spoiled.exe: this file is damaged: the SHA-256 of its launcher is not")
    assert list(cache.iterdir()) == []
    (tmp_path / "stub.exe").write_bytes(stub)
    assert "only the first part of a bundle" in wine(*WINE, tmp_path / "stub.exe").one_line


@pytest.mark.parametrize("name", ["../out", "C:/out", "a:b", "_internal/..", "back\\slash"])
def test_names_that_lead_elsewhere_are_refused(
    wine: Runner, stub: bytes, launcher: bytes, tmp_path: Path, name: str
) -> None:
    tar = tar_of([*usual(launcher), entry(name, b"x")])
    told = wine(*WINE, make(tmp_path / "evil.exe", stub, tar))
    assert told.code == 3
    assert f"an entry with the forbidden name '{name.partition('/out')[0]}" in told.one_line
    assert not list(tmp_path.rglob("out"))


def start(wine: Runner, bundle: Path) -> "subprocess.Popen[bytes]":
    """Started, and its launcher waits."""
    child = subprocess.Popen(
        [*WINE, bundle, "wait"], env=dict(wine.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, process_group=0
    )
    assert child.stdout is not None
    while (line := child.stdout.readline().strip()) != b"waiting":
        assert line
    return child


def test_ctrl_c_is_the_launchers_affair(wine: Runner, bundle: Path) -> None:
    child = start(wine, bundle)
    os.killpg(child.pid, signal.SIGINT)
    child.communicate(timeout=TIMEOUT)
    assert child.returncode == 40  # CTRL_C_EVENT is 0


def test_the_launcher_ends_with_the_stub(wine: Runner, bundle: Path) -> None:
    child = start(wine, bundle)
    child.kill()
    out, _ = child.communicate(timeout=TIMEOUT)  # all that have its output have ended
    assert out == b""
