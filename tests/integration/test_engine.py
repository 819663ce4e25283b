"""The built engine: models in place, lazy cache, only its own libraries, silence, reasons, stop and restart."""

import ctypes
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import Engine, EngineError
from runtime.paths import build_cache, host_target

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "bundler" / "demo" / "demo.gguf"
CHILD = Path(__file__).parent / "engine_child.py"
ALIGNMENT = 65_536
TIMEOUT = 300.0  # seconds; a guard against hanging
Seen = dict[str, Any]


def script(*command: str | Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command], capture_output=True, encoding="utf-8", env={**os.environ, **env}, check=False
    )


@pytest.fixture(scope="session")
def engine_home() -> Path:
    """The newest engine's folder; built when there is none."""
    places = build_cache(os.environ) / "engine"
    current = places / f"{host_target()}.current"
    if not current.is_file():
        built = script(ROOT / "build_scripts" / "build_native.py")
        assert built.returncode == 0, built.stderr
    return places / current.read_text(encoding="utf-8").strip()


@pytest.fixture(scope="session")
def folder(engine_home: Path) -> Path:
    return engine_home / "lib"


@pytest.fixture
def child(folder: Path, tmp_path: Path) -> Callable[..., "tuple[Seen, subprocess.CompletedProcess[str]]"]:
    """Runs a scenario of engine_child.py in a process of its own, in an empty folder."""

    def run(scenario: str, *, cwd: Path = tmp_path, env: dict[str, str] | None = None, **given: Any) -> Any:
        facts = {"folder": str(folder), "file": str(DEMO), "offset": 0} | given
        done = subprocess.run(
            [sys.executable, CHILD, scenario, json.dumps(facts)],
            capture_output=True,
            encoding="utf-8",
            cwd=cwd,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), **(env or {})},
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done

    return run


