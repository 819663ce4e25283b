"""Every kind of Qwen3: mixtures of experts, shards, quantizing, drafts, adapters, long contexts, little memory."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from bundler import model
from bundler.demo import DEMO_MODEL
from runtime.bundle import DRAFT, MODEL, Bundle
from runtime.gguf_header import read_header
from runtime.memory import Cache, estimate, repacked_types
from tests.integration.conftest import ROOT, Result, Runner
from tests.integration.server import Server
from tests.unit.gguf_files import TinyGGUF

MAKE = ROOT / "build_scripts/make_shape_model.py"
HIDDEN, QUERY = 64, 128  # of the shape called tiny
Maker = Callable[..., Path]


@pytest.fixture(scope="session")
def shape(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Makes a model of a shape once: shape("tiny", "--quant", "F16"). Its first file, if it has shards."""
    folder = tmp_path_factory.mktemp("shapes")
    made: dict[tuple[str, ...], Path] = {}

    def make(*arguments: str) -> Path:
        if arguments not in made:
            out = folder / f"{'_'.join(arguments).replace('--', '')}.gguf"
            done = run(sys.executable, MAKE, *arguments, "-o", out)
            assert done.code == 0, done.err
            made[arguments] = Path(done.out.split(":")[0])
        return made[arguments]

    return make


@pytest.fixture
def build(run: Runner, base: Path, tmp_path: Path) -> Callable[..., Path]:
    """Builds a bundle without trying it out; returns its path."""

    def make(*arguments: str | Path) -> Path:
        out = tmp_path / "m.run"
        done = run.qwenfile("build", *arguments, "-o", out, "--base", base, "--no-verify", "--force")
        assert done.code == 0, done.err
        return out

    return make


def answer(run: Runner, bundle: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """A short completion at temperature 0, on one thread."""
    done = run(
        bundle, "--cli", "--raw", "--json", "-p", "Hello", "-n", "12", "--temp", "0", "-t", "1", *arguments,
        **(env or {}),
    )  # fmt: skip
    assert done.code == 0, done.err
    fields: dict[str, Any] = json.loads(done.out)
    assert fields["completion_tokens"] == 12
    return fields


def fails(done: Result, code: int, words: str) -> None:
    assert (done.code, words in done.err.splitlines()[-1]) == (code, True), done.err


# --- shapes and shards


def test_a_mixture_of_experts_is_described_built_and_runs(
    run: Runner, base: Path, shape: Maker, tmp_path: Path
) -> None:
    moe = shape("tiny-moe", "--quant", "Q4_0")
    described = json.loads(run.qwenfile("inspect", moe, "--json").out)
    assert described["architecture"] == "qwen3moe"
    assert described["active_parameters"] < described["parameters"]
    assert described["tensor_types"]["experts"] == "Q4_0"
    out = tmp_path / "moe.run"
    built = run.qwenfile("build", moe, "-o", out, "--base", base)
    assert built.code == 0, built.err
    answer(run, out)


def test_shards_become_the_whole_model(run: Runner, base: Path, shape: Maker, tmp_path: Path) -> None:
    whole = shape("tiny", "--quant", "F16")
    first = shape("tiny", "--quant", "F16", "--shards", "3")
    last = first.with_name(first.name.replace("-00001-", "-00003-"))
    out = tmp_path / "s.run"
    built = run.qwenfile("build", last, "-o", out, "--base", base)
    assert built.code == 0, built.err
    assert "joining 3 shards" in built.err
    bundle = Bundle.open(out)
    joined = tmp_path / "joined.gguf"
    bundle.extract(bundle.require(MODEL), joined)
    mine, its = read_header(joined), read_header(whole)
    assert mine.values == its.values
    assert mine.tensors == its.tensors
    assert joined.read_bytes()[mine.data_start :] == whole.read_bytes()[its.data_start :]
    assert run.qwenfile("verify", out).code == 0
    own = answer(run, out)["text"]
    assert answer(run, out, "-m", str(last))["text"] == own


def test_a_missing_shard_is_named_and_nothing_left(run: Runner, base: Path, shape: Maker, tmp_path: Path) -> None:
    first = shape("tiny", "--quant", "F16", "--shards", "3")
    shutil.copy(first, tmp_path / first.name)
    failed = run.qwenfile("build", tmp_path / first.name, "-o", tmp_path / "s.run", "--base", base)
    fails(failed, 3, f"missing: {first.name.replace('-00001-', '-00002-')}")
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_joining_takes_no_memory_for_the_weights(run: Runner, base: Path, shape: Maker, tmp_path: Path) -> None:
    first = shape("0.6B", "--layers", "2", "--shards", "3")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    script = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:]).returncode\n"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-m", "bundler", "build", first, "-o", tmp_path / "s.run", "--base", base, "--no-verify"]
    done = run(sys.executable, "-c", script, *command, PYTHONPATH=str(ROOT))
    code, kilobytes = map(int, done.out.splitlines()[-1].split())
    assert code == 0, done.err
    assert kilobytes < 150_000, f"{kilobytes} kB for weights of 205 MB (this process's children: {before} kB)"


