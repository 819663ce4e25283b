"""macOS: Terminal opens a `.command` on a double-click; all of a bundle lies inside its Mach-O signature."""

from bundler.macho import finish, identity, is_intact
from runtime.bundle import Manifest

TARGETS: tuple[str, ...] = ("macos-arm64", "macos-x86_64")
SUFFIX: str = ".command"
# Load commands of a signed file have 32-bit sizes, and the signature adds 32 bytes for every 4 KiB (bundler.macho).
MAX_BUNDLE: int | None = 4_250_000_000

stub_identity = identity


def describe(fd: int, manifest: Manifest) -> None:
    """A Mach-O file has no place for that."""


__all__ = ["MAX_BUNDLE", "SUFFIX", "TARGETS", "describe", "finish", "is_intact", "stub_identity"]
