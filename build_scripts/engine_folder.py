"""The folder of a finished engine: its libraries, the options they know, licences, and facts. Only build scripts may
import it; build_native.py says what lies where."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from build_webui import webui_key
from engine_plan import Plan
from llama_source import LLAMA_COMMIT, PACKAGE_VERSION
from runtime.paths import host_target
from steps import StepError, Steps, write_text

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
LICENSE_COMMENTS = {  # the header that carries its licence in a comment, and a word of that comment
    "miniaudio": ("vendor/miniaudio/miniaudio.h", "ALTERNATIVE 1"),
    "stb_image": ("vendor/stb/stb_image.h", "ALTERNATIVE A"),
    "subprocess.h": ("vendor/sheredom/subprocess.h", "free and unencumbered software"),
    "sha1": ("vendor/hash/sha1/sha1.h", "Public Domain"),
}


def collect(plan: Plan, steps: Steps, llama: Path, work: Path) -> None:
    """Fill the new folder `work` with what was compiled in the plan's tree. Raises StepError."""
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
        strip(plan.tree, steps, sorted(lib.iterdir()))
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


def strip(tree: Path, steps: Steps, files: Sequence[Path]) -> None:
    """Take out of programs and libraries what only debuggers read, with the strip of CMake. Raises StepError."""
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
