"""The menu entry of a real bundle, as a desktop reads it. (Without a terminal: test_chat_robust.py.)"""

import os
import shlex
import shutil
import time
from pathlib import Path

import pytest

from tests.integration.conftest import TIMEOUT, Runner


def test_an_entry_is_installed_starts_the_bundle_and_goes_again(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    installed = run(demo_bundle, "--install-desktop", XDG_DATA_HOME=str(folder))
    assert installed.code == 0, installed.err
    (entry,) = (folder / "applications").iterdir()
    assert installed.out == f"in the menu as qwenfile demo: {entry}\n"
    values = dict(line.split("=", 1) for line in entry.read_text("utf-8").splitlines()[1:])
    assert (values["Name"], values["Terminal"]) == ("qwenfile demo", "true")
    assert run(*shlex.split(values["Exec"]), "--version").out.startswith("qwenfile ")
    removed = run(demo_bundle, "--uninstall-desktop", XDG_DATA_HOME=str(folder))
    assert (removed.code, removed.out) == (0, f"removed {entry}\n")
    assert list((folder / "applications").iterdir()) == []
    again = run(demo_bundle, "--uninstall-desktop", XDG_DATA_HOME=str(folder))
    assert (again.code, again.out) == (0, "there was no menu entry\n")


@pytest.mark.skipif(shutil.which("desktop-file-validate") is None, reason="desktop-file-utils is not installed")
def test_the_desktops_own_checker_is_content(run: Runner, demo_bundle: Path, tmp_path: Path) -> None:
    """The bundle's path has a space and Chinese letters."""
    assert run(demo_bundle, "--install-desktop", XDG_DATA_HOME=str(tmp_path)).code == 0
    (entry,) = (tmp_path / "applications").iterdir()
    checked = run("desktop-file-validate", entry)
    assert (checked.code, checked.out, checked.err) == (0, "", "")


@pytest.mark.skipif(shutil.which("gio") is None, reason="gio (libglib2.0-bin) is not installed")
@pytest.mark.parametrize("name", ["qwen3 演示.run", "q=3 \"50%\" %u 'x' $HOME `id` \\ ~;&#.run"])
def test_the_desktops_own_launcher_opens_a_terminal_with_the_bundle(
    run: Runner, demo_bundle: Path, tmp_path: Path, name: str
) -> None:
    """GLib reads the entry and starts the only terminal that it finds, which runs what it is to run."""
    bundle, seen = tmp_path / name, tmp_path / "seen"
    os.link(demo_bundle, bundle)
    assert run(bundle, "--install-desktop", XDG_DATA_HOME=str(tmp_path)).code == 0
    (entry,) = (tmp_path / "applications").iterdir()
    bundle.unlink()
    (tmp_path / "bin").mkdir()
    terminal = tmp_path / "bin/xterm"
    terminal.write_text('#!/bin/sh\n[ "$1" = -e ] && shift && exec "$@"\n')
    bundle.write_text(f'#!/bin/sh\nprintf "%s" "$#$0" > "{seen}.new"\n/bin/mv "{seen}.new" "{seen}"\n')
    for program in (terminal, bundle):
        program.chmod(0o755)
    started = run(str(shutil.which("gio")), "launch", entry, PATH=str(tmp_path / "bin"))
    assert started.code == 0, started.err
    end = time.monotonic() + TIMEOUT
    while not seen.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert seen.read_text("utf-8") == f"0{bundle}"
