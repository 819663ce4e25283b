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
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build_scripts")]

import gpu_backends  # noqa: E402
from build_webui import build_webui  # noqa: E402
from engine_folder import collect, strip  # noqa: E402
from engine_plan import NATIVE, Plan  # noqa: E402
from llama_source import SDIST_SHA256, source  # noqa: E402
from runtime.errors import QwenfileError  # noqa: E402
from runtime.paths import build_cache, host_target  # noqa: E402
from steps import StepError, Steps, locked, remove_folder, replace_folder, write_text  # noqa: E402
from toolchains import toolchain  # noqa: E402

BARE_TARGETS = ("llama-server", "llama-completion", "llama-bench")
_PAGE_NAME = '<script src="./page-name.js"></script>\n'  # runtime/native/http.cpp answers it with the model's name


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
        collect(plan, steps, llama, work)
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
        strip(tree, steps, sorted(work.iterdir()))
        for path in (plan.engine / "lib").iterdir():
            if "ggml-cpu" in path.name:
                shutil.copy(path, work / path.name)
        write_text(work / "key", plan.bare_key + "\n")
        replace_folder(work, final)
    finally:
        remove_folder(work)


def _tool(name: str) -> Path:
    """cmake and ninja of this environment's wheels."""
    folder = Path(sys.executable).parent
    path = shutil.which(name, path=str(folder))
    if path is None:
        raise StepError(f"{name} is missing in {folder}; run: python -m pip install -r build_scripts/requirements.txt")
    return Path(path)


if __name__ == "__main__":
    raise SystemExit(main())
