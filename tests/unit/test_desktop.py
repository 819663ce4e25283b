"""The menu entry on Linux: its text, its name, where it goes."""

import re
from pathlib import Path

import pytest

from launcher import desktop
from runtime.bundle import Bundle, Header, Manifest
from runtime.errors import QwenfileError, UsageError
from tests.unit.systems import posix_only

pytestmark = posix_only


def bundle(name: str = "Qwen3 0.6B", path: str = "/opt/qwen3.run") -> Bundle:
    manifest = Manifest(target="linux-x86_64", qwenfile="0", engine={}, name=name, stub_size=1, stub_sha256="")
    return Bundle(path=Path(path), size=1, header=Header(position=0), manifest=manifest)


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desktop, "host_target", lambda: "linux-x86_64")


def values(text: str) -> dict[str, str]:
    """Keys and values, escapes of strings undone (Desktop Entry Specification, "Value types")."""
    escapes = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    read = {}
    for line in text.splitlines()[1:]:
        key, _, value = line.partition("=")
        plain, rest = "", iter(value)
        for character in rest:
            plain += escapes[next(rest)] if character == "\\" else character
        read[key] = plain
    return read


def arguments(command: str) -> list[str]:
    """The arguments of an Exec value, quotes and escapes undone ("The Exec key")."""
    quoted = r'"((?:[^"`$\\%]|\\["`$\\]|%%)*)"'
    assert re.fullmatch(f"{quoted}(?: {quoted})*", command), command
    return [re.sub(r'\\(["`$\\])', r"\1", text).replace("%%", "%") for text in re.findall(quoted, command)]


@pytest.mark.parametrize(
    "path",
    [
        "/opt/qwen3.run",
        "/home/a b/千问 50% $HOME `id` \"x\" 'y' \\ z.run",
        "/tmp/two\nlines\t.run",
        "/tmp/~;&|<>*?#().run",
    ],
)
def test_the_command_is_the_bundles_path_and_nothing_else(path: str) -> None:
    read = values(desktop.entry(Path(path), "Qwen3"))
    assert arguments(read["Exec"]) == (["/bin/sh", "-c", 'exec "$0"', path] if "%" in path else [path])
    assert read["TryExec"] == path
    assert read["Terminal"] == "true"


@pytest.mark.parametrize("name", ["Qwen3 0.6B", " led by a space", "a\nb", "back\\slash", "千问"])
def test_the_name_is_the_models(name: str) -> None:
    assert values(desktop.entry(Path("/x"), name))["Name"] == name


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Qwen3 0.6B", "qwenfile-qwen3-0-6b.desktop"),
        ("../../evil", "qwenfile-evil.desktop"),
        ("千问", "qwenfile-db2d53fb.desktop"),
        ("Qwen3 千问", "qwenfile-qwen3-7160077d.desktop"),
    ],
)
def test_the_file_is_named_after_the_model(tmp_path: Path, name: str, file: str) -> None:
    assert desktop.install(bundle(name), {"XDG_DATA_HOME": str(tmp_path)}) == tmp_path / "applications" / file


def test_a_moved_bundle_replaces_its_entry_and_any_copy_removes_it(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    first = desktop.install(bundle(path="/old/q.run"), env)
    assert desktop.install(bundle(path="/new/q.run"), env) == first
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    assert first.is_relative_to(tmp_path / ".local/share/applications")
    assert values(first.read_text("utf-8"))["TryExec"] == "/new/q.run"
    assert desktop.uninstall(bundle(path="/third/q.run"), env) == first
    assert desktop.uninstall(bundle(), env) is None


def test_what_keeps_an_entry_from_being_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QwenfileError, match=r"cannot write .*file/applications/"):
        desktop.install(bundle(), {"XDG_DATA_HOME": str(tmp_path / "file")})
    with pytest.raises(UsageError, match="not UTF-8"):
        desktop.install(bundle(path="/tmp/\udcff.run"), {"XDG_DATA_HOME": str(tmp_path)})
    assert list((tmp_path / "applications").iterdir()) == []
    monkeypatch.setattr(desktop, "host_target", lambda: "macos-arm64")
    with pytest.raises(UsageError, match="for Linux desktops"):
        desktop.install(bundle(), {"XDG_DATA_HOME": str(tmp_path)})
