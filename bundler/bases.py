"""Find the base for a target: the file that `--base` names, a release folder after `--bases`, or the build cache.

A release folder holds `TARGET.base` or `TARGET-*.base`, and perhaps `SHA256SUMS` in the format of sha256sum. Every
byte of a base is checked before anything is built on it, but for the one out of this machine's cache for this machine:
a bundle on it is tried out.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler import verify
from bundler.base import BUILD_HINT, made_by_demo, pointed, recipe, variant
from bundler.platforms import platform_of
from runtime.bundle import Bundle
from runtime.errors import ModelError, UsageError
from runtime.paths import host_target
from runtime.version import VERSION

CUDA_HINT = "build_scripts/build_native.py --backend cuda, then 'qwenfile base build --backend cuda' make one"
SUMS = "SHA256SUMS"


def find(
    cache: Path, target: str, path: Path | None = None, folder: Path | None = None, backend: str | None = None
) -> Bundle:
    """The base for `target`: the file `path`, the one in `folder`, or the newest in the cache. `backend` cuda: the
    one with CUDA.

    Raises UsageError if there is none or it is for another target, ModelError if it is damaged."""
    platform_of(target)
    if path is not None:
        return checked(path, target)
    if folder is not None:
        found = _in_folder(folder, variant(target, backend))
        _check_sum(found)
        return checked(found, target)
    found_in_cache = pointed(cache / "bases", variant(target, backend))
    if found_in_cache is None and backend == "cuda":
        raise UsageError(f"there is no base with CUDA for {target}", CUDA_HINT)
    if found_in_cache is None:
        remedy = BUILD_HINT if made_by_demo(target) else _remedy(target)
        raise UsageError(f"there is no base for {target} in {cache / 'bases'}", remedy)
    cuda = " --backend cuda" if backend == "cuda" else ""
    with _mended_by(f"make it again: 'qwenfile base build --target {target}{cuda} --force'"):
        base = _base(found_in_cache, target)
        if target != host_target():
            verify.verify_bytes(base, lambda count: None)
    return base


def checked(path: Path, target: str | None) -> Bundle:
    """The base in `path`, if every byte is as it was built; None: for any target. Raises UsageError, ModelError."""
    named = f"{target}.base" if target else "one"
    with _mended_by(f"take {named} of qwenfile {VERSION}'s release, and copy it whole"):
        base = _base(path, target)
        verify.verify_bytes(base, lambda count: None)
    return base


def known(cache: Path) -> tuple[list[Bundle], list[ModelError]]:
    """Every base in the cache, and what is wrong with those that cannot be read."""
    found, wrong = [], []
    for path in sorted((cache / "bases").glob("*.base")):
        try:
            with _mended_by("delete it"):
                found.append(Bundle.open(path))
        except ModelError as error:
            wrong.append(error)
    return found, wrong


@contextmanager
def _mended_by(remedy: str) -> Iterator[None]:
    """What is wrong with the file itself is told with `remedy`: a base is got in other ways than a bundle."""
    try:
        yield
    except ModelError as error:
        raise ModelError(error.message, remedy) from None


def _base(path: Path, target: str | None) -> Bundle:
    base = Bundle.open(path)
    if base.manifest.model or base.manifest.external:
        raise UsageError(f"{path} is a bundle with a model, not a base", "name a .base file")
    if target is not None and base.manifest.target != target:
        raise UsageError(f"{path} is a base for {base.manifest.target}, not for {target}", _remedy(target))
    return base


def _in_folder(folder: Path, target: str) -> Path:
    if not folder.is_dir():
        file = f", or this file with --base {folder}" if folder.is_file() else ""
        raise UsageError(f"there is no folder {folder}", f"name the folder of a release's bases with --bases{file}")
    exact = folder / f"{target}.base"
    cuda = variant(target.removesuffix("-cuda"), "cuda")  # another base's name, though it begins with this one's
    found = [exact] if exact.is_file() else sorted(folder.glob(f"{target}-*.base"))
    found = [path for path in found if target == cuda or not path.name.startswith(cuda)]
    if not found:
        raise UsageError(f"{folder} holds no base for {target}", CUDA_HINT if target == cuda else _remedy(target))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UsageError(f"{folder} holds several bases for {target}: {names}", "name one with --base")
    return found[0]


def _check_sum(path: Path) -> None:
    """Compare a base with the line of the SHA256SUMS beside it, if there is that file."""
    sums = path.with_name(SUMS)
    if not sums.is_file():
        return
    expected = {}
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition(" ")
        expected[name.strip().removeprefix("*").removeprefix("./")] = digest.lower()
    if path.name not in expected:
        raise ModelError(f"{sums} does not name {path.name}", "download both from the same release")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected[path.name]:
        raise ModelError(f"{path} has SHA-256 {found}; {SUMS} says {expected[path.name]}", "download it again")


def gpu_backend(base: Bundle) -> str:
    """The GPU backend that a base or bundle carries: vulkan, cuda, metal; "" for none."""
    return str((base.manifest.engine.get("gpu") or {}).get("backend", ""))


def _remedy(target: str) -> str:
    return f"download {target}.base from a release, or {recipe(target)}; then name its folder with --bases"
