"""One command, bundles for several systems: a base of another system is made here from the real one."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.demo import DEMO_MODEL
from bundler.writer import create
from runtime.bundle import MAGIC, MODEL, Bundle
from runtime.paths import host_target
from tests.integration.bases import ANSWER, ASK, needs_cross, needs_debian, needs_wine
from tests.integration.conftest import Runner
from tests.integration.windows import WINE

OTHER = next(target for target in ("linux-aarch64", "linux-x86_64") if target != host_target())


@pytest.fixture(scope="module")
def release(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release folder with this machine's base, one that says it is for another system, and their sums."""
    folder = tmp_path_factory.mktemp("release")
    opened = Bundle.open(base)
    for target in (host_target(), OTHER):
        with create(folder / f"{target}.base") as writer:
            writer.copy_base(opened)
            writer.finish(replace(opened.manifest, target=target))
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in folder.iterdir())
    (folder / "SHA256SUMS").write_text("".join(sorted(sums)))
    return folder


def test_one_command_makes_a_bundle_for_each_target(run: Runner, release: Path, tmp_path: Path) -> None:
    targets = ("--target", OTHER, "--target", host_target(), "--name", "Both of them")
    built = run.qwenfile("build", "--demo", *targets, "--bases", release, cwd=tmp_path)
    assert built.code == 0, built.err
    names = {target: f"both-of-them-{target}.run" for target in (OTHER, host_target())}
    assert {path.name for path in tmp_path.iterdir()} == set(names.values())
    assert f"not tried out: {names[OTHER]} is for {OTHER}, this machine is {host_target()}" in built.err
    assert built.err.count("verified: loaded its weights") == 1
    assert f"./{names[host_target()]}   (chat;" in built.out
    assert f"{names[OTHER]} on {OTHER}   (chat;" in built.out
    for target, name in names.items():
        described = json.loads(run.qwenfile("inspect", tmp_path / name, "--json").out)
        assert described["target"] == target
        assert run.qwenfile("verify", tmp_path / name).code == 0
    weights = {Bundle.open(tmp_path / name).require(MODEL).sha256 for name in names.values()}
    assert len(weights) == 1


def test_a_model_is_quantized_once_for_all_targets(run: Runner, release: Path, tmp_path: Path) -> None:
    targets = ("--target", OTHER, "--target", host_target(), "--bases", release, "--no-verify")
    built = run.qwenfile("build", DEMO_MODEL, *targets, "--quantize", "Q8_0", cwd=tmp_path)
    assert built.code == 0, built.err
    assert built.err.count("quantizing to Q8_0") == 1
    bundles = [Bundle.open(path) for path in tmp_path.iterdir()]
    assert len(bundles) == 2
    assert len({bundle.require(MODEL).sha256 for bundle in bundles}) == 1
    assert {bundle.manifest.model["quantization"] for bundle in bundles if bundle.manifest.model} == {"Q8_0"}


def test_nothing_is_written_when_one_base_is_missing(run: Runner, release: Path, tmp_path: Path) -> None:
    targets = ("--target", host_target(), "--target", "macos-x86_64")
    failed = run.qwenfile("build", "--demo", *targets, "--bases", release, cwd=tmp_path)
    assert failed.code == 2
    assert "holds no base for macos-x86_64 (download macos-x86_64.base from a release" in failed.one_line
    assert list(tmp_path.iterdir()) == []


def test_several_bundles_go_into_a_folder(run: Runner, release: Path, tmp_path: Path) -> None:
    targets = ("--target", host_target(), "--target", OTHER, "--bases", release, "--no-verify")
    failed = run.qwenfile("build", "--demo", *targets, "-o", "one.run", cwd=tmp_path)
    assert (failed.code, "-o one.run is no folder" in failed.one_line) == (2, True)
    (tmp_path / "out").mkdir()
    assert run.qwenfile("build", "--demo", *targets, "-o", "out", cwd=tmp_path).code == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


def damaged(kind: str, release: Path, folder: Path) -> Path:
    """A base that cannot be used."""
    path = folder / f"{host_target()}.base"
    content = bytearray((release / path.name).read_bytes())
    match kind:
        case "another format version":
            content[content.index(MAGIC) + len(MAGIC)] = 2
        case "another target":
            content = bytearray((release / f"{OTHER}.base").read_bytes())
        case "damaged":
            content[len(content) // 2] ^= 1
        case "cut off":
            del content[-1:]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("another format version", 3, "has bundle format 2; this program reads format 1"),
        ("another target", 2, f"is a base for {OTHER}, not for {host_target()}"),
        ("damaged", 3, "has a damaged member"),
        ("cut off", 3, "is truncated"),
    ],
)
def test_a_base_that_cannot_be_used(
    run: Runner, release: Path, tmp_path: Path, kind: str, code: int, words: str
) -> None:
    path = damaged(kind, release, tmp_path)
    for how in (("--base", path), ("--bases", tmp_path)):
        failed = run.qwenfile("build", "--demo", "--target", host_target(), *how, "-o", tmp_path / "x.run")
        assert failed.code == code
        assert words in failed.one_line
        assert not (tmp_path / "x.run").exists()


def test_a_base_that_is_not_the_released_one(run: Runner, release: Path, tmp_path: Path) -> None:
    damaged("damaged", release, tmp_path)
    (tmp_path / "SHA256SUMS").write_bytes((release / "SHA256SUMS").read_bytes())
    failed = run.qwenfile("build", "--demo", "--bases", tmp_path, "-o", tmp_path / "x.run")
    assert (failed.code, "SHA256SUMS says" in failed.one_line) == (3, True)


@needs_debian
@needs_cross
@needs_wine
def test_one_command_makes_a_bundle_for_three_systems_and_each_answers(
    run: Runner,
    other_base: Callable[[str], Path],
    emulated: Runner,
    wine_environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    targets = ("linux-x86_64", "windows-x86_64", "linux-aarch64")
    folder = {other_base(target).parent for target in targets}.pop()
    chosen = [word for target in targets for word in ("--target", target)]
    built = run.qwenfile("build", "--demo", *chosen, "--bases", folder, "--name", "qwen3", cwd=tmp_path)
    assert built.code == 0, built.err
    assert built.err.count("verified: loaded its weights") == 1
    assert built.err.count("not tried out") == 2
    wine = Runner(env={**wine_environment, "QWENFILE_CACHE": f"Z:{tmp_path}/cache"})
    answers = [
        run(tmp_path / "qwen3-linux-x86_64.run", *ASK),
        emulated(tmp_path / "qwen3-linux-aarch64.run", *ASK),
        wine(*WINE, tmp_path / "qwen3-windows-x86_64.exe", *ASK, input=""),
    ]
    assert [(answer.code, answer.out) for answer in answers] == [(0, ANSWER)] * 3
