"""Little bases and orders for tests of bundles as files. No program is run."""

from pathlib import Path

from bundler import assemble, model, writer
from runtime.bundle import LAUNCHER, Bundle, Header, Manifest
from tests.unit.gguf_files import TinyGGUF

STUB_HEADER_AT = 1024
GPU = {"backend": "vulkan", "libraries": ["libggml-vulkan.so"], "licenses": ["vulkan-headers"]}


def ignore(count: int) -> None:
    """Progress that nobody watches."""


def make_base(
    path: Path, launcher: bytes = b"launcher one", target: str = "linux-x86_64", *, gpu: bool = False
) -> Bundle:
    stub = bytes(range(256)) * 4 + Header(position=STUB_HEADER_AT).pack() + b"code" * 100
    with writer.create(path, force=True) as out:
        stub_size, stub_sha256 = out.add_stub(stub, target)
        out.add(LAUNCHER, launcher * 50)
        out.add("engine/libengine.so", b"engine" * 1000, compress=True)
        if gpu:
            out.add("engine/libggml-vulkan.so", b"shaders" * 9999, compress=True)
            out.add("licenses/engine-vulkan-headers.txt", b"free", compress=True)
        out.add("licenses/x.txt", b"free", compress=True)
        out.finish(
            Manifest(
                target=target,
                qwenfile="0",
                engine={"llama_cpp": "x", "gpu": GPU if gpu else None},
                name="qwenfile",
                stub_size=stub_size,
                stub_sha256=stub_sha256,
            )
        )
    return Bundle.open(path)


def order(folder: Path, **changes: object) -> assemble.Order:
    gguf = folder / "tiny.gguf"
    gguf.write_bytes(TinyGGUF().data())
    fields = {
        "model": model.load(gguf),
        "base": make_base(folder / "x.base"),
        "out": folder / "tiny.run",
        "name": "Tiny",
        "args": "--temp 0.5 ...",
    }
    return assemble.Order(**{**fields, **changes})  # type: ignore[arg-type]
