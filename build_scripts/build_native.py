"""Build the engine: llama.cpp with our C ABI, as a folder of libraries in the build cache.

    python build_scripts/build_native.py [--target T] [--portable] [--backend B] [--fast] [--bare] [--no-webui]
                                         [--force]

Runs inside the project's virtual environment (cmake, ninja and node come from wheels) and needs a C and a C++
compiler; what each target needs is in toolchains.py. The last line on standard output is the engine's folder; its name
holds a key of every input, so a second run with nothing changed only looks. In the build cache:

    downloads/ source-*/ webui-*/      llama_source.py, build_webui.py
    native/<target>/                   where the compiler works
    logs/                              what compilers and npm said
    engine/<target>.current            name of the newest engine; --portable: engine/<target>-portable.current
    engine/<target>-<key>/lib/         libengine, llama.cpp, one CPU library per variant, flags.json
    engine/<target>-<key>/licenses/
    engine/<target>-<key>/engine.json  what it was made of; "release": false for --fast and --no-webui
    engine/<target>-<key>/bare/        unmodified llama-server, llama-completion, llama-bench (--bare)
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

import gpu_backends  # noqa: E402
from build_webui import build_webui, webui_key  # noqa: E402
from llama_source import LLAMA_COMMIT, PACKAGE_VERSION, SDIST_SHA256, source  # noqa: E402
from runtime.errors import QwenfileError  # noqa: E402
from runtime.paths import build_cache, host_target  # noqa: E402
from steps import StepError, Steps, locked, remove_folder, replace_folder, write_text  # noqa: E402
from toolchains import Toolchain, toolchain  # noqa: E402

NATIVE = ROOT / "runtime" / "native"

OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",  # one plain name per library, no links to carry
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "GGML_OPENMP": "OFF",
    "GGML_RPC": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",  # built by build_webui.py, embedded from the build folder
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_IS_DEV": "OFF",
    "LLAMA_BUILD_NUMBER": "0",
    "LLAMA_BUILD_COMMIT": LLAMA_COMMIT,
    "GIT_EXE": "",  # else ggml marks its version with the state of whatever repository is around
}
BARE_TARGETS = ("llama-server", "llama-completion", "llama-bench")
ENGINE_LIBRARIES = ("engine", "llama-server-impl", "llama-common", "llama", "mtmd", "ggml", "ggml-base")
WINDOWS_LIBRARIES = ("engine", "ggml-base")  # the others are in the first (CMakeLists.txt)
LICENSE_FILES = {
    "llama.cpp": "LICENSE",
    "cpp-httplib": "vendor/cpp-httplib/LICENSE",
    "nlohmann-json": "licenses/LICENSE-jsonhpp",
    "rotate-bits": "vendor/hash/rotate-bits/LICENSE.md",
    "sha256": "vendor/hash/sha256/LICENSE",
    "xxhash": "vendor/hash/xxhash/LICENSE",
}
_PAGE_NAME = '<script src="./page-name.js"></script>\n'  # runtime/native/http.cpp answers it with the model's name
LICENSE_COMMENTS = {  # the header that carries its licence in a comment, and a word of that comment
    "miniaudio": ("vendor/miniaudio/miniaudio.h", "ALTERNATIVE 1"),
    "stb_image": ("vendor/stb/stb_image.h", "ALTERNATIVE A"),
    "subprocess.h": ("vendor/sheredom/subprocess.h", "free and unencumbered software"),
    "sha1": ("vendor/hash/sha1/sha1.h", "Public Domain"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is built from what. `fast` and a missing web UI make an engine for development only."""

    cache: Path
    tools: Toolchain
    gpu: gpu_backends.Gpu
    fast: bool
    webui: bool

    @property
    def target(self) -> str:
        return self.tools.target

    @property
    def variant(self) -> str:
        """The target, and whether it is for older systems than this one."""
        return self.target + ("-portable" if self.tools.native and self.tools.sysroot else "")

    @property
    def options(self) -> dict[str, str]:
        fast = {"GGML_CPU_ALL_VARIANTS": "OFF"} if self.fast else {}
        return OPTIONS | fast | dict(self.tools.options) | dict(self.gpu.options)

    @property
    def bare_options(self) -> dict[str, str]:
        """What tests and benchmarks need of a GPU backend is the engine's own library."""
        return self.options | gpu_backends.OFF | {"GGML_CPU": "OFF", "GGML_CPU_ALL_VARIANTS": "OFF"}

    def _keyed(self, options: dict[str, str]) -> dict[str, str]:
        """Options without the place of the cache, which does not reach the result."""
        return {name: value.replace(str(self.cache), "CACHE") for name, value in options.items()}

    @functools.cached_property
    def key(self) -> str:
        """16 hex digits over every input of the engine."""
        inputs = {
            "source": SDIST_SHA256,
            "target": self.target,
            "options": self._keyed(self.options),
            "compilers": dict(self.tools.compilers),
            "gpu": self.gpu.inputs,
            "webui": webui_key() if self.webui else "",
            "native": {path.name: _sha256(path) for path in _native_sources()},
            "script": _sha256(Path(__file__)),
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]

    @functools.cached_property
    def bare_key(self) -> str:
        inputs = [SDIST_SHA256, self._keyed(self.bare_options), dict(self.tools.compilers), _sha256(Path(__file__))]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def engine(self) -> Path:
        return self.cache / "engine" / f"{self.target}-{self.key}"

    @property
    def tree(self) -> Path:
        """Where the compiler works; kept, so that the next build compiles only what changed."""
        return self.cache / "native" / (self.variant + ("-fast" if self.fast else ""))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the engine and print its folder.")
    parser.add_argument("--target", default=host_target(), metavar="T", help="the system to build for (%(default)s)")
    parser.add_argument("--backend", choices=gpu_backends.BACKENDS, help="default: vulkan where it can be built")
    parser.add_argument("--cuda-arch", default="", metavar="A;B", help="CUDA architectures, as CMake names them")
    parser.add_argument("--portable", action="store_true", help="for Linux of Debian 11's age too (sysroot.py)")
    parser.add_argument("--fast", action="store_true", help="one CPU variant only; not for release")
    parser.add_argument("--bare", action="store_true", help="also build unmodified llama.cpp programs (benchmark)")
    parser.add_argument("--no-webui", action="store_true", help="leave out the web UI; not for release")
    parser.add_argument("--force", action="store_true", help="compile everything again")
    arguments = parser.parse_args(argv)
    try:
        cache = build_cache(os.environ)
        tools = toolchain(arguments.target, portable=arguments.portable)
        standard = tools.target.startswith("linux-") and not arguments.fast
        gpu = gpu_backends.choose(
            arguments.backend,
            target=tools.target,
            standard=standard,
            cache=cache,
            architectures=arguments.cuda_arch,
        )
        plan = Plan(
            cache=cache,
            tools=tools,
            gpu=gpu,
            fast=arguments.fast,
            webui=not arguments.no_webui,
        )
        steps = Steps(cache / "logs" / f"engine-{os.getpid()}.log")
        if gpu.notice:
            steps.say(gpu.notice)
        with locked(plan.tree.with_name(plan.tree.name + ".lock")):
            _build(plan, steps, force=arguments.force)
        if arguments.bare:
            with locked(cache / "native" / "bare.lock"):
                _build_bare(plan, steps)
        if not steps.log.stat().st_size:
            steps.log.unlink()
    except (StepError, QwenfileError) as error:
        print(f"engine: {error}", file=sys.stderr)
        return 1
    print(plan.engine)
    return 0


