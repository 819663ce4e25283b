"""Quantize a model on its way into a bundle, through llama-cpp-python's binding. For `build`.

llama.cpp writes a whole file, so one lies beside the output until the bundle is made. It runs in a child process
(`quantize_worker`): the engine's libraries and numpy stay out of this one, and an interruption ends it at once.
"""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bundler.assemble import check_room
from bundler.gguf_tensors import elements
from bundler.model import Model, load
from bundler.writer import Progress
from runtime.bundle import ENGINE_PREFIX, Bundle
from runtime.errors import QwenfileError, UsageError
from runtime.gguf_facts import EMBEDDING, OUTPUT

SOURCES = Path(__file__).resolve().parent.parent
_MORE_BITS = 1.25  # Q4_K_M keeps some tensors in Q6_K, and so on: at most this much more than the name says
_FALLBACK_BITS = 8.5  # rows that don't divide into a type's blocks, and the outermost tensors, get Q8_0 at most
# What llama-quantize calls so (tools/quantize/quantize.cpp, QUANT_OPTIONS).
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
# Mixtures not named after the type that most tensors get (src/llama-quant.cpp, llama_ftype_get_default_type).
_MOSTLY = {"IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S"}
_UNABLE = ("NVFP4",)  # llama.cpp reads it and makes none
_NO_BINDING = 3  # exit code of the worker


def type_names() -> dict[str, int]:
    """Names people write, `Q4_K_M`, and llama.cpp's numbers for them."""
    from gguf.constants import LlamaFileType

    names = {
        kind.name.removeprefix("MOSTLY_").removeprefix("ALL_"): int(kind) for kind in LlamaFileType if kind.value < 1024
    }
    return {name: number for name, number in names.items() if name not in _UNABLE}


def check(model: Model, kind: str, *, requantize: bool) -> str:
    """The type's name as llama.cpp writes it. Raises UsageError for an unknown one, or a model that is quantized."""
    name = _ALIASES.get(kind.upper(), kind.upper())
    names = type_names()
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
        raise UsageError(f"there is no quantization {kind}", f"did you mean {', '.join(near)}?" if near else "")
    if model.quantized and not requantize:
        raise UsageError(
            f"{model.path} is quantized already ({model.quantization}); doing so twice costs quality",
            "take the F16 or BF16 model, or add --requantize",
        )
    return name


def expected_size(model: Model, kind: str) -> int:
    """Bytes of the quantized file, rounded up."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, bits = 32, 16.0
    parts = _MOSTLY.get(kind, kind).split("_")
    while parts and "_".join(parts) not in GGMLQuantizationType.__members__:
        parts.pop()
    if parts:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType["_".join(parts)]]
        bits = 8 * size / block
    total = model.whole.header.data_start
    for tensor in model.whole.header.tensors:
        if len(tensor.shape) == 1:
            total += 4 * elements(tensor)
        elif tensor.shape[0] % block or tensor.name in (EMBEDDING, OUTPUT):
            total += math.ceil(elements(tensor) * max(bits, _FALLBACK_BITS) / 8)
        else:
            total += math.ceil(elements(tensor) * bits * _MORE_BITS / 8)
    return total


@contextmanager
def quantized(
    model: Model, kind: str, imatrix: Path | None, beside: Path, base: Bundle, engine: Path | None, progress: Progress
) -> Iterator[Model]:
    """The model quantized to `kind`, in a file beside the output `beside` that goes when the block ends.

    `imatrix`: a checked importance matrix. `engine`: the folder with llama.cpp's libraries; None takes them out of
    `base`. `progress` counts the model's bytes. Raises QwenfileError."""
    size = expected_size(model, kind)
    check_room(beside.parent, 2 * size + base.size)  # the file and the bundle made of it
    part = beside.with_name(f".{beside.name}.{os.getpid()}.quantized.gguf")
    try:
        with tempfile.TemporaryDirectory(prefix="qwenfile-engine-") as folder:
            if engine is None:
                engine = Path(folder)
                for member in base.manifest.prefixed(ENGINE_PREFIX):
                    base.extract(member, engine / Path(member.name).name)
            _run(model, kind, imatrix, part, engine, progress)
        yield load(part, any_architecture=model.foreign)
    finally:
        part.unlink(missing_ok=True)


def _run(model: Model, kind: str, imatrix: Path | None, to: Path, engine: Path, progress: Progress) -> None:
    sizes = dict(zip((tensor.name for tensor in model.whole.header.tensors), model.whole.sizes, strict=True))
    command = [sys.executable, "-m", "bundler.quantize_worker", str(model.path.absolute()), str(to.absolute())]
    command += [str(type_names()[kind]), "1" if model.quantized else "0"]
    command += [str(imatrix.absolute())] if imatrix else []
    with subprocess.Popen(
        command,
        env=_environment(engine),
        cwd=SOURCES,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stderr is not None
            for line in worker.stdout:
                progress(sizes.get(line.strip(), 0))
            reason = worker.stderr.read().strip().splitlines()
            code = worker.wait()
        except BaseException:
            worker.kill()
            raise
    if code:
        if code == _NO_BINDING:
            raise QwenfileError("quantizing needs llama-cpp-python", "run: python build_scripts/environment.py")
        why = reason[-1] if reason else f"exit code {code}"
        if "requires an imatrix" in why:
            raise QwenfileError(f"{kind} needs an importance matrix", "add --imatrix FILE, or choose another type")
        raise QwenfileError(f"cannot quantize {model.path} to {kind}: {why}", "choose another type")


def _environment(engine: Path) -> Mapping[str, str]:
    """The process's own, with the engine's libraries instead of any that llama-cpp-python may have brought."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_", "GGML_"))}
    return {**kept, "LLAMA_CPP_LIB_PATH": str(engine)}
