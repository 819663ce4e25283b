"""The Python that gets frozen into a launcher: the one that runs this, or one made for another or an older system.

build_scripts/build_python.py makes the latter, in the build cache at python/<target>-<key>/, with a python.json:

    {"version": "3.11.2", "command": ["bin/python3.11"], "library_path": "lib"}       a Python that runs here
    {"version": "3.11.2", "host": "linux-x86_64-<key>"}                               one that does not
    {"version": "3.11.9", "wine": "python/python.exe"}         one for Windows, with PyInstaller in packages/

The second holds binaries alone, as the first has them: lib/ (shared libraries), lib-dynload/ (extension modules),
bootloader/run (PyInstaller's), tools/ (objcopy and strip for them). PyInstaller runs on the first, and takes these in
place of that one's own. All hold licenses/.
"""

import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runtime.errors import QwenfileError
from runtime.paths import host_target


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """`command` runs it here, with `env` added; `foreign`: the folder of binaries to take in place of its own;
    `drive`: where it sees this system's files, if not in their places."""

    version: str
    command: tuple[str, ...]
    licenses: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    foreign: Path | None = None
    drive: str = ""

    def sees(self, path: Path) -> str:
        """What a file of this system is called there."""
        return f"{self.drive}{path}"

    def license_text(self, name: str) -> bytes | None:
        """The licence `name`.txt that came with it."""
        file = self.licenses / f"{name}.txt" if self.licenses else None
        return file.read_bytes() if file and file.is_file() else None


def this_python() -> Interpreter:
    """The Python that runs this."""
    return Interpreter(version=platform.python_version(), command=(sys.executable,))


def interpreter(cache: Path, target: str, folder: Path | None) -> Interpreter:
    """The Python in `folder`; without one, this Python or the newest made for `target`. Raises QwenfileError."""
    if folder is None and target == host_target():
        return this_python()
    script = "build_windows_python.py" if target == "windows-x86_64" else f"build_python.py --target {target}"
    remedy = f"run 'python build_scripts/{script}', or name --python"
    if target in ("windows-arm64", "macos-arm64", "macos-x86_64"):  # no script makes one, and nothing here would run it
        remedy = "build the base on such a system, with its own Python (build_scripts/release.py)"
    if folder is None:
        try:
            folder = cache / "python" / (cache / "python" / f"{target}.current").read_text().strip()
        except OSError:
            raise QwenfileError(f"there is no Python to freeze for {target}", remedy) from None
    try:
        facts = json.loads((folder / "python.json").read_text())
        version = str(facts["version"])
        if "wine" in facts:
            return _under_wine(cache, folder, version, str(facts["wine"]))
        if "host" not in facts:
            return _runnable(folder, version, facts)
        host = folder.parent / str(facts["host"])
        host_facts = json.loads((host / "python.json").read_text())
        if host_facts["version"] != version:
            raise ValueError(f"{host.name} is {host_facts['version']}, this {version}")
        base = _runnable(host, version, host_facts)
    except (OSError, ValueError, KeyError) as error:
        raise QwenfileError(f"{folder} holds no Python to freeze ({error})", remedy) from None
    path = {"PATH": f"{folder / 'tools'}:/usr/local/bin:/usr/bin:/bin"}
    return Interpreter(
        version=f"{version} {folder.name}",
        command=base.command,
        licenses=folder / "licenses",
        env={**base.env, **path},
        foreign=folder,
    )


def _runnable(folder: Path, version: str, facts: Mapping[str, Any]) -> Interpreter:
    program, *arguments = facts["command"]
    packages = sysconfig.get_path("purelib")  # PyInstaller and what it freezes are Python alone, but for its bootloader
    return Interpreter(
        version=f"{version} {folder.name}",
        command=(str(folder / program), *arguments),
        licenses=folder / "licenses",
        env={"PYTHONPATH": packages, "LD_LIBRARY_PATH": str(folder / str(facts["library_path"]))},
    )


@functools.cache
def wine() -> tuple[str, ...]:
    """What is put before a program for Windows to run it here; empty where there is no wine.

    wine's own program lies at 0x7d000000, and the kernel puts its heap anywhere in the gigabyte behind. Once in some
    thousand starts that covers 0x7ffe0000, where Windows programs expect facts of the system, and wine ends: so the
    addresses are not left to chance where that is allowed (in Docker it is not).
    """
    program = shutil.which("wine64", path=f"{os.environ.get('PATH', '')}:/usr/lib/wine")
    if program is None:
        return ()
    setarch = shutil.which("setarch")
    steady = (setarch, "--addr-no-randomize") if setarch else ()
    if steady and subprocess.run([*steady, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        steady = ()
    return (*steady, program)


def _under_wine(cache: Path, folder: Path, version: str, program: str) -> Interpreter:
    if not wine():
        raise QwenfileError("there is no wine, which runs the Python for Windows", "apt install wine64")
    python = Interpreter(version=f"{version} {folder.name}", command=(*wine(), str(folder / program)), drive="Z:")
    packages = (folder / "packages", Path(sysconfig.get_path("purelib")))  # from the latter what is Python alone
    return replace(
        python,
        licenses=folder / "licenses",
        env={
            "PYTHONPATH": ";".join(map(python.sees, packages)),
            "WINEPREFIX": str(cache / "wine"),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=",
        },
    )
