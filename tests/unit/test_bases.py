"""Finding the base for a target: by --base, in a release folder, in the cache; and every kind of wrong one."""

import hashlib
import re
from pathlib import Path

import pytest

from bundler import assemble, base, bases
from bundler.__main__ import main
from bundler.base import ingredients, recipe
from bundler.build import _bases, _outs
from bundler.options import Build, parse
from bundler.platforms import known_targets
from runtime.bundle import HEADER, MAGIC, Bundle
from runtime.errors import ModelError, QwenfileError, UsageError
from runtime.paths import host_target
from runtime.version import VERSION
from tests.unit.bundle_files import ignore, make_base, order

OTHER = "linux-aarch64"


def build_options(*arguments: str) -> Build:
    command = parse(["build", "m.gguf", *arguments]).command
    assert isinstance(command, Build)
    return command


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder as a release has it: two bases, by both kinds of names, and their sums."""
    folder = tmp_path / "release"
    folder.mkdir()
    names = [
        make_base(folder / "linux-x86_64.base").path,
        make_base(folder / "linux-aarch64-0123456789abcdef.base", target=OTHER).path,
    ]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in names]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def test_a_release_folder_has_a_base_for_each_target(tmp_path: Path, release: Path) -> None:
    for target, name in (("linux-x86_64", "linux-x86_64.base"), (OTHER, "linux-aarch64-0123456789abcdef.base")):
        assert bases.find(tmp_path, target, folder=release).path == release / name


def test_sums_in_the_binary_style_are_read_and_a_folder_without_sums_will_do(tmp_path: Path, release: Path) -> None:
    sums = release / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("  ", " *./"))
    bases.find(tmp_path, OTHER, folder=release)
    sums.unlink()
    bases.find(tmp_path, OTHER, folder=release)


def test_a_wrong_sum_and_a_missing_one_are_told(tmp_path: Path, release: Path) -> None:
    sums = release / "SHA256SUMS"
    first, second = sums.read_text().splitlines(keepends=True)
    sums.write_text("0" * 64 + first[64:] + second)
    with pytest.raises(ModelError, match=f"SHA-256 {first[:64]}; SHA256SUMS says {'0' * 64}"):
        bases.find(tmp_path, "linux-x86_64", folder=release)
    sums.write_text(second)
    with pytest.raises(ModelError, match=re.escape("does not name linux-x86_64.base")):
        bases.find(tmp_path, "linux-x86_64", folder=release)


def test_two_bases_for_one_target_are_a_question(tmp_path: Path, release: Path) -> None:
    make_base(release / "linux-aarch64-new.base", target=OTHER)
    with pytest.raises(UsageError, match=re.escape("several bases for linux-aarch64: linux-aarch64-0")):
        bases.find(tmp_path, OTHER, folder=release)


def test_the_base_with_cuda_is_taken_when_asked_for_and_only_then(tmp_path: Path) -> None:
    made = make_base(tmp_path / "linux-x86_64-cuda.base").path
    with pytest.raises(UsageError, match="holds no base for linux-x86_64"):
        bases.find(tmp_path, "linux-x86_64", folder=tmp_path)
    assert bases.find(tmp_path, "linux-x86_64", folder=tmp_path, backend="cuda").path == made


def test_a_missing_base_says_how_to_get_it(tmp_path: Path, release: Path) -> None:
    foreign = next(target for target in ("macos-x86_64", "macos-arm64") if target != host_target())
    with pytest.raises(UsageError, match=f"no base for {foreign}.*download {foreign}.base from a release"):
        bases.find(tmp_path, foreign)
    with pytest.raises(UsageError, match=r"holds no base for macos-x86_64 .*or run .*release.py --target macos-x86_64"):
        bases.find(tmp_path, "macos-x86_64", folder=release)
    with pytest.raises(UsageError, match="there is no folder"):
        bases.find(tmp_path, OTHER, folder=release / "nowhere")
    with pytest.raises(UsageError, match=r"there is no folder .*, or this file with --base .*linux-x86_64.base"):
        bases.find(tmp_path, OTHER, folder=release / "linux-x86_64.base")
    with pytest.raises(UsageError, match=r"no base for linux-x86_64-cuda .*build_native.py --backend cuda"):
        bases.find(tmp_path, "linux-x86_64", folder=release, backend="cuda")
    with pytest.raises(UsageError, match="unknown target 'amiga'"):
        bases.find(tmp_path, "amiga")


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("linux-aarch64", "on Debian or Ubuntu"),
        ("windows-x86_64", "on Debian or Ubuntu"),
        ("windows-arm64", "on Debian or Ubuntu and then on such a Windows"),
        ("macos-arm64", "on such a Mac"),
    ],
)
def test_where_a_base_is_made(target: str, place: str) -> None:
    assert recipe(target) == f"run 'python3 build_scripts/release.py --target {target}' {place}"


def test_this_systems_missing_base_is_built_by_a_script(
    tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "host_target", lambda: OTHER)
    with pytest.raises(UsageError, match=r"build_scripts/demo\.py"):
        bases.find(tmp_path, OTHER)
    (release / "linux-aarch64-0123456789abcdef.base").unlink()
    with pytest.raises(UsageError, match=f"download {OTHER}.base from a release"):  # demo.py puts none there
        bases.find(tmp_path, OTHER, folder=release)
    monkeypatch.setattr(base, "host_target", lambda: "windows-x86_64")  # where demo.py can make none
    with pytest.raises(UsageError, match=r"download windows-x86_64\.base"):
        bases.find(tmp_path, "windows-x86_64")


def test_a_base_of_what_nobody_knows_or_nothing_was_made_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QWENFILE_BUILD_CACHE", str(tmp_path))
    assert main(["base", "build", "--target", "amiga"]) == 2
    assert capsys.readouterr().err.startswith("qwenfile: unknown target 'amiga' (known: linux-x86_64, ")
    foreign = next(target for target in ("macos-x86_64", "macos-arm64") if target != host_target())
    with pytest.raises(QwenfileError, match=f"no engine for {foreign} .*release.py --target {foreign}' on such a Mac"):
        ingredients(tmp_path, foreign)
    with pytest.raises(QwenfileError, match=re.escape(f"no engine for {foreign} at {tmp_path} (run ")):
        ingredients(tmp_path, foreign, engine=tmp_path)


def test_a_damaged_base_in_the_cache_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another system: what is built on it is not tried out here."""
    folder = tmp_path / "bases"
    folder.mkdir()
    foreign = next(target for target in ("linux-x86_64", OTHER) if target != host_target())
    base = make_base(folder / "good.base", target=foreign)
    (folder / f"{foreign}.current").write_text("good.base\n")
    assert bases.find(tmp_path, foreign).path == base.path
    content = bytearray(base.path.read_bytes())
    content[base.require("launcher.tar").offset] ^= 1
    base.path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"member launcher.tar .*\(make it again: .*--target {foreign} --force"):
        bases.find(tmp_path, foreign)
    (folder / "short.base").write_bytes(content[:-1000])
    monkeypatch.setenv("QWENFILE_BUILD_CACHE", str(tmp_path))
    assert main(["base", "list"]) == 0
    told = capsys.readouterr()
    assert f"{foreign}  {base.path}" in told.out
    assert "short.base" not in told.out
    assert re.fullmatch(r"qwenfile: .*short.base is truncated: .*\(delete it\)\n", told.err)


