"""Build the Python that is frozen into launchers for Linux, against an older system's libraries (sysroot.py).

    python build_scripts/build_python.py [--target linux-x86_64] [--force]

CPython comes from Debian's source package, with the fixes of Debian's security team. The result lies in the build cache
at python/<target>-<key>/; bundler/interpreter.py says what is in it. One for another machine cannot run here: it is
binaries alone, and needs the one for this machine, which is built first.
"""

import argparse
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

from debian import Debian, check  # noqa: E402
from runtime.errors import QwenfileError  # noqa: E402
from runtime.paths import build_cache, host_target  # noqa: E402
from steps import StepError, Steps, locked, remove_folder, replace_folder, write_text  # noqa: E402
from sysroot import PACKAGES, Sysroot  # noqa: E402
from toolchains import Toolchain, find, toolchain  # noqa: E402

PACKAGE, VERSION = "python3.11", "3.11"
LIBRARIES = {"libz.so.1": "zlib1g", "libffi.so.7": "libffi7"}  # what its modules are linked to, and Debian's package
# What a launcher never imports, nor PyInstaller for it
LEFT_OUT = ("test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "__pycache__")
# PyInstaller's bootloader for machines other than this one: its wheel's platform and SHA-256, the folder inside
PYINSTALLER = "6.22.3"
BOOTLOADERS = {
    "linux-aarch64": (
        "manylinux2014_aarch64",
        "312da84b4b31ab9750066a823734c11b7c68757fdd67c9f038bf19c330a954e4",
        "Linux-64bit-arm",
    )
}
# Lines of CPython's setup.py, and what takes their place
ADAPTED = {
    "        self.add_multiarch_paths()\n": "",  # Debian's folders of this machine, whatever is compiled for
    "Extension('pyexpat', sources=['pyexpat.c'])": (  # Debian's fixes use internal headers there
        "Extension('pyexpat', sources=['pyexpat.c'], extra_compile_args=['-DPy_BUILD_CORE_MODULE'])"
    ),
}
# What configure cannot try out when it builds for another machine
CROSS_ANSWERS = {"ac_cv_file__dev_ptmx": "yes", "ac_cv_file__dev_ptc": "no", "ac_cv_buggy_getaddrinfo": "no"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One Python to build. `host`: the folder of the one that runs here, for one that doesn't."""

    cache: Path
    tools: Toolchain
    sysroot: Sysroot
    host: Path | None

    @functools.cached_property
    def key(self) -> str:
        inputs = (
            Path(__file__).read_text(encoding="utf-8"),
            self.sysroot.path.name,
            dict(self.tools.compilers),
            self.host.name if self.host else "",
        )
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        return self.cache / "python" / f"{self.tools.target}-{self.key}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the Python for launchers and print its folder.")
    parser.add_argument("--target", choices=sorted(PACKAGES), default="linux-x86_64")
    parser.add_argument("--force", action="store_true", help="build it again")
    options = parser.parse_args(argv)
    try:
        cache = build_cache(os.environ)
        steps = Steps(cache / "logs" / f"python-{os.getpid()}.log", name="python")
        print(build_python(options.target, cache, steps, force=options.force))
    except (StepError, QwenfileError) as error:
        print(f"python: {error}", file=sys.stderr)
        return 1
    return 0


def build_python(target: str, cache: Path, steps: Steps, *, force: bool = False) -> Path:
    """The folder of the Python for `target`, built unless it is there. Raises StepError."""
    host = None if target == host_target() else build_python(host_target(), cache, steps)
    tools = toolchain(target, portable=True)
    if tools.sysroot is None:
        raise StepError(f"there is no older system to build a Python for {target} with")
    plan = Plan(cache=cache, tools=tools, sysroot=tools.sysroot, host=host)
    with locked(cache / "python" / "lock"):
        if force or not (plan.folder / "python.json").is_file():
            _build(plan, steps)
        write_text(cache / "python" / f"{target}.current", plan.folder.name + "\n")
    return plan.folder


def _build(plan: Plan, steps: Steps) -> None:
    plan.sysroot.make(steps)
    tree = plan.cache / "native" / f"python-{plan.tools.target}"
    remove_folder(tree)
    tree.parent.mkdir(parents=True, exist_ok=True)
    version = Debian(folder=plan.cache / "downloads" / "debian", steps=steps).source(PACKAGE, tree)
    _adapt(tree / "setup.py")
    env = _environment(plan)
    steps.say(f"building CPython {version} for {plan.tools.target}; the compiler's output goes to {steps.log}")
    options = ["--prefix=/usr", "--enable-shared", "--without-ensurepip", "--disable-test-modules"]
    if plan.host:
        options += ["--build", _machine("gcc"), "--host", plan.sysroot.triple, "--enable-ipv6"]
        options += [f"--with-build-python={plan.host / 'bin' / PACKAGE}"]
        options += [f"{name}={value}" for name, value in CROSS_ANSWERS.items()]
    steps.run("configuring CPython", ["./configure", *options], tree, env)
    steps.run("compiling CPython", [find("make", "make"), f"-j{os.cpu_count() or 1}", "all"], tree, env)
    work = plan.folder.with_name(f"{plan.folder.name}.work-{os.getpid()}")
    remove_folder(work)
    try:
        _collect(plan, steps, tree, work)
        facts = {"version": version} | ({"host": plan.host.name} if plan.host else _runnable())
        write_text(work / "python.json", json.dumps(facts) + "\n")
        replace_folder(work, plan.folder)
    finally:
        remove_folder(work)
    steps.say(f"done: {plan.folder.name}")


def _adapt(setup: Path) -> None:
    """Build modules as Debian does not: with no other headers than the older system's, and pyexpat as a library."""
    text = setup.read_text(encoding="utf-8")
    for old, new in ADAPTED.items():
        if text.count(old) != 1:
            raise StepError(f"{setup.name} of CPython has changed; bring build_python.py up to date")
        text = text.replace(old, new)
    write_text(setup, text)


def _runnable() -> Mapping[str, object]:
    return {"command": [f"bin/{PACKAGE}"], "library_path": "lib"}


def _environment(plan: Plan) -> dict[str, str]:
    cc, cxx = plan.tools.compilers
    cached = f"{ccache} " if (ccache := shutil.which("ccache")) else ""
    return {
        **os.environ,
        "CC": f"{cached}{cc} {' '.join(plan.sysroot.compile_flags(cc, 'c'))}",
        "CXX": f"{cached}{cxx} {' '.join(plan.sysroot.compile_flags(cxx, 'c++'))}",
        "LDFLAGS": " ".join(plan.sysroot.link_flags),
        "PKG_CONFIG_LIBDIR": os.devnull,  # it knows this machine; the compiler finds all that is needed
        "OPT": "-DNDEBUG -O3",  # without debug information
        "SOURCE_DATE_EPOCH": "315532800",  # the time of day must not reach the bytes
        # Also said of this machine itself: else setup.py adds its headers and libraries to those of the older system.
        "_PYTHON_HOST_PLATFORM": plan.tools.target,
        **({"LD_LIBRARY_PATH": str(plan.host / "lib")} if plan.host else {}),
    }


def _machine(compiler: str) -> str:
    return subprocess.run(
        [find(compiler, compiler), "-dumpmachine"], capture_output=True, encoding="utf-8", check=True
    ).stdout.strip()


def _collect(plan: Plan, steps: Steps, tree: Path, work: Path) -> None:
    modules = tree / (tree / "pybuilddir.txt").read_text(encoding="utf-8").strip()
    lib, licenses = work / "lib", work / "licenses"
    lib.mkdir(parents=True)
    licenses.mkdir()
    for name in (f"libpython{VERSION}.so.1.0", *LIBRARIES):
        found = (folder / name for folder in (tree, *_library_folders(plan)) if (folder / name).exists())
        shutil.copyfile(next(found), lib / name)
    shutil.copyfile(tree / "LICENSE", licenses / "python.txt")
    for name, package in LIBRARIES.items():
        text = plan.sysroot.path / "usr/share/doc" / package / "copyright"
        shutil.copyfile(text, licenses / f"{name.split('.')[0]}.txt")
    if plan.host:
        shutil.copytree(modules, work / "lib-dynload", ignore=lambda _, names: [n for n in names if n[-3:] != ".so"])
        _bootloader(plan, steps, work / "bootloader")
        _tools(plan, work / "tools")
        missing = {path.name.split(".")[0] for path in (plan.host / f"lib/python{VERSION}/lib-dynload").iterdir()} - {
            path.name.split(".")[0] for path in (work / "lib-dynload").iterdir()
        }
        if missing:
            raise StepError(f"the Python for {plan.tools.target} lacks the modules {', '.join(sorted(missing))}")
        return
    (work / "bin").mkdir()
    shutil.copy(tree / "python", work / "bin" / PACKAGE)
    shutil.copytree(tree / "Lib", lib / f"python{VERSION}", ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copytree(modules, lib / f"python{VERSION}" / "lib-dynload", ignore=shutil.ignore_patterns(*LEFT_OUT, "*.py"))
    for data in modules.glob("_sysconfigdata*.py"):
        shutil.copy(data, lib / f"python{VERSION}" / data.name)
    check_modules = "import _ctypes, _json, _posixsubprocess, _socket, fcntl, pyexpat, select, termios, zlib"
    env = {**os.environ, "LD_LIBRARY_PATH": str(lib)}
    steps.run("the finished Python", [work / "bin" / PACKAGE, "-I", "-c", check_modules], work, env)


def _library_folders(plan: Plan) -> tuple[Path, ...]:
    root, triple = plan.sysroot.path, plan.sysroot.triple
    return (root / "lib" / triple, root / "usr/lib" / triple)


def _bootloader(plan: Plan, steps: Steps, folder: Path) -> None:
    """PyInstaller's bootloader of the target, from the wheel of the very version that is installed here."""
    platform, sha256, inside = BOOTLOADERS[plan.tools.target]
    installed = importlib.metadata.version("pyinstaller")
    if installed != PYINSTALLER:
        raise StepError(f"PyInstaller {installed} is installed; bring PYINSTALLER and BOOTLOADERS up to date")
    downloads = plan.cache / "downloads"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--platform", platform]
    steps.run("the download", [*pip, "-d", downloads, f"pyinstaller=={PYINSTALLER}"], downloads, os.environ)
    wheel = next(downloads.glob(f"pyinstaller-{PYINSTALLER}-*{platform}.whl"))
    check(wheel, sha256)
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        (folder / "run").write_bytes(archive.read(f"PyInstaller/bootloader/{inside}/run"))
    (folder / "run").chmod(0o755)


def _tools(plan: Plan, folder: Path) -> None:
    """objcopy and strip for the target's files under the names by which PyInstaller calls them."""
    folder.mkdir()
    for name in ("objcopy", "strip"):
        package = f"binutils-{plan.sysroot.triple}"
        (folder / name).symlink_to(find(f"{plan.sysroot.triple}-{name}", package))


if __name__ == "__main__":
    raise SystemExit(main())
