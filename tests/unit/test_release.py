"""What release.py does on which machine; the programs that it starts are not started here."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bundler.platforms import linux, macos, windows

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build_scripts"))

import release  # noqa: E402
from build_stub import TARGETS  # noqa: E402
from stages import Stages  # noqa: E402


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the stages, which make an engine and a stub."""
    engine, stub = tmp_path / "cache/engine/e-1", tmp_path / "cache/stub/s-1/stub"
    for path in (
        engine / "lib/engine.dll",
        engine / "licenses/x.txt",
        engine / "bare/llama-bench",
        engine / "engine.json",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (stub.parent / "licenses").mkdir(parents=True)
    stub.write_text("stub")
    started: list[list[str]] = []

    def command(stages: Stages, name: str, words: Sequence[str | Path]) -> str:
        started.append([Path(word).name if isinstance(word, Path) else word for word in words[1:]])
        return stages.run(name, lambda: str({"engine": engine, "stub": stub}.get(name, "")))

    monkeypatch.setattr(Stages, "command", command)
    monkeypatch.setenv("QWENFILE_BUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(release, "check_needs", lambda: None)
    monkeypatch.setattr(release, "make_environment", lambda stages, only=(): started.append(["venv", *only]) or "")
    monkeypatch.setattr(release, "try_out", lambda base, target: "")
    monkeypatch.setattr(release, "PARTS", tmp_path / "parts")
    return started


def test_every_target_has_a_recipe_and_a_stub() -> None:
    known = {*linux.TARGETS, *macos.TARGETS, *windows.TARGETS}
    assert known == set(release.RECIPES) == set(TARGETS)


def test_a_base_for_windows_on_arm_takes_two_machines(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, parts = "windows-arm64", tmp_path / "parts/windows-arm64"
    asked = ["--target", target, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(release, "host_target", lambda: target)
    assert release.main(asked) == 1
    assert f"there is no {parts}; make it with this command on Debian" in capsys.readouterr().err

    monkeypatch.setattr(release, "host_target", lambda: "linux-x86_64")
    assert release.main(asked) == 0
    assert capsys.readouterr().out == f"{parts}\n"
    assert [words[0] for words in commands] == ["venv", "build_native.py", "build_native.py", "build_stub.py"]
    assert commands[1:3] == [["build_native.py"], ["build_native.py", "--target", target]]
    brought = sorted(path.relative_to(parts).as_posix() for path in parts.rglob("*") if path.is_file())
    assert brought == ["engine/engine.json", "engine/lib/engine.dll", "engine/licenses/x.txt", "stub/stub"]

    commands.clear()
    monkeypatch.setattr(release, "host_target", lambda: target)
    assert release.main(asked) == 0
    assert [words[0] for words in commands] == ["venv", "-m"]
    assert "ziglang" not in commands[0]
    assert commands[0][1:] == [*release.FREEZING]
    assert commands[1][1:] == ["bundler", "base", "build", "--target", target, "--engine", "engine", "--stub", "stub",
                               "-o", "windows-arm64.base", "--force"]  # fmt: skip
    assert capsys.readouterr().out == f"{tmp_path / 'out/windows-arm64.base'}\n"


@pytest.mark.parametrize("target", ["linux-x86_64", "macos-arm64"])
def test_other_bases_are_made_in_one_place(tmp_path: Path, commands: list[list[str]], target: str) -> None:
    assert release.main(["--target", target, "--out", str(tmp_path), "--fast"]) == 0
    engine = next(words for words in commands if words[0] == "build_native.py")
    assert engine[1:3] == ["--target", target]
    assert engine[-2:] == ["--fast", "--no-webui"]
    assert ("build_python.py" in [words[0] for words in commands]) == target.startswith("linux-")
    assert "--python" in commands[-1] or target.startswith("macos-")


def test_what_freezing_needs_is_pinned() -> None:
    pinned = (ROOT / "build_scripts/requirements.txt").read_text("utf-8")
    assert all(f"\n{name}==" in pinned for name in release.FREEZING)