@pytest.mark.parametrize("road", ["path", "folder", "cache"])
def test_a_base_for_another_target_is_refused(tmp_path: Path, road: str) -> None:
    folder = tmp_path / "bases"
    folder.mkdir()
    made = make_base(folder / f"{OTHER}.base", target="linux-x86_64").path
    (folder / f"{OTHER}.current").write_text(made.name)
    roads = {"path": {"path": made}, "folder": {"folder": folder}, "cache": {}}
    with pytest.raises(UsageError, match=f"is a base for linux-x86_64, not for {OTHER}"):
        bases.find(tmp_path, OTHER, **roads[road])


def test_a_base_of_another_format_is_refused(tmp_path: Path) -> None:
    made = make_base(tmp_path / "x.base").path
    content = bytearray(made.read_bytes())
    content[content.index(MAGIC) + len(MAGIC)] = 9
    made.write_bytes(content)
    with pytest.raises(ModelError, match=r"has bundle format 9; this program reads format 1 \(take one of qwenfile "):
        bases.checked(made, None)


@pytest.mark.parametrize("part", ["stub", "launcher", "header", "manifest", "end", "directory"])
def test_a_damaged_base_is_refused(tmp_path: Path, part: str) -> None:
    base = make_base(tmp_path / "x.base")
    content = bytearray(base.path.read_bytes())
    places = {
        "stub": 5,
        "launcher": base.require("launcher.tar").offset + 3,
        "header": base.header.position + HEADER.size - 20,
        "manifest": base.header.manifest_offset + 100,
        "directory": -30,
    }
    if part == "end":
        del content[-40:]
    else:
        content[places[part]] ^= 1
    base.path.write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(str(base.path))) as caught:
        bases.checked(base.path, "linux-x86_64")
    assert "\n" not in str(caught.value)
    assert caught.value.remedy == f"take linux-x86_64.base of qwenfile {VERSION}'s release, and copy it whole"


def test_a_bundle_is_not_taken_for_a_base(tmp_path: Path) -> None:
    bundle = Bundle.open(assemble.assemble(order(tmp_path), ignore).out)
    with pytest.raises(UsageError, match="not a base"):
        bases.find(tmp_path, "linux-x86_64", bundle.path)


def test_a_base_says_by_itself_which_target_it_is_for(tmp_path: Path) -> None:
    made = make_base(tmp_path / "x.base", target=OTHER).path
    (found,) = _bases(build_options("--base", str(made)), tmp_path)
    assert found.manifest.target == OTHER
    with pytest.raises(UsageError, match="--base names one base"):
        _bases(build_options("--base", str(made), "--target", OTHER, "--target", "linux-x86_64"), tmp_path)


def test_names_of_outputs(tmp_path: Path) -> None:
    assert _outs(build_options(), "Qwen3 0.6B", [OTHER]) == [Path("qwen3-0.6b.run")]
    assert _outs(build_options(), "Qwen3 0.6B", ["macos-arm64"]) == [Path("qwen3-0.6b.command")]
    both = ["linux-x86_64", OTHER]
    assert _outs(build_options("-o", str(tmp_path)), "Qwen3 0.6B", both) == [
        tmp_path / "qwen3-0.6b-linux-x86_64.run",
        tmp_path / "qwen3-0.6b-linux-aarch64.run",
    ]
    assert [path.name for path in _outs(build_options(), "Qwen3 (2nd)", both)] == [
        "qwen3-2nd-linux-x86_64.run",
        "qwen3-2nd-linux-aarch64.run",
    ]
    with pytest.raises(UsageError, match="2 bundles are to be written"):
        _outs(build_options("-o", "x.run"), "Qwen3 0.6B", both)


def test_the_help_names_the_targets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        parse(["build", "--help"])
    told = capsys.readouterr().out
    assert all(target in told for target in known_targets())


def test_a_target_is_built_once_however_often_it_is_named() -> None:
    assert build_options("--target", OTHER, "--target", "linux-x86_64", "--target", OTHER).targets == (
        OTHER,
        "linux-x86_64",
    )
