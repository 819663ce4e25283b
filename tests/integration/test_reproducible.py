"""The same inputs give the same bytes: base, bundle, web UI; whatever the folder, the time and the hash seed.

The engine's libraries are not compiled twice here; `build_scripts/twice.py` does that.
"""

import gzip
import json
import time
import urllib.request
from pathlib import Path

from bundler.base import pointed
from runtime.bundle import Bundle
from runtime.paths import host_target
from tests.integration.conftest import Runner, succeed
from tests.integration.server import Server


def test_a_base_is_the_same_twice(run: Runner, base: Path, tmp_path: Path) -> None:
    """Frozen and packed again in another build cache, out of the same engine and stub."""
    cache = Path(run.env["QWENFILE_BUILD_CACHE"])
    engine, stub = (pointed(cache / kind, host_target()) for kind in ("engine", "stub"))
    assert engine is not None
    assert stub is not None
    again = Runner(env={**run.env, "QWENFILE_BUILD_CACHE": str(tmp_path / "another cache"), "PYTHONHASHSEED": "7"})
    succeed(again.qwenfile("base", "build", "--engine", engine, "--stub", stub / "stub"), ["base", "build"])
    (built,) = (tmp_path / "another cache/bases").glob("*.base")
    assert built.name == base.name
    assert built.read_bytes() == base.read_bytes()


def test_a_bundle_is_the_same_twice(run: Runner, base: Path, demo_bundle: Path, tmp_path: Path) -> None:
    time.sleep(max(0.0, demo_bundle.stat().st_mtime + 2 - time.time()))  # ZIP counts time in steps of two seconds
    built = run.qwenfile("build", "--demo", "--no-verify", "--base", base, "-o", tmp_path / "again.run")
    assert built.code == 0, built.err
    assert (tmp_path / "again.run").read_bytes() == demo_bundle.read_bytes()


def test_the_page_is_named_after_its_source_and_not_after_the_time(run: Runner, demo_bundle: Path) -> None:
    with Server(demo_bundle, run) as server:
        request = urllib.request.Request(f"{server.url}/_app/version.json", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request) as answer:
            version = json.loads(gzip.decompress(answer.read()))["version"]
    assert version == str(Bundle.open(demo_bundle).manifest.engine["webui"]).partition("-")[0]
