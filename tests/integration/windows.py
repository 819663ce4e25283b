"""wine for tests: where it is, and what programs for Windows run in."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bundler.interpreter import wine
from tests.integration.conftest import TIMEOUT

WINE = wine()
_WINESERVER = shutil.which("wineserver", path=f"{os.environ.get('PATH', '')}:/usr/lib/wine") or ""


@contextmanager
def drive_c(environment: Mapping[str, str], prefix: Path) -> Iterator[dict[str, str]]:
    """`environment` with wine's drive C: in the folder `prefix`, which is gone afterwards.

    wine's server would otherwise be started by the first program, live on behind it, and write what it has to say
    when it ends into the standard error of a test."""
    named = {
        **environment,
        "WINEPREFIX": str(prefix),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=",
    }
    prefix.mkdir()
    command = [_WINESERVER, "--foreground", "--persistent"]
    nowhere = subprocess.DEVNULL  # and no pipe: the services that the first program starts would hold it open
    with subprocess.Popen(command, env=named, stdout=nowhere, stderr=nowhere) as server:
        try:
            begin = [*WINE, "wineboot", "--init"]
            subprocess.run(begin, env=named, stdout=nowhere, stderr=nowhere, timeout=TIMEOUT, check=True)
            yield named
        finally:
            subprocess.run([_WINESERVER, "--kill"], env=named, check=False)
            server.wait(TIMEOUT)
            shutil.rmtree(prefix, ignore_errors=True)  # what is still ending may be writing