def test_two_thousand_damaged_models_are_read_or_refused(run: Runner) -> None:
    done = run(sys.executable, ROOT / "build_scripts/fuzz_gguf.py", "--cases", "2000", "--seed", "7")
    assert done.code == 0, done.err + done.out
    assert "2,000 cases" in done.out


# --- quantizing


def test_a_model_is_quantized_on_the_way(run: Runner, base: Path, shape: Maker, tmp_path: Path) -> None:
    """With nothing but a base: the libraries come out of it."""
    first = shape("tiny", "--quant", "F16", "--shards", "3")
    (tmp_path / "cache").mkdir()
    command = ["build", first, "--quantize", "q4_0", "-o", tmp_path / "q.run", "--base", base]
    built = run(
        sys.executable, "-m", "bundler", *command, PYTHONPATH=str(ROOT), QWENFILE_BUILD_CACHE=str(tmp_path / "cache")
    )
    assert built.code == 0, built.err
    assert "lies beside the output meanwhile" in built.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "q.run"]
    facts = json.loads(run.qwenfile("inspect", tmp_path / "q.run", "--json").out)
    assert facts["model"]["quantization"] == "Q4_0"
    assert facts["sampling"]["thinking"]["presence_penalty"] == 1.5
    answer(run, tmp_path / "q.run")


def test_quantized_weights_are_quantized_again_only_when_asked(
    run: Runner, base: Path, shape: Maker, tmp_path: Path
) -> None:
    command = ["build", shape("tiny"), "--quantize", "Q4_0", "-o", tmp_path / "q.run", "--base", base, "--no-verify"]
    fails(run.qwenfile(*command), 2, "--requantize")
    assert list(tmp_path.iterdir()) == []
    assert run.qwenfile(*command, "--requantize").code == 0
    assert (Bundle.open(tmp_path / "q.run").manifest.model or {})["quantization"] == "Q4_0"


@pytest.mark.parametrize(("kind", "words"), [("Q4_X", "did you mean"), ("Q1_0", "no tensor type fallback is defined")])
def test_a_type_that_cannot_be_is_told(
    run: Runner, base: Path, shape: Maker, tmp_path: Path, kind: str, words: str
) -> None:
    model_file = shape("tiny", "--quant", "F16")
    failed = run.qwenfile("build", model_file, "--quantize", kind, "-o", tmp_path / "q.run", "--base", base)
    assert failed.code in (1, 2)
    assert words in failed.err
    assert list(tmp_path.iterdir()) == []


