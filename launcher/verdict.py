"""Which devices of a GPU backend work here: tried once per driver version in a short-lived process, and remembered.

Imported by the launcher only. The process that tries (`main`, started as `launcher --try-gpu BACKEND FOLDER`) may
crash or hang; that is a verdict too. Verdicts lie in the run cache as gpu-<backend>-<fingerprint>.json.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.drivers import fingerprint, libraries, missing_library
from runtime.engine import Device, Engine

TRY_GPU = "--try-gpu"
_PATIENCE = 30  # seconds; a driver that starts takes one at most
_INCOMPATIBLE_DRIVER = "-9"  # VkResult


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A device and its driver's name and version. `fault`: what is wrong with it, "" if nothing is."""

    name: str
    description: str
    kind: str
    driver: str
    fault: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The devices of a backend; without any that work, `reason` says why.

    It holds until the driver changes, or, where `libraries` tells which the system had, until these do.
    """

    devices: tuple[Tried, ...] = ()
    reason: str = ""
    libraries: str = ""

    @property
    def usable(self) -> tuple[Tried, ...]:
        return tuple(device for device in self.devices if not device.fault)


def judge(backend: str, folder: Path, cache: Path, env: Mapping[str, str]) -> Verdict:
    """The verdict about a backend in the engine's folder, from the cache or by trying."""
    path = cache / f"gpu-{backend}-{fingerprint(backend, folder, env)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = _verdict(json.loads(path.read_text()))
        if known.libraries in ("", libraries(env)):
            return known
    verdict = _try(backend, folder, env)
    with contextlib.suppress(OSError):
        work = path.with_suffix(f".{os.getpid()}")
        work.write_text(json.dumps(asdict(verdict)))
        work.replace(path)
    return verdict


def _verdict(told: Mapping[str, Any]) -> Verdict:
    devices = tuple(Tried(**device) for device in told["devices"])
    return Verdict(devices=devices, reason=told["reason"], libraries=told["libraries"])


def _try(backend: str, folder: Path, env: Mapping[str, str]) -> Verdict:
    import subprocess

    program = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "launcher"]
    anew = {"PYINSTALLER_RESET_ENVIRONMENT": "1"}  # or its loader takes it for a part of us, without our libraries
    try:
        done = subprocess.run(
            [*program, TRY_GPU, backend, folder],
            env={**env, **anew}, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Verdict(reason=f"its driver did not answer within {_PATIENCE} s")
    except OSError as error:
        return Verdict(reason=f"it cannot be tried: {(error.strerror or str(error)).lower()}")
    try:
        return _verdict(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        return Verdict(reason=f"its driver crashed when it was tried ({how})")


def main(words: Sequence[str]) -> int:
    """Try a backend and print the verdict as JSON."""
    backend, folder = words
    if reason := missing_library(backend):
        verdict = Verdict(reason=reason, libraries=libraries(os.environ))
    else:
        engine = Engine(Path(folder))
        engine.load_backends()
        verdict = _tried(engine, backend)
    sys.stdout.write(json.dumps(asdict(verdict)))
    return 0


def _tried(engine: Engine, backend: str) -> Verdict:
    before = {device.name for device in engine.devices()}
    count, reason = engine.load_backend(backend)
    survey = engine.survey(backend)
    if count < 0:
        return Verdict(reason=_refusal(reason, survey))
    found = [device for device in engine.devices() if device.name not in before]
    devices = tuple(_trial(engine, device, survey) for device in found)
    if not devices:
        return Verdict(reason=nothing_found(survey, os.environ))
    faults = "; ".join(f"{device.name}, {device.description}: {device.fault}" for device in devices if device.fault)
    return Verdict(devices=devices, reason=faults)


def _trial(engine: Engine, device: Device, survey: Sequence[Sequence[str]]) -> Tried:
    driver = next((" ".join(row[2:]) for row in survey if row[1:2] == (device.description.strip(),)), "")
    return Tried(
        name=device.name,
        description=device.description.strip(),
        kind=device.kind,
        driver=driver or _nvidia(device.backend),
        fault=engine.try_out(device.name),
    )


def _nvidia(backend: str) -> str:
    """The version of NVIDIA's driver as the kernel tells it."""
    if backend != "CUDA":
        return ""
    with contextlib.suppress(OSError):
        return "NVIDIA " + Path("/sys/module/nvidia/version").read_text().strip()
    return ""


def _refusal(reason: str, survey: Sequence[Sequence[str]]) -> str:
    """Why a backend's library could not be loaded, or does not want to work."""
    if reason != "unsupported":
        return reason
    result = next((row[1] for row in survey if row[0] == "VkResult"), "")
    if result == _INCOMPATIBLE_DRIVER:
        return "no driver for it is installed"
    if result:
        return f"its loader fails (VkResult {result})"
    return nothing_found(survey, os.environ)


def nothing_found(survey: Sequence[Sequence[str]], env: Mapping[str, str]) -> str:
    """Why a backend that works has no device."""
    chosen = next(
        (f"{name}={env[name]}" for name in ("GGML_VK_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES") if name in env), ""
    )
    devices = [row for row in survey if len(row) > 1 and row[0] != "VkResult"]
    names = ", ".join(row[1] for row in devices)
    if chosen:
        return f"{chosen} leaves none" + (f" of {names}" if names else "")
    if not devices:
        return "its drivers find no GPU"
    if all(row[0] == "software" for row in devices):
        return f"there is no GPU, only a program that plays one ({names})"
    return f"{names} cannot do what the engine needs"
