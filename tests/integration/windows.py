"""wine for tests: where it is, and what programs for Windows run in."""

import os
import shutil

import pytest

from runtime.paths import build_cache
from tests.integration.conftest import Runner

WINE = shutil.which("wine64", path=f"{os.environ.get('PATH', '')}:/usr/lib/wine") or ""

needs_wine = pytest.mark.skipif(not WINE, reason="needs wine, which runs programs for Windows (apt install wine64)")


def wine_environment(run: Runner) -> dict[str, str]:
    """The environment of `run`, with the folder that is wine's drive C:. LOCALAPPDATA and the like lie in it."""
    return {
        **run.env,
        "WINEPREFIX": str(build_cache(os.environ) / "wine"),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=",
    }