def importance(weights: Path, out: Path, seed: int) -> Path:
    """Random importance for all matrices, as llama-imatrix writes what it has measured."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(out, "imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    for name in ("imatrix.chunk_count", "imatrix.chunk_size"):
        writer.add_uint32(name, 512)
    for tensor in read_header(weights).tensors:
        if len(tensor.shape) > 1 and tensor.name != "token_embd.weight":
            columns, _, experts = (*tensor.shape, 1)[:3]
            writer.add_tensor(f"{tensor.name}.in_sum2", random.gamma(1, 512, (experts, columns)).astype(np.float32))
            writer.add_tensor(f"{tensor.name}.counts", np.full((experts, 1), 512, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def test_an_importance_matrix_decides_what_is_kept(
    run: Runner, base: Path, shape: Maker, build: Callable[..., Path], tmp_path: Path
) -> None:
    weights = shape("tiny-moe", "--quant", "F16")
    matrices = [None, *(importance(weights, tmp_path / f"{seed}.gguf", seed) for seed in (1, 2))]
    kept = set()
    for matrix in matrices:
        bundle = build(weights, "--quantize", "Q4_0", *(("--imatrix", matrix) if matrix else ()))
        answer(run, bundle)
        member = Bundle.open(bundle).manifest.member(MODEL)
        assert member
        kept.add(member.sha256)
    assert len(kept) == len(matrices)
    alone = run.qwenfile("build", weights, "--imatrix", matrices[1], "-o", tmp_path / "alone.run", "--base", base)
    fails(alone, 2, "--imatrix goes with --quantize TYPE")


def test_the_smallest_types_need_an_importance_matrix(
    run: Runner, base: Path, shape: Maker, build: Callable[..., Path], tmp_path: Path
) -> None:
    weights = shape("0.6B", "--layers", "1", "--quant", "F16")
    asked = ["build", weights, "--quantize", "IQ2_XXS", "-o", tmp_path / "without.run", "--base", base]
    fails(run.qwenfile(*asked), 1, "IQ2_XXS needs an importance matrix (add --imatrix FILE")
    other = importance(shape("tiny", "--quant", "F16"), tmp_path / "other.gguf", 1)
    fails(run.qwenfile(*asked, "--imatrix", other), 3, "name an importance matrix made with this model")
    bundle = build(weights, "--quantize", "IQ2_XXS", "--imatrix", importance(weights, tmp_path / "own.gguf", 1))
    assert (Bundle.open(bundle).manifest.model or {})["quantization"] == "IQ2_XXS"
    answer(run, bundle)


def test_ctrl_c_while_quantizing_leaves_nothing(run: Runner, base: Path, shape: Maker, tmp_path: Path) -> None:
    weights = shape("0.6B", "--layers", "1", "--quant", "F16")
    command = [sys.executable, "-m", "bundler", "build", weights, "--quantize", "Q4_K_M"]
    with subprocess.Popen(
        [*command, "-o", tmp_path / "q.run", "--base", base],
        env={**run.env, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        while process.poll() is None and not list(tmp_path.glob(".q.run.*.quantized.gguf")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"interrupted" in err
    assert list(tmp_path.iterdir()) == []


# --- drafts and adapters


def test_a_draft_guesses_ahead_and_changes_nothing(run: Runner, build: Callable[..., Path], shape: Maker) -> None:
    bundle = build(shape("tiny"), "--draft", shape("tiny", "--layers", "1"))
    with_draft = answer(run, bundle)
    assert with_draft["timings"]["draft_tokens"] > 0
    without = answer(run, bundle, "--no-draft")
    assert without["text"] == with_draft["text"]
    assert "draft_tokens" not in without["timings"]


def test_a_model_that_is_its_own_draft_is_always_right(run: Runner, build: Callable[..., Path], shape: Maker) -> None:
    bundle = build(shape("tiny", "--quant", "F16"), "--draft", shape("tiny", "--quant", "F16", "--layers", "1"))
    own = shape("tiny", "--quant", "F16")
    timings = answer(run, bundle, "-m", str(own), "-md", str(own), "--spec-type", "draft-simple")["timings"]
    assert timings["draft_accepted"] == timings["draft_tokens"] > 0


def test_the_drafts_weights_are_mapped_in_place(run: Runner, build: Callable[..., Path], shape: Maker) -> None:
    bundle = build(shape("tiny"), "--draft", shape("tiny", "--layers", "1"))
    members = [Bundle.open(bundle).require(name) for name in (MODEL, DRAFT)]
    command = [bundle, "--cli", "--raw", "-p", "Hello", "-n", "4000", "-t", "1", "--temp", "0"]
    with subprocess.Popen(command, env=dict(run.env), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)  # it generates
        lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        process.kill()
    offsets = [int(line.split()[2], 16) for line in lines if line.endswith(str(bundle))]
    for member in members:
        start = member.offset - member.offset % os.sysconf("SC_PAGE_SIZE")
        assert any(start <= offset < member.offset + member.size for offset in offsets), (member.name, offsets)


def test_a_draft_of_another_vocabulary_is_refused(run: Runner, base: Path, shape: Maker, tmp_path: Path) -> None:
    command = ["build", shape("tiny"), "--draft", DEMO_MODEL, "-o", tmp_path / "d.run", "--base", base]
    fails(run.qwenfile(*command), 3, "a draft needs the same")
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_is_no_smaller_is_refused(run: Runner, base: Path, shape: Maker, tmp_path: Path) -> None:
    command = ["build", shape("tiny"), "--draft", shape("tiny"), "-o", tmp_path / "d.run", "--base", base]
    fails(run.qwenfile(*command), 2, "it would slow it")


def lora(path: Path, *, hidden: int = HIDDEN, strength: float = 1.0, experts: int = 0) -> Path:
    """An adapter of rank 4 for the first query projection; or for what the first layer's experts give, of tiny-moe."""
    writer = gguf.GGUFWriter(path, "qwen3moe" if experts else "qwen3")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    generator = np.random.default_rng(1)
    each = (experts,) if experts else ()
    a = generator.standard_normal((*each, 4, hidden), dtype=np.float32)
    b = generator.standard_normal((*each, HIDDEN if experts else QUERY, 4), dtype=np.float32) * np.float32(strength)
    for name, values in (("lora_a", a), ("lora_b", b)):
        writer.add_tensor(f"blk.0.{'ffn_down_exps' if experts else 'attn_q'}.weight.{name}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def control_vector(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "qwen3")
    writer.add_int32("controlvector.layer_count", 1)
    writer.add_tensor("direction.1", np.full(HIDDEN, 3.0, dtype=np.float32) * np.arange(HIDDEN, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_adapters_are_carried_and_in_force(
    run: Runner, build: Callable[..., Path], shape: Maker, tmp_path: Path
) -> None:
    weights = shape("tiny", "--quant", "F16")
    plain = answer(run, build(weights))["text"]
    idle = build(weights, "--lora", lora(tmp_path / "idle.gguf", strength=0.0))
    assert answer(run, idle)["text"] == plain
    bundle = build(weights, "--lora", lora(tmp_path / "a.gguf", strength=50.0))
    changed = answer(run, bundle)["text"]
    assert changed != plain
    assert answer(run, bundle, "-m", str(weights))["text"] == plain  # made for the bundle's own weights
    steered = answer(run, build(weights, "--control-vector", control_vector(tmp_path / "c.gguf")))["text"]
    assert steered not in (plain, changed)
    upgraded = tmp_path / "up.run"
    both = build(weights, "--lora", tmp_path / "a.gguf", "--control-vector", tmp_path / "c.gguf")
    assert run.qwenfile("upgrade", both, "-o", upgraded, "--no-verify").code == 0
    names = [member.name for member in Bundle.open(upgraded).manifest.prefixed("adapters/")]
    assert names == ["adapters/lora-1.gguf", "adapters/control-1.gguf"]


def test_an_adapter_for_experts_is_in_force(
    run: Runner, build: Callable[..., Path], shape: Maker, tmp_path: Path
) -> None:
    weights = shape("tiny-moe", "--quant", "F16")
    plain = answer(run, build(weights))["text"]
    idle = build(weights, "--lora", lora(tmp_path / "idle.gguf", strength=0.0, experts=8))
    assert answer(run, idle)["text"] == plain
    bundle = build(weights, "--lora", lora(tmp_path / "a.gguf", strength=50.0, experts=8))
    assert answer(run, bundle)["text"] != plain


def test_a_server_takes_an_adapter_and_each_request_its_strength(
    run: Runner, build: Callable[..., Path], shape: Maker, tmp_path: Path
) -> None:
    bundle = build(shape("tiny", "--quant", "F16"))
    with Server(bundle, run, "--lora", str(lora(tmp_path / "a.gguf", strength=50.0))) as server:
        listed = json.load(urllib.request.urlopen(f"{server.url}/lora-adapters"))
        assert [(each["id"], each["path"], each["scale"]) for each in listed] == [(0, str(tmp_path / "a.gguf"), 1.0)]

        def said(**more: Any) -> str:
            body = {"prompt": "Hello", "n_predict": 8, "temperature": 0, "ignore_eos": True, **more}
            asked = urllib.request.Request(f"{server.url}/completion", json.dumps(body).encode())
            return str(json.load(urllib.request.urlopen(asked))["content"])

        full, none = said(), said(lora=[{"id": 0, "scale": 0.0}])
        assert full == said(lora=[{"id": 0, "scale": 1.0}])
    assert full != none
    with Server(bundle, run) as server:
        assert none == said()


@pytest.mark.parametrize(
    ("flag", "words"), [("--lora", "for a Qwen3 of another size"), ("--control-vector", "is no control vector")]
)
def test_an_adapter_for_another_model_is_refused(
    run: Runner, base: Path, shape: Maker, tmp_path: Path, flag: str, words: str
) -> None:
    adapter = lora(tmp_path / "a.gguf", hidden=128)
    failed = run.qwenfile("build", shape("tiny"), flag, adapter, "-o", tmp_path / "a.run", "--base", base)
    assert failed.code == 3
    assert words in failed.one_line


# --- templates and architectures


def test_a_model_without_a_template_gets_qwen3s(run: Runner, base: Path, tmp_path: Path) -> None:
    """The demo model with its template's key renamed: the engine must talk by ours."""
    bare = tmp_path / "bare.gguf"
    bare.write_bytes(DEMO_MODEL.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_templatX"))
    out = tmp_path / "t.run"
    built = run.qwenfile("build", bare, "-o", out, "--base", base)
    assert built.code == 0, built.err
    assert "qwenfile's own, of Qwen3's format, is put in" in built.err
    asked = run(out, "--cli", "-p", "What is the capital of Italy?", "--temp", "0", "-t", "1")
    assert "Rome" in asked.out


def test_another_architecture_is_let_through_when_asked(run: Runner, base: Path, tmp_path: Path) -> None:
    other = TinyGGUF()
    other.values = {key.replace("qwen3.", "llama."): value for key, value in other.values.items()}
    other.values["general.architecture"] = "llama"
    (tmp_path / "l.gguf").write_bytes(other.data())
    command = ["build", tmp_path / "l.gguf", "-o", tmp_path / "l.run", "--base", base, "--no-verify"]
    assert "--allow-any-architecture only" in run.qwenfile("inspect", command[1]).out
    fails(run.qwenfile(*command), 3, "--allow-any-architecture")
    allowed = run.qwenfile(*command, "--allow-any-architecture")
    assert allowed.code == 0, allowed.err
    assert "warning: llama is no Qwen3" in allowed.err


# --- contexts and settings


def test_beyond_the_native_context_yarn_is_told_and_used(run: Runner, build: Callable[..., Path], shape: Maker) -> None:
    bundle = build(shape("tiny"))
    done = run(
        bundle, "--cli", "--raw", "-p", "Hi", "-n", "1", "-c", "65536", "-t", "1", "-v", "-lv", "5", env=dict(run.env)
    )
    assert done.code == 0, done.err
    assert "-c 65,536 is beyond the native 32,768: YaRN is on" in done.err
    assert "exceeds the training context" not in done.err
    assert re.search(r"freq_scale\s*= 0\.5\b", done.err)
    refused = run(bundle, "--cli", "-p", "Hi", "-c", "131073")
    assert refused.code == 2
    assert "131,072" in refused.one_line


def test_yarn_keys_of_the_model_are_respected(run: Runner, build: Callable[..., Path], shape: Maker) -> None:
    """The file says 40,960 and YaRN with factor 4, as converters write it: the context may grow, its factor stays."""
    bundle = build(shape("tiny", "--yarn", "4"))
    done = run(
        bundle, "--cli", "--raw", "-p", "Hi", "-n", "1", "-c", "65536", "-t", "1", "-v", "-lv", "5", env=dict(run.env)
    )
    assert done.code == 0, done.err
    assert re.search(r"freq_scale\s*= 0\.25\b", done.err)
    assert "exceeds the training context" not in done.err
    assert run(bundle, "--cli", "-p", "Hi", "-c", "131073").code == 2
    shown = run(bundle, "--cli", "--show-settings").out
    assert "the model's own keys" in shown
    assert "the model's own keys" not in run(bundle, "--cli", "--show-settings", "--rope-scaling", "none").out


def test_rows_have_as_long_a_context(run: Runner, build: Callable[..., Path], shape: Maker, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('"Hi"\n')
    ask = ("--cli", "--raw", "--jsonl", rows, "-n", "1", "-t", "1", "-c", "200000")
    plain = build(shape("tiny"))
    assert run(plain, *ask).code == 2
    scaled = run(plain, *ask, "--rope-scaling", "yarn", "--rope-scale", "8")
    assert scaled.code == 0, scaled.err
    carried = run(build(shape("tiny", "--yarn", "8")), *ask)
    assert carried.code == 0, carried.err


def test_settings_are_shown_with_their_origin(run: Runner, build: Callable[..., Path]) -> None:
    bundle = build("--demo", "--args", "--top-k 7 ...")
    shown = run(bundle, "--cli", "--temp", "0.1", "-c", "512", "--show-settings")
    assert shown.code == 0, shown.err
    rows = {line[:32].strip(): " ".join(line[32:].split()) for line in shown.out.splitlines()}
    assert rows["temperature, thinking"] == "0.1 command line"
    assert rows["top_k, non thinking"] == "7 the bundle's arguments"
    assert rows["top_p, thinking"] == "0.95 Qwen3's preset"
    assert rows["context"] == "512 tokens command line"


def test_other_weights_have_their_own_settings(run: Runner, demo_bundle: Path, shape: Maker) -> None:
    """Quantized ones in a bundle of unquantized ones; their name does not say so."""
    shown = run(demo_bundle, "-m", shape("tiny"), "-c", "65536", "--show-settings")
    assert shown.code == 0, shown.err
    rows = {line[:32].strip(): " ".join(line[32:].split()) for line in shown.out.splitlines()}
    assert rows["quantization"] == "Q8_0 the weights' file"
    assert rows["presence_penalty, thinking"].startswith("1.5 ")
    assert rows["position scaling"].startswith("YaRN, factor 2 ")


# --- memory


@pytest.fixture(scope="module", params=[("0.6B", "Q8_0"), ("4B", "Q4_0"), ("30B-A3B", "Q4_0")], ids="_".join)
def large(run: Runner, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Two layers of a shape; up to 1 GB, so it does not stay."""
    name, quant = request.param
    out = tmp_path_factory.mktemp("large") / "large.gguf"
    done = run(sys.executable, MAKE, name, "--quant", quant, "--layers", "2", "-o", out)
    assert done.code == 0, done.err
    yield out
    out.unlink()


@pytest.mark.parametrize(("context", "kind"), [(8192, "f16"), (32_768, "q8_0")])
def test_the_estimate_is_what_the_engine_allocates(
    run: Runner, demo_bundle: Path, large: Path, context: int, kind: str
) -> None:
    done = run(
        demo_bundle, "-m", large, "--cli", "--raw", "-p", "Hi", "-n", "1", "-c", str(context), "-t", "1",
        "-ctk", kind, "-ctv", kind, "-v", "-lv", "5", "--temp", "0",
    )  # fmt: skip
    assert done.code == 0, done.err
    buffers = re.findall(r"CPU\w*\s+(\w+(?: \w+)*) buffer size =\s+([\d.]+) MiB", done.err)
    sizes: dict[str, float] = {}
    for what, mebibytes in buffers:
        sizes[what] = sizes.get(what, 0) + float(mebibytes) * 2**20
    repacked = sum(float(size) * 2**20 for size in re.findall(r"CPU_REPACK model buffer size =\s+([\d.]+)", done.err))
    loaded = model.load(large)
    assert loaded.shape is not None
    need = estimate(loaded.shape, Cache(context=context, keys=kind, values=kind), repacked_types())
    assert need.cache == pytest.approx(sizes["KV"], rel=0.001)
    assert need.copied == pytest.approx(repacked, rel=0.05)
    # the mapped buffer is told as a range over the file, which with rearranged weights in it says nothing
    mapped = need.mapped if repacked else sizes["model"]
    real = mapped + repacked + sizes["KV"] + sizes["compute"] + sizes["output"]
    assert need.total == pytest.approx(real, rel=0.05)


ONE_TOKEN = ("--cli", "--raw", "-p", "Hi", "-n", "1", "-t", "1")


def with_memory(run: Runner, folder: Path, kilobytes: int) -> list[str | Path]:
    """What to put before a command for which so much memory shall be free."""
    meminfo = folder / "meminfo"
    meminfo.write_text(f"MemTotal: 100000 kB\nMemAvailable: {kilobytes} kB\n")
    prefix = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /proc/meminfo && exec "$@"', meminfo]
    if run(*prefix, "true").code:
        pytest.skip("a memory of another size needs root")
    return prefix


def test_weights_larger_than_memory_stay_in_their_file(
    run: Runner, build: Callable[..., Path], shape: Maker, tmp_path: Path
) -> None:
    bundle = build(shape("tiny-moe", "--quant", "Q4_0"))
    plenty = run(bundle, *ONE_TOKEN, "-c", "256", "-v", "-lv", "5")
    short = run(*with_memory(run, tmp_path, 5000), bundle, *ONE_TOKEN, "-c", "256", "-v", "-lv", "5")
    assert (plenty.code, short.code) == (0, 0), short.err
    assert "read from the disk again and again" in short.err
    assert "CPU_REPACK model buffer" not in short.err
    if "Q4_0" in repacked_types():
        assert "CPU_REPACK model buffer" in plenty.err


def test_too_little_memory_is_told_before_loading(
    run: Runner, build: Callable[..., Path], shape: Maker, tmp_path: Path
) -> None:
    bundle = build(shape("tiny", "--quant", "F16"))
    command = [*with_memory(run, tmp_path, 60_000), bundle, *ONE_TOKEN]
    assert run(*command, "-c", "4096").code == 0
    failed = run(*command, "-c", "32768")
    assert failed.code == 1
    fitting = re.search(r"61 MB are free \(-c (\d+) fits", failed.one_line)
    assert fitting is not None, failed.err
    assert run(*command, "-c", fitting[1]).code == 0
    forced = run(*command, "-c", "32768", "--force")
    assert forced.code == 0
    assert "the context does not fit" in forced.err


def test_what_is_said_to_fit_fits_batches_rows_and_drafts(
    run: Runner, build: Callable[..., Path], shape: Maker, tmp_path: Path
) -> None:
    bundle = build(shape("tiny", "--quant", "F16"), "--draft", shape("tiny", "--quant", "F16", "--layers", "1"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('"Hi"\n"Ho"\n')
    ask = ("--cli", "--raw", "-n", "1", "-t", "1")
    for kilobytes, context, arguments in (
        (60_000, 32_768, ("--no-draft", "-p", "Hi", "-ub", "2048")),
        (60_000, 8192, ("--no-draft", "--jsonl", rows, "--parallel", "8")),
        (90_000, 32_768, ("-p", "Hi")),
    ):
        command = [*with_memory(run, tmp_path, kilobytes), bundle, *ask, *arguments]
        fitting = re.search(r"MB are free \(-c (\d+) fits", run(*command, "-c", str(context)).one_line)
        assert fitting is not None
        done = run(*command, "-c", fitting[1])
        assert (done.code, done.err) == (0, "")


# --- weights beside the bundle


def test_weights_beside_are_known_by_head_and_tail(run: Runner, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.run"
    built = run.qwenfile("build", "--demo", "--external-weights", "-o", out, "--base", base)
    assert built.code == 0, built.err
    ask = ("--cli", "-p", "Hi", "-n", "2", "-t", "1")
    assert run(out, *ask).code == 0
    verified = run.qwenfile("verify", out)
    assert verified.code == 0
    assert "e.gguf, the weights beside it" in verified.err
    renamed = out.rename(tmp_path / "renamed.run")
    assert run(renamed, *ask).code == 0
    weights = tmp_path / "e.gguf"
    whole = weights.read_bytes()
    for changed in (whole[:-1] + bytes([whole[-1] ^ 1]), whole + b"\0", whole[:5000] + b"?" + whole[5001:]):
        weights.write_bytes(changed)
        refused = run(renamed, *ask)
        assert refused.code == 3
        assert "is not what renamed.run was built with" in refused.one_line
    middle = len(whole) // 2  # past the head, before the tail: for `verify` alone
    weights.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert run(renamed, *ask).code == 0
    fails(run.qwenfile("verify", renamed), 3, "e.gguf is not what")
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert run(renamed, *ask, "-m", weights).code == 0
