"""Find the base for a target: the file that `--base` names, a release folder after `--bases`, or the build cache.

A release folder holds `TARGET.base` or `TARGET-*.base`, and perhaps `SHA256SUMS` in the format of sha256sum. What did
not come out of this machine's cache is checked to the last byte before anything is built on it.
"""

import hashlib
from pathlib import Path

from bundler import verify
from bundler.base import BUILD_HINT, pointed, variant
from bundler.platforms import platform_of
from runtime.bundle import Bundle
from runtime.errors import ModelError, UsageError
from runtime.paths import host_target

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
        raise UsageError(f"there is no base for {target} in {cache / 'bases'}", _remedy(target))
    return _base(found_in_cache, target)


def checked(path: Path, target: str | None) -> Bundle:
    """The base in `path`, if every byte is as it was built; None: for any target. Raises UsageError, ModelError."""
    base = _base(path, target)
    verify.verify_bytes(base, lambda count: None)
    return base


def known(cache: Path) -> list[Bundle]:
    """Every readable base in the cache."""
    return [Bundle.open(path) for path in sorted((cache / "bases").glob("*.base"))]


def _base(path: Path, target: str | None) -> Bundle:
    base = Bundle.open(path)
    if base.manifest.model or base.manifest.external:
        raise UsageError(f"{path} is a bundle with a model, not a base", "name a .base file")
    if target is not None and base.manifest.target != target:
        raise UsageError(f"{path} is a base for {base.manifest.target}, not for {target}", _remedy(target))
    return base


def _in_folder(folder: Path, target: str) -> Path:
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", "name the folder of a release's bases with --bases")
    exact = folder / f"{target}.base"
    cuda = variant(target, "cuda")  # another base's name, though it begins with this one's
    found = [exact] if exact.is_file() else sorted(folder.glob(f"{target}-*.base"))
    found = [path for path in found if not path.name.startswith(cuda)]
    if not found:
        raise UsageError(f"{folder} holds no base for {target}", _remedy(target))
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
    if target == host_target():
        return BUILD_HINT
    return f"download {target}.base from a release and name its folder with --bases, or build it on such a system"