def _build(plan: Plan, steps: Steps, *, force: bool) -> None:
    if force:
        remove_folder(plan.tree)
    if force or not (plan.engine / "engine.json").is_file():
        _build_engine(plan, steps)
    else:
        steps.say(f"up to date ({plan.engine.name})")
    pointer = f"{plan.variant}{plan.gpu.suffix}.current"
    write_text(plan.cache / "engine" / pointer, plan.engine.name + "\n")


def _build_engine(plan: Plan, steps: Steps) -> None:
    steps.say(f"building {plan.engine.name}; the compiler's output goes to {steps.log}")
    llama = source(plan.cache, steps)
    tree = plan.tree
    if plan.tools.sysroot:
        plan.tools.sysroot.make(steps)
    _forget_other_inputs(plan, tree)
    _configure(plan, steps, NATIVE, tree, plan.options | {"LLAMA_DIR": str(llama)})
    with concurrent.futures.ThreadPoolExecutor(1) as beside:  # npm waits for the network, compilers for the processor
        webui = beside.submit(build_webui, llama, plan.cache, steps) if plan.webui else None
        steps.say("compiling llama.cpp and its CPU variants" if not plan.fast else "compiling llama.cpp")
        _ninja(plan, steps, tree, ["llama-common", "mtmd"])
        built_webui = webui.result() if webui else None
        _place_webui(built_webui, tree / "llama.cpp" / "tools" / "ui" / "dist")
    steps.say("compiling the server")
    _ninja(plan, steps, tree, ["engine", "print-flags", *plan.gpu.libraries])
    work = plan.engine.with_name(f"{plan.engine.name}.work-{os.getpid()}")
    remove_folder(work)
    try:
        _collect(plan, steps, llama, work)
        if built_webui is not None:
            shutil.copyfile(built_webui / "licenses.txt", work / "licenses" / "webui.txt")
        replace_folder(work, plan.engine)
    finally:
        remove_folder(work)
    size = sum(path.stat().st_size for path in (plan.engine / "lib").iterdir())
    steps.say(f"done: {size / 1e6:.1f} MB in {plan.engine.name}")


