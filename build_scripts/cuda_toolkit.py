"""CUDA for build_native.py --backend cuda: NVIDIA's compiler from this machine, cuBLAS from it or from PyPI's wheel.

Only build scripts may import it. The libraries that the backend is linked to travel with it: whoever runs the bundle
has NVIDIA's driver and nothing else.
"""

import hashlib
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

from gpu_backends import OFF, Gpu
from steps import StepError, Steps, locked, remove_folder, replace_folder
from toolchains import version_of

_REMEDY = "install NVIDIA's CUDA toolkit (developer.nvidia.com/cuda-downloads) and put nvcc into PATH"
# Release of CUDA -> version of PyPI's nvidia-cublas, its file and SHA-256
_CUBLAS = {
    "13": (
        "13.0.2.14",
        "nvidia_cublas-13.0.2.14-py3-none-manylinux_2_27_x86_64.whl",
        "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c",
    ),
}


def cuda(cache: Path, architectures: str) -> Gpu:
    """The CUDA backend for `architectures` (";" between them; llama.cpp's own list if empty). Raises StepError."""
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        raise StepError(f"CUDA needs nvcc, which is not on this machine; {_REMEDY}")
    toolkit, libraries = _toolkit(nvcc)
    found = re.search(r"\bV(\d+)\.(\d+)\.", _version(nvcc))
    if found is None:
        raise StepError(f"{nvcc} does not tell its version; {_REMEDY}")
    options = OFF | {
        "GGML_CUDA": "ON",
        "GGML_CUDA_NCCL": "OFF",  # it would have to be carried, too
        "GGML_CUDA_NO_VMM": "ON",  # else it is linked to the driver, and does not load where there is none
        "CMAKE_CUDA_COMPILER": nvcc,
    }
    if architectures:
        options["CMAKE_CUDA_ARCHITECTURES"] = architectures
    cublas, inputs = libraries, [_version(nvcc)]
    if not (toolkit / "include" / "cublas_v2.h").is_file():
        wheel, version = _cublas(cache, found[1])
        cublas = wheel / "lib"
        options |= {
            "CMAKE_CUDA_FLAGS": f"-I{wheel / 'include'}",
            "CUDA_cublas_LIBRARY": str(_library(cublas, "cublas")),
            "CUDA_cublasLt_LIBRARY": str(_library(cublas, "cublasLt")),
        }
        inputs.append(f"nvidia-cublas {version}")
    licenses = [path for path in (toolkit / "EULA.txt", cublas.parent / "License.txt") if path.is_file()]
    return Gpu(
        name="cuda",
        options=options,
        inputs=tuple(inputs),
        carried=(_library(libraries, "cudart"), _library(cublas, "cublas"), _library(cublas, "cublasLt")),
        licenses={"cuda": licenses[0]} if licenses else {},
    )


def _version(nvcc: str) -> str:
    """The line of `nvcc --version` that names it; the first one is about the copyright."""
    import subprocess

    text = subprocess.run([nvcc, "--version"], capture_output=True, encoding="utf-8", check=False).stdout
    return next((line.strip() for line in text.splitlines() if "release" in line), version_of(nvcc))


def _toolkit(nvcc: str) -> tuple[Path, Path]:
    """The toolkit's folder and that of its libraries: around nvcc, unless that is a script which calls another."""
    named = [Path(os.environ[name]) for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    for toolkit in (*named, Path(nvcc).resolve().parent.parent, Path("/usr/local/cuda"), Path("/usr")):
        for part in ("lib64", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu"):
            if list((toolkit / part).glob("libcudart.so.*")):
                return toolkit, toolkit / part
    raise StepError(f"there is no libcudart around {nvcc}; {_REMEDY}")


def _library(folder: Path, name: str) -> Path:
    """The file by the name that programs ask for at run time, libNAME.so.MAJOR."""
    found = sorted(folder.glob(f"lib{name}.so.[0-9]*"), key=lambda path: len(path.name))
    if not found:
        raise StepError(f"there is no lib{name}.so in {folder}; {_REMEDY}")
    return found[0]


def _cublas(cache: Path, release: str) -> tuple[Path, str]:
    """The unpacked wheel for a release of CUDA, and its version."""
    if release not in _CUBLAS:
        raise StepError(f"this CUDA {release} has no cuBLAS, and only that of CUDA {', '.join(_CUBLAS)} is known here")
    version, file, sha256 = _CUBLAS[release]
    folder = cache / f"cublas-{version}"
    steps = Steps(cache / "logs" / f"cublas-{os.getpid()}.log")
    with locked(cache / "downloads" / "lock"):
        if not folder.is_dir():
            wheel = cache / "downloads" / file
            if not wheel.is_file():
                steps.say(f"downloading nvidia-cublas {version}")
                pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
                steps.run("the download", [*pip, "-d", wheel.parent, f"nvidia-cublas=={version}"], cache, os.environ)
            with wheel.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            if digest != sha256:
                wheel.unlink()
                raise StepError(f"{file} has SHA-256 {digest}, expected {sha256}: removed; try again")
            _unpack(wheel, folder)
    steps.log.unlink(missing_ok=True)
    return folder, version


def _unpack(wheel: Path, folder: Path) -> None:
    """Headers and libraries of the wheel, as include/ and lib/."""
    work = folder.with_name(f"{folder.name}.work-{os.getpid()}")
    remove_folder(work)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work)
    (include,) = work.glob("nvidia/*/include")
    for license_file in work.glob("*.dist-info/**/License.txt"):
        license_file.rename(include.parent / "License.txt")
    replace_folder(include.parent, folder)
    remove_folder(work)