@pytest.fixture(scope="session")
def shape_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of Qwen3-0.6B with its real vocabulary: 205 MB, nearly all of it weights."""
    path = tmp_path_factory.mktemp("shape") / "shape.gguf"
    made = script(ROOT / "build_scripts" / "make_shape_model.py", "0.6B", "--layers", "2", "-o", path)
    assert made.returncode == 0, made.stderr
    return path


def embed(model: Path, into: Path, offset: int) -> None:
    """A larger file with the model inside, and something else before and after it."""
    with into.open("wb") as file:
        file.write(b"\x7fELF" + b"x" * 5000)
        file.seek(offset)
        with model.open("rb") as source:
            shutil.copyfileobj(source, file)
        file.write(b"PK\x05\x06" + b"\0" * 100)


def test_model_inside_a_larger_file_is_mapped_in_place(child: Any, shape_model: Path, tmp_path: Path) -> None:
    offset = 3 * ALIGNMENT
    bundle = tmp_path / "bundle 模型.run"
    embed(shape_model, bundle, offset)
    work = tmp_path / "work"
    work.mkdir()
    weights = shape_model.stat().st_size

    seen, _ = child("serve", file=str(bundle), offset=offset, cwd=work, env={"TMPDIR": str(work)})
    plain, _ = child("serve", file=str(shape_model), cwd=work)

    assert seen["ready"]
    assert seen["code"] == 0
    assert seen["tokens"] == plain["tokens"]
    (mapping,) = seen["maps"]
    first, last = (int(part, 16) for part in mapping.split()[0].split("-"))
    assert last - first > 0.9 * weights
    assert int(mapping.split()[2], 16) >= offset
    assert mapping.split()[1] == "r--s"  # shared with the page cache, not a private copy
    assert seen["anonymous"] < 0.5 * weights
    assert not [path for path in work.rglob("*") if path.is_file()]  # no copy on disk


def plant(source: Path, library: Path, mark: Path) -> None:
    """A shared library that leaves a file behind as soon as anybody opens it."""
    source.write_text(
        "#include <stdio.h>\n"
        "__attribute__((constructor)) static void mark(void) {\n"
        f'    FILE * f = fopen("{mark}", "w"); if (f) fclose(f);\n'
        "}\n"
        "int ggml_backend_score(void) { return 1000000; }\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)


def test_planted_libraries_are_not_opened(child: Any, folder: Path, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    mark = tmp_path / "opened"
    bundle = downloads / "qwen3.run"
    embed(DEMO, bundle, ALIGNMENT)
    evil = downloads / "libggml-cpu-evil.so"
    plant(tmp_path / "evil.c", evil, mark)
    others = ("cuda", "vulkan", "cpu", "base")
    for name in ("libllama.so", "libengine.so", "libggml.so", *(f"libggml-{other}.so" for other in others)):
        shutil.copy(evil, downloads / name)

    seen, _ = child(
        "serve",
        file=str(bundle),
        offset=ALIGNMENT,
        cwd=downloads,
        env={"GGML_BACKEND_PATH": str(evil), "LD_LIBRARY_PATH": str(downloads)},
    )

    assert seen["tokens"]
    assert seen["devices"] == ["cpu"]
    assert not mark.exists()

    # upstream's own search, still in the library under another name, does open them: the trap works
    search = f"import ctypes; ctypes.CDLL({str(folder / 'libggml.so')!r}).upstream_ggml_backend_load_all()"
    subprocess.run([sys.executable, "-c", search], cwd=downloads, check=True, capture_output=True)
    assert mark.exists()


def test_without_a_folder_backends_come_from_beside_the_library(folder: Path, tmp_path: Path) -> None:
    """llama-cpp-python calls ggml_backend_load_all itself."""
    load = (
        f"import ctypes; ggml = ctypes.CDLL({str(folder / 'libggml.so')!r});"
        "ggml.ggml_backend_load_all(); print(ggml.ggml_backend_dev_count())"
    )
    done = subprocess.run([sys.executable, "-c", load], cwd=tmp_path, check=True, capture_output=True, encoding="utf-8")
    assert int(done.stdout) >= 1


def resident() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("size", [1, 4096, 100_000, 64 * 1024 * 1024 + 12_345])
def test_lazy_clear_leaves_the_same_bytes_as_a_clear(folder: Path, size: int) -> None:
    base, llama = ctypes.CDLL(str(folder / "libggml-base.so")), ctypes.CDLL(str(folder / "libllama.so"))
    pointer = ctypes.c_void_p
    base.ggml_backend_cpu_buffer_type.restype = pointer
    base.ggml_backend_buft_alloc_buffer.restype = base.ggml_backend_buffer_get_base.restype = pointer
    base.ggml_backend_buft_alloc_buffer.argtypes = [pointer, ctypes.c_size_t]
    base.ggml_backend_buffer_get_size.restype = ctypes.c_size_t
    for function in (
        base.ggml_backend_buffer_get_base,
        base.ggml_backend_buffer_get_size,
        base.ggml_backend_buffer_free,
    ):
        function.argtypes = [pointer]
    llama.engine_buffer_clear.argtypes = [pointer, ctypes.c_uint8]

    buffer = base.ggml_backend_buft_alloc_buffer(base.ggml_backend_cpu_buffer_type(), size)
    try:
        start, length = base.ggml_backend_buffer_get_base(buffer), base.ggml_backend_buffer_get_size(buffer)
        assert length >= size
        ctypes.memset(start, 0xAB, length)
        full = resident()
        llama.engine_buffer_clear(buffer, 0)
        if size > 1_000_000:
            assert full - resident() > 0.9 * size  # the pages went back
        assert not any(ctypes.string_at(start, length))
        llama.engine_buffer_clear(buffer, 7)
        assert set(ctypes.string_at(start, length)) == {7}
    finally:
        base.ggml_backend_buffer_free(buffer)


def test_tokens_equal_those_of_unmodified_llama(child: Any, engine_home: Path, shape_model: Path) -> None:
    server = engine_home / "bare" / "llama-server"
    if not server.is_file():
        pytest.skip("no bare llama.cpp; build it with: build_scripts/build_native.py --bare")
    ours, _ = child("serve", file=str(shape_model))
    theirs, _ = child("bare", file=str(shape_model), server=str(server))
    assert theirs["tokens"] == ours["tokens"]


def test_nothing_is_printed_unless_verbose(child: Any) -> None:
    seen, done = child("serve")
    assert seen["tokens"]
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1  # what the child itself prints

    _, done = child("serve", verbose=True)
    assert "listening on" in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_user_settings_of_llama_do_not_reach_the_engine(child: Any, tmp_path: Path) -> None:
    """LLAMA_ARG_* and llama.cpp's configuration file could move or lock the launcher's channel."""
    config = tmp_path / ".config" / "llama.cpp" / "config.ini"
    config.parent.mkdir(parents=True)
    config.write_text("[*]\napi-key = secret\nctx-size = 1\n")
    seen, done = child("serve", env={"LLAMA_API_KEY": "secret", "LLAMA_ARG_API_PREFIX": "/x", "LLAMA_ARG_PORT": "1"})
    assert seen["tokens"]
    assert done.stderr == ""


def test_web_interface_is_embedded(child: Any, engine_home: Path) -> None:
    facts = json.loads((engine_home / "engine.json").read_text(encoding="utf-8"))
    seen, _ = child("serve")
    assert seen["page"] == (200 if facts["webui"] else 404)


def test_version_names_the_commit(child: Any, engine_home: Path) -> None:
    facts = json.loads((engine_home / "engine.json").read_text(encoding="utf-8"))
    seen, _ = child("serve")
    assert facts["llama_cpp"] in seen["version"]


def test_serves_again_after_failure_and_after_stop(child: Any) -> None:
    seen, _ = child("again")
    assert "nowhere.gguf" in seen["failed"]
    first, *others = seen["answers"]
    assert len(first) == 16
    assert others == [first, first]
    assert set(seen["stops"]) == {0}
    assert seen["left"] == ""


def test_can_be_stopped_at_any_moment(child: Any) -> None:
    waits = [0, 0, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.3]
    seen, _ = child("stop_early", waits=waits)
    assert seen["codes"] == [0] * len(waits)
    assert not seen["running"]


def test_stops_after_a_reader_left_a_stream(child: Any) -> None:
    seen, _ = child("stop_streaming")
    assert seen["first"].startswith("data: {")
    assert seen["code"] == 0


def test_signals_stay_with_the_process(child: Any) -> None:
    seen, _ = child("interrupt")
    assert seen["arrived"] == [2, 15, 2]
    assert len(seen["tokens"]) == 16
    assert seen["code"] == 0
    assert seen["threads"] == 1


def damaged(kind: str, tmp_path: Path) -> Path:
    good = DEMO.read_bytes()
    contents = {
        "header": good[: good.index(b"tokenizer.ggml.tokens") + 10],
        "weights": good[: len(good) // 2],
        "last byte": good[:-1],
        "empty": b"",
        "text": b"once upon a time, in a file that is no model",
        "architecture": good.replace(b"qwen3", b"qwenX"),
    }
    path = tmp_path / "damaged.gguf"
    path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("header", "exceeds remaining file size"),
        ("weights", "not within the file bounds"),
        ("last byte", "not within the file bounds"),
        ("empty", "failed to read magic"),
        ("text", "expected 'GGUF'"),
        ("architecture", "unknown model architecture: 'qwenX'"),
    ],
)
def test_reason_of_a_model_that_does_not_load(child: Any, tmp_path: Path, kind: str, words: str) -> None:
    seen, done = child("fail", file=str(damaged(kind, tmp_path)))
    assert not seen["ready"]
    assert seen["code"] == 1
    assert words in seen["reason"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-c", "abc"], 2, '"-c": expected a number'),
        (["--temp"], 2, "expected value for argument"),
        (["--no-such-flag"], 2, "invalid argument: --no-such-flag"),
        (["--version"], 2, "invalid argument: --version"),
        (["--device", "CUDA7"], 2, "invalid device: CUDA7"),
        (["--chat-template", "{{ x"], 2, ""),
        (["--lora", "/nowhere.gguf"], 1, "/nowhere.gguf"),
        (["-md", "/nowhere.gguf"], 1, "/nowhere.gguf"),
    ],
)
def test_reason_of_arguments_that_do_not_work(child: Any, arguments: list[str], code: int, words: str) -> None:
    seen, _ = child("fail", more=arguments)
    assert not seen["ready"]
    assert words in seen["reason"]
    assert seen["code"] == code
    assert "\n" not in seen["reason"]


def test_reason_when_memory_is_short(child: Any) -> None:
    seen, _ = child("fail", more=["-c", "2000000"], limit=4 * 1024**3)
    assert seen["code"] == 1
    assert any("allocat" in line for line in seen["lines"])


def test_reason_when_the_address_is_taken(child: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        seen, _ = child("fail", args=["-m", "model.gguf", "--host", "127.0.0.1", "--port", port])
    assert seen["code"] == 1
    assert "couldn't bind" in seen["reason"]
    assert port in seen["reason"]


def test_flags_are_those_the_engine_takes(child: Any, folder: Path) -> None:
    flags = json.loads((folder / "flags.json").read_text(encoding="utf-8"))
    by_name = {name: flag for flag in flags for name in flag["names"]}
    assert by_name["-c"] is by_name["--ctx-size"]
    assert by_name["-c"]["values"] == 1
    assert by_name["-c"]["env"] == "LLAMA_ARG_CTX_SIZE"
    assert by_name["--no-jinja"]["values"] == 0
    assert all(flag["help"] for flag in flags)
    assert not {"--version", "--help", "-h", "--list-devices", "--completion-bash"} & by_name.keys()
    # a switch alone is accepted; a flag that wants a value says so
    switches = [["--no-warmup"], ["--no-webui"], ["--jinja"], ["--no-jinja"]]
    seen, _ = child("check", lists=[*switches, ["-c"], ["-c", "4096"], ["--temp", "0.5"], ["--temp", "hot"]])
    *accepted, missing, number, real, word = seen["reasons"]
    assert accepted == [""] * len(switches)
    assert "expected value" in missing
    assert (number, real) == ("", "")
    assert "expected a number" in word


def test_no_engine_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no engine in"):
        Engine(tmp_path)


def test_libraries_are_portable(engine_home: Path, folder: Path) -> None:
    """Stripped, found beside each other, no path of the building machine, every variant when it is for release."""
    facts = json.loads((engine_home / "engine.json").read_text(encoding="utf-8"))
    libraries = sorted(folder.glob("*.so"))
    if facts["release"]:
        assert {"x64", "haswell", "zen4", "sapphirerapids"} <= set(facts["variants"])
    for library in libraries:
        sections = subprocess.run(
            ["readelf", "-SdW", library], capture_output=True, encoding="utf-8", check=True
        ).stdout
        assert ".symtab" not in sections
        assert "Library rpath: [$ORIGIN]" in sections  # not runpath, which LD_LIBRARY_PATH overrules
        needed = {line.split("[")[1].rstrip("]") for line in sections.splitlines() if "(NEEDED)" in line}
        system = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"}
        drivers = {"libvulkan.so.1"} if library.name == "libggml-vulkan.so" else set()
        assert needed - system - drivers <= {path.name for path in libraries}
        content = library.read_bytes()
        assert str(ROOT).encode() not in content
        assert str(build_cache(os.environ)).encode() not in content


def test_source_is_unchanged() -> None:
    """Every file of the unpacked source is the pinned archive's, and there is no other."""
    cache = build_cache(os.environ)
    sys.path.insert(0, str(ROOT / "build_scripts"))
    try:
        import llama_source
    finally:
        sys.path.remove(str(ROOT / "build_scripts"))
    archive = cache / "downloads" / llama_source.SDIST
    unpacked = cache / f"source-{llama_source.SDIST_SHA256[:12]}"
    with archive.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == llama_source.SDIST_SHA256
    names = set()
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                name = member.name.partition("/")[2]
                names.add(name)
                extracted = tar.extractfile(member)
                assert extracted is not None
                assert extracted.read() == (unpacked / name).read_bytes(), name
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert found == names


def test_second_build_only_looks(engine_home: Path) -> None:
    first = script(ROOT / "build_scripts" / "build_native.py")
    assert first.returncode == 0, first.stderr
    second = script(ROOT / "build_scripts" / "build_native.py")
    assert "up to date" in second.stderr
    assert second.stdout == first.stdout
    assert (Path(second.stdout.splitlines()[-1]) / "lib" / "flags.json").is_file()


def test_missing_compiler_is_one_line_with_the_remedy() -> None:
    done = script(ROOT / "build_scripts" / "build_native.py", PATH="/nonexistent", CC="", CXX="")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "C compiler is missing; install one" in done.stderr


def test_a_build_cache_that_linkers_would_part_is_refused(tmp_path: Path) -> None:
    done = script(ROOT / "build_scripts" / "build_native.py", QWENFILE_BUILD_CACHE=str(tmp_path / "a,b"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"engine: {tmp_path}/a,b has a comma, where linkers part paths; set QWENFILE_BUILD_CACHE\n"