def _forget_other_inputs(plan: Plan, tree: Path) -> None:
    """A tree made by another compiler or for another source cannot be continued."""
    marker = tree / "made-with"
    options = [dict(plan.tools.options)] if plan.tools.options else []
    inputs = json.dumps([SDIST_SHA256, dict(plan.tools.compilers), *options])
    if not marker.is_file() or marker.read_text(encoding="utf-8") != inputs:
        remove_folder(tree)
        tree.mkdir(parents=True)
        write_text(marker, inputs)
    for name in plan.gpu.libraries:  # CMake follows the sources, not the shader compiler
        made_with, part = tree / f"{name}-made-with", tree / "llama.cpp" / "ggml" / "src" / name
        inputs = json.dumps(plan.gpu.inputs)
        if part.is_dir() and made_with.is_file() and made_with.read_text(encoding="utf-8") != inputs:
            remove_folder(part)
        write_text(made_with, inputs)


def _configure(plan: Plan, steps: Steps, sources: Path, tree: Path, options: dict[str, str]) -> None:
    cache = tree / "CMakeCache.txt"
    home = f"CMAKE_HOME_DIRECTORY:INTERNAL={sources.as_posix()}\n"
    if cache.is_file() and home not in cache.read_text(encoding="utf-8"):
        cache.unlink()  # another checkout configured this tree; what it compiled stays good
    ninja = _tool("ninja")
    defines = [f"-D{name}={value}" for name, value in options.items()]
    command = [_tool("cmake"), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-S", sources, "-B", tree, *defines]
    steps.run("configuring the engine", command, sources, os.environ | dict(plan.tools.env))


def _ninja(plan: Plan, steps: Steps, tree: Path, targets: Sequence[str]) -> None:
    # The time of day must not reach the bytes: __DATE__, and the gzip headers of the web UI's files.
    env = os.environ | {"NINJA_STATUS": "[%f/%t] ", "SOURCE_DATE_EPOCH": "0"} | dict(plan.tools.env)
    steps.run("compiling the engine", [_tool("ninja"), *targets], tree, env)


def _place_webui(built: Path | None, place: Path) -> None:
    """Upstream embeds what it finds here, gzipped; with nothing here the server has no web UI."""
    remove_folder(place)
    if built is not None:
        shutil.copytree(built / "dist", place)
        index = place / "index.html"
        text = index.read_text(encoding="utf-8")
        if "</head>" not in text:
            raise StepError("the web UI's index.html has no head to put the page's name into")
        write_text(index, text.replace("</head>", _PAGE_NAME + "</head>", 1))


def _collect(plan: Plan, steps: Steps, llama: Path, work: Path) -> None:
    lib = work / "lib"
    lib.mkdir(parents=True)
    names = WINDOWS_LIBRARIES if plan.target.startswith("windows-") else ENGINE_LIBRARIES
    built = [_library(plan.tree / "bin", name) for name in (*names, *plan.gpu.libraries)]
    kinds = (".so", ".dylib", ".dll")
    variants = sorted(
        path for path in (plan.tree / "bin").iterdir() if "ggml-cpu" in path.name and path.suffix in kinds
    )
    for path in [*built, *variants]:
        shutil.copy(path, lib / path.name)
    if built[0].suffix != ".dll":  # there the linker has done it
        _strip(plan.tree, steps, sorted(lib.iterdir()))
    write_text(lib / "flags.json", _flags(plan, lib))
    _copy_licenses(llama, work / "licenses")
    for path in plan.gpu.carried:
        shutil.copyfile(path, lib / path.name)
    for name, path in {**plan.gpu.licenses, **plan.tools.licenses}.items():
        shutil.copyfile(path, work / "licenses" / f"{name}.txt")
    facts = {
        "target": plan.target,
        "llama_cpp_python": PACKAGE_VERSION,
        "llama_cpp": LLAMA_COMMIT,
        "key": plan.key,
        "release": plan.webui and not plan.fast,
        "webui": webui_key() if plan.webui else None,
        "compilers": list(plan.tools.compilers.values()),
        "variants": [_variant(path) for path in variants],
        "gpu": _gpu_facts(plan),
    }
    write_text(work / "engine.json", json.dumps(facts, indent=1) + "\n")


def _gpu_facts(plan: Plan) -> dict[str, Any] | None:
    """What the bundler needs to know of a GPU backend, to leave it out."""
    if not plan.gpu.name:
        return None
    files = [_library(plan.tree / "bin", name) for name in plan.gpu.libraries] + list(plan.gpu.carried)
    return {
        "backend": plan.gpu.name,
        "made_with": plan.gpu.inputs,
        "libraries": [path.name for path in files],
        "licenses": list(plan.gpu.licenses),
    }


def _library(folder: Path, name: str) -> Path:
    for candidate in (f"lib{name}.so", f"lib{name}.dylib", f"{name}.dll", f"lib{name}.dll"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise StepError(f"the build left no library {name} in {folder}")


def _variant(path: Path) -> str:
    return path.stem.removeprefix("lib").removeprefix("ggml-cpu").lstrip("-") or "default"


def _strip(tree: Path, steps: Steps, files: Sequence[Path]) -> None:
    found = re.search(r"^CMAKE_STRIP:\w+=(.+)$", (tree / "CMakeCache.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None or found[1].endswith("NOTFOUND"):
        raise StepError("strip is missing; install binutils")
    # a library needs the names it exports: -x on macOS, whose strip knows no --strip-unneeded
    how = "-x" if files[0].suffix == ".dylib" else "--strip-unneeded"
    steps.run("stripping the libraries", [found[1], how, *files], tree, os.environ)
    if files[0].suffix == ".dylib":  # what was changed is no longer signed, and Apple silicon loads only what is
        steps.run("signing the libraries", ["codesign", "--force", "--sign", "-", *files], tree, os.environ)


def _flags(plan: Plan, lib: Path) -> str:
    """The server's options, asked of the finished engine itself; the host's engine where nothing here can run it."""
    if plan.tools.run is None:
        return _flags_of_host(plan)
    program = next(path for path in (plan.tree / "bin").glob("print-flags*") if path.suffix in ("", ".exe"))
    beside = lib / program.name  # there it finds the libraries
    shutil.copy(program, beside)
    command, env = [*plan.tools.run, str(beside)], os.environ | dict(plan.tools.env)
    answer = subprocess.run(command, capture_output=True, encoding="utf-8", env=env, check=False)
    beside.unlink()
    if answer.returncode != 0:
        reason = answer.stderr.strip().splitlines()[-1:] or [f"exit code {answer.returncode}"]
        raise StepError(f"the built engine doesn't load: {reason[0]}")
    if not json.loads(answer.stdout):
        raise StepError("the built engine names no options")
    return answer.stdout


def _flags_of_host(plan: Plan) -> str:
    try:
        name = (plan.cache / "engine" / f"{host_target()}.current").read_text(encoding="utf-8").strip()
        return (plan.cache / "engine" / name / "lib" / "flags.json").read_text(encoding="utf-8")
    except OSError:
        remedy = "run build_native.py without --target first"
        raise StepError(f"the options of an engine for {plan.target} are those of this machine's; {remedy}") from None


def _copy_licenses(llama: Path, folder: Path) -> None:
    """Licence files as they are; for single-header libraries the comment in which they carry theirs."""
    folder.mkdir()
    for name, file in LICENSE_FILES.items():
        shutil.copyfile(llama / file, folder / f"{name}.txt")
    for name, (file, word) in LICENSE_COMMENTS.items():
        text = (llama / file).read_text(encoding="utf-8", errors="replace")
        at = text.rindex(word)
        write_text(folder / f"{name}.txt", text[text.rindex("/*", 0, at) : text.index("*/", at)].strip("/*\n -") + "\n")


def _build_bare(plan: Plan, steps: Steps) -> None:
    """Unmodified llama.cpp programs beside the engine, with the engine's own CPU libraries: same options, same code."""
    final = plan.engine / "bare"
    stamp = final / "key"
    if stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == plan.bare_key:
        steps.say("bare llama.cpp: up to date")
        return
    steps.say("compiling bare llama.cpp")
    llama = source(plan.cache, steps)
    tree = plan.cache / "native" / f"{plan.tree.name}-bare"
    _forget_other_inputs(plan, tree)
    rpath = {"CMAKE_BUILD_WITH_INSTALL_RPATH": "ON", "CMAKE_INSTALL_RPATH": "$ORIGIN"}
    _configure(plan, steps, llama, tree, plan.bare_options | rpath)
    _ninja(plan, steps, tree, BARE_TARGETS)
    work = plan.engine / f"bare.work-{os.getpid()}"
    remove_folder(work)
    work.mkdir()
    try:
        for path in (tree / "bin").iterdir():
            if path.is_file() and not path.is_symlink():
                shutil.copy(path, work / path.name)
        _strip(tree, steps, sorted(work.iterdir()))
        for path in (plan.engine / "lib").iterdir():
            if "ggml-cpu" in path.name:
                shutil.copy(path, work / path.name)
        write_text(work / "key", plan.bare_key + "\n")
        replace_folder(work, final)
    finally:
        remove_folder(work)


def _native_sources() -> list[Path]:
    return sorted(path for path in NATIVE.iterdir() if path.suffix in {".c", ".cpp", ".h", ".def", ".txt"})


def _tool(name: str) -> Path:
    """cmake and ninja of this environment's wheels."""
    folder = Path(sys.executable).parent
    path = shutil.which(name, path=str(folder))
    if path is None:
        raise StepError(f"{name} is missing in {folder}; run: python -m pip install -r build_scripts/requirements.txt")
    return Path(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
