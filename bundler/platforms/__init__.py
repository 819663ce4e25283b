"""What differs between target systems: file names, limits, finishing. One plain module per system."""

import re
from typing import Protocol

from bundler.platforms import linux, macos, windows
from runtime.bundle import Manifest
from runtime.errors import UsageError


class Platform(Protocol):
    """What a platform module offers."""

    TARGETS: tuple[str, ...]
    """Names of the targets it serves."""
    SUFFIX: str
    """Ending of a bundle's file name."""
    MAX_BUNDLE: int | None
    """The largest bundle in bytes that the system starts; None: no limit."""

    def stub_identity(self, stub: bytes) -> bytes:
        """The stub with zeros for what `finish` or signing tools write into it. Raises ValueError if it is no stub."""

    def describe(self, fd: int, manifest: Manifest) -> None:
        """Tell the system what the file is, where it has a place for that in the stub."""

    def finish(self, fd: int, end: int) -> None:
        """What the system wants of a whole file, after a change too. `end`: bytes up to the archive's end."""

    def is_intact(self, fd: int) -> bool:
        """Whether what `finish` wrote is still there."""


_PLATFORMS: tuple[Platform, ...] = (linux, macos, windows)


def platform_of(target: str) -> Platform:
    """The platform of `target`. Raises UsageError for a target nobody serves."""
    for platform in _PLATFORMS:
        if target in platform.TARGETS:
            return platform
    raise UsageError(f"unknown target {target!r}", f"known: {', '.join(known_targets())}")


def known_targets() -> tuple[str, ...]:
    """All targets that there are."""
    return tuple(name for platform in _PLATFORMS for name in platform.TARGETS)


def default_name(model_name: str, target: str) -> str:
    """File name of a bundle: the model's name made safe for every system, plus the platform's ending."""
    safe = re.sub(r"[^A-Za-z0-9._]+", "-", model_name).strip("-.").lower() or "model"
    return safe + platform_of(target).SUFFIX
