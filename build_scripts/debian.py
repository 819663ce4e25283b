"""Packages of Debian, whatever the system that builds: fetched by apt, which checks Debian's signatures, into a folder.

Only build scripts may import it. apt works on lists of its own below the build cache and leaves the system's alone. The
server is the one that this system's apt uses, or $QWENFILE_DEBIAN_MIRROR.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steps import StepError, Steps, locked, remove_folder

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
BINARIES = "bullseye"  # Debian 11: glibc 2.31, GCC 10's libstdc++
SOURCES = "bookworm"  # Debian 12: the newest that has CPython 3.11, kept safe by its security team


@dataclass(frozen=True, kw_only=True)
class Debian:
    """Packages of Debian by way of `folder` in the build cache."""

    folder: Path
    steps: Steps

    def binaries(self, machine: str, files: Mapping[str, str], to: Path) -> list[Path]:
        """Download the packages `files`, name_version -> SHA-256, for Debian's `machine`; returns them unchanged."""
        to.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}:{machine}={version}" for name, version in (file.split("_") for file in files)]
        self._apt(f"downloading Debian packages for {machine}", ["download", *wanted], to)
        found = []
        for file, sha256 in files.items():
            name, version = file.split("_")
            path = next(to.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"), None)
            if path is None:
                raise StepError(f"apt downloaded no {file} for {machine}")
            check(path, sha256)
            found.append(path)
        return found

    def source(self, package: str, to: Path) -> str:
        """Unpack Debian's source of `package`, with its patches, to the new folder `to`; returns the version."""
        work = to.with_name(f"{to.name}.work-{os.getpid()}")
        remove_folder(work)
        work.mkdir(parents=True)
        try:
            self._apt(f"downloading Debian's source of {package}", ["source", "--download-only", package], work)
            (description,) = work.glob("*.dsc")
            self.steps.run("unpacking the source", [tool("dpkg-source"), "-x", description, to], work, os.environ)
        finally:
            remove_folder(work)
        return description.stem.split("_", 1)[1]

    def _apt(self, what: str, command: Sequence[str], folder: Path) -> None:
        apt = tool("apt-get")
        if not KEYRING.is_file():
            raise StepError(f"there is no {KEYRING}; install Debian's keys (apt install debian-archive-keyring)")
        lists = self.folder / "lists"
        with locked(self.folder / "lock"):
            if not lists.is_dir():
                self._update(apt, lists)
        self.steps.say(what)
        self.steps.run(what, [apt, *self._options(lists), *command], folder, os.environ)

    def _update(self, apt: str, lists: Path) -> None:
        work = lists.with_name(f"lists.work-{os.getpid()}")
        (work / "partial").mkdir(parents=True)
        uri, signed = mirror(os.environ), f"[signed-by={KEYRING}]"
        text = f"deb {signed} {uri} {BINARIES} main\ndeb-src {signed} {uri} {SOURCES} main\n"
        (self.folder / "sources.list").write_text(text)
        try:
            self.steps.run("apt-get update", [apt, *self._options(work), "update"], self.folder, os.environ)
            work.rename(lists)
        finally:
            remove_folder(work)

    def _options(self, lists: Path) -> Iterator[str]:
        cache = self.folder / "cache"
        (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        for option in (
            f"Dir::Etc::sourcelist={self.folder / 'sources.list'}",
            "Dir::Etc::sourceparts=/dev/null",
            f"Dir::State::lists={lists}",
            f"Dir::Cache={cache}",
            "APT::Architectures=amd64,arm64",
            "APT::Sandbox::User=",  # the folder is the user's own, who may be root
        ):
            yield from ("-o", option)


def mirror(env: Mapping[str, str], system: Path = Path("/etc/apt")) -> str:
    """Where this system's apt gets Debian from. Raises StepError with the remedy."""
    if override := env.get("QWENFILE_DEBIAN_MIRROR"):
        return override
    files = (system / "sources.list", *sorted(system.glob("sources.list.d/*")))
    for file in files:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if found := re.search(r"^(?:URIs:|deb(?: \[.*\])?)\s+(\S+/debian/?)(?:\s|$)", text, re.MULTILINE):
            return found[1]
    raise StepError("this system's apt knows no Debian; name one in QWENFILE_DEBIAN_MIRROR")


def tool(name: str) -> str:
    """The path of one of Debian's programs."""
    path = shutil.which(name)
    if path is None:
        raise StepError(f"{name} is missing; this needs Debian or Ubuntu (apt install apt dpkg-dev)")
    return path


def check(path: Path, sha256: str) -> None:
    """Raises StepError if the file is another one than it was when this was written."""
    import hashlib

    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        path.unlink()
        raise StepError(f"{path.name} has SHA-256 {found}, expected {sha256}: removed")
