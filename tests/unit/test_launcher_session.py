"""What the launcher decides around the engine, without one: weights, reasons, environment, cores, unpacking."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bundler import model, writer
from launcher import machine
from launcher.options import LaunchOptions
from launcher.session import Place, check_weights, explain, find_weights, forget_engine_settings
from launcher.unpack import unpack_engine
from runtime.bundle import LAUNCHER, Bundle, Header, Manifest, edges_sha256
from runtime.errors import CacheError, ExitCode, ModelError
from runtime.gguf_facts import file_facts
from tests.unit.gguf_files import content_of, shards
from tests.unit.systems import posix_only


def make_bundle(path: Path, **engine: bytes) -> Bundle:
    stub = bytes(1024) + Header(position=1024).pack()
    with writer.create(path, force=True) as out:
        stub_size, stub_sha256 = out.add_stub(stub, "linux-x86_64")
        out.add(LAUNCHER, b"tar")
        for name, content in engine.items():
            out.add(f"engine/{name}", content, compress=True)
        out.finish(
            Manifest(
                target="linux-x86_64", qwenfile="0", engine={}, name="n", stub_size=stub_size, stub_sha256=stub_sha256
            )
        )  # fmt: skip
    return Bundle.open(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"GGU", "not a GGUF"), (b"PK\3\4....", "not a GGUF"), (None, "no such file")],
)
def test_weights_are_looked_at_before_the_engine_starts(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        check_weights(path)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        check_weights(tmp_path)


def test_a_bundle_without_weights_takes_those_beside_it(tmp_path: Path) -> None:
    place = Place(bundle=make_bundle(tmp_path / "qwen3.run", x=b"1"), cache=tmp_path, env={})
    with pytest.raises(ModelError, match=r"qwen3\.run carries no weights, and .*qwen3\.gguf is not there"):
        find_weights(LaunchOptions(), place)
    (tmp_path / "qwen3.gguf").write_bytes(b"GGUF....")
    assert find_weights(LaunchOptions(), place).weights == tmp_path / "qwen3.gguf"


def test_of_two_files_beside_a_renamed_bundle_the_right_one_counts(tmp_path: Path) -> None:
    built, other = tmp_path / "built.gguf", tmp_path / "renamed.gguf"
    built.write_bytes(b"GGUF right")
    bundle = make_bundle(tmp_path / "renamed.run", x=b"1")
    external = {"name": built.name, **edges_sha256(built)}
    place = Place(bundle=replace(bundle, manifest=replace(bundle.manifest, external=external)), cache=tmp_path, env={})
    assert find_weights(LaunchOptions(), place).weights == built
    for content in (b"GGUF wrong", b"no model"):
        other.write_bytes(content)
        assert find_weights(LaunchOptions(), place).weights == built
    other.write_bytes(b"GGUF wrong")
    built.write_bytes(b"GGUF wrong as well")
    with pytest.raises(ModelError, match=r"renamed\.gguf is not what renamed\.run was built with"):
        find_weights(LaunchOptions(), place)


@pytest.mark.parametrize("named", [0, 2])
def test_any_shard_stands_for_the_set(tmp_path: Path, named: int) -> None:
    paths = shards(tmp_path)
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(content_of(model.load(paths[0]).source))
    place = Place(bundle=make_bundle(tmp_path / "x.run", x=b"1"), cache=tmp_path, env={})
    found = find_weights(LaunchOptions(model=paths[named]), place)
    assert found.weights == paths[0]
    facts, expected = found.bundle.manifest.model or {}, file_facts(whole)
    assert facts["shape"]["weights"] == pytest.approx(expected["shape"]["weights"], abs=32 * len(paths))
    for key in set(expected["shape"]) - {"weights", "matrices", "tied"}:
        assert facts["shape"][key] == expected["shape"][key], key
    paths[1].unlink()
    with pytest.raises(ModelError, match=r"is one of 3 shards; missing: m-00002-of-00003\.gguf"):
        find_weights(LaunchOptions(model=paths[named]), place)


@pytest.mark.parametrize(
    ("log", "code", "expected", "words"),
    [
        (["error while handling argument \"--fit\": no"], 2, ExitCode.USAGE, "the engine refuses: error while"),
        (["llama_prepare_model_devices: invalid value for main_gpu: 3 (available devices: 1)",
          "llama_model_load_from_file_impl: failed to load model"], 1, ExitCode.USAGE,
         "the engine refuses: invalid value for main_gpu: 3 (available devices: 1)"),
        (["gguf_init_from_reader: failed to read key-value pairs", "llama_model_load: error loading model: x"], 1,
         ExitCode.MODEL, "the model cannot be loaded: failed to read key-value pairs"),
        (["llama_model_load: error loading model: unknown model architecture: 'foo'"], 1, ExitCode.MODEL,
         "unknown model architecture: 'foo'"),
        (["srv    load_model: failed to load model, 'x'"], 1, ExitCode.MODEL, "failed to load model, 'x'"),
        (["srv         start: couldn't bind HTTP server socket"], 1, ExitCode.LISTEN, "cannot listen"),
        (["ggml_backend_cpu: failed to allocate buffer of size 99"], 1, ExitCode.FAILURE, "not enough memory"),
        ([], 1, ExitCode.FAILURE, "the engine stopped: exit code 1"),
    ],
)  # fmt: skip
def test_the_engines_own_reason_in_one_line(log: list[str], code: int, expected: ExitCode, words: str) -> None:
    error = explain(log, code)
    assert error.exit_code is expected
    assert words in str(error)


def test_settings_for_another_llama_cpp_are_forgotten() -> None:
    env = {"LLAMA_ARG_HOST": "x", "LLAMA_API_KEY": "k", "AIP_MODE": "PREDICTION", "HOME": "/h"}
    forget_engine_settings(env)
    assert env == {"HOME": "/h"}


def test_cores_are_counted_once_and_within_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert machine.usable_cores(tmp_path) == 4
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n")
    assert machine.usable_cores(tmp_path) == 2
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/user/app\n")
    for group, limit in (("user", "100000 100000"), ("user/app", "max 100000")):
        folder = tmp_path / "sys/fs/cgroup" / group
        folder.mkdir(parents=True)
        (folder / "cpu.max").write_text(limit + "\n")
    assert machine.usable_cores(tmp_path) == 1


def test_the_engine_is_unpacked_once(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "x.run", a=b"one", b=b"two")
    folder = unpack_engine(bundle, tmp_path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"a": b"one", "b": b"two"}
    stamp = (folder / "a").stat().st_mtime_ns
    assert unpack_engine(bundle, tmp_path) == folder
    assert (folder / "a").stat().st_mtime_ns == stamp
    other = make_bundle(tmp_path / "y.run", a=b"one", b=b"three")
    assert unpack_engine(other, tmp_path) != folder


@posix_only
def test_a_damaged_cache_is_mended(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "x.run", a=b"one", b=b"two")
    folder = unpack_engine(bundle, tmp_path)
    (folder / "a").unlink()
    (folder / "b").chmod(0o700)
    (folder / "b").write_bytes(b"")
    (tmp_path / f"{folder.name}.work").mkdir()
    (tmp_path / f"{folder.name}.work" / "left").touch()
    assert unpack_engine(bundle, tmp_path) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"a": b"one", "b": b"two"}
    assert not list(tmp_path.glob("engine-*.work")) + list(tmp_path.glob("engine-*.damaged"))


def test_a_flipped_byte_is_noticed_and_leaves_nothing(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "x.run", a=bytes(range(256)) * 50)
    member = bundle.require("engine/a")
    data = bytearray(bundle.path.read_bytes())
    data[member.offset + member.size // 2] ^= 1
    bundle.path.write_bytes(data)
    with pytest.raises(ModelError, match="engine/a"):
        unpack_engine(bundle, tmp_path)
    assert [path.suffix for path in tmp_path.glob("engine-*")] == [".lock"]


def test_a_manifest_cannot_point_outside_the_folder(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "x.run", **{"../evil": b"x"})
    with pytest.raises(ModelError, match=r"\.\./evil"):
        unpack_engine(bundle, tmp_path)
    assert not (tmp_path / "evil").exists()


def test_a_cache_that_cannot_be_written_has_a_remedy(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "x.run", a=b"one")
    with pytest.raises(CacheError, match="set QWENFILE_CACHE"):
        unpack_engine(bundle, tmp_path / "x.run")
