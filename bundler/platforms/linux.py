"""Linux: an ELF file may be of any size and needs no finishing; it is marked executable when it is created."""

from runtime.bundle import Manifest

TARGETS: tuple[str, ...] = ("linux-x86_64", "linux-aarch64")
SUFFIX: str = ".run"
MAX_BUNDLE: int | None = None


def stub_identity(stub: bytes) -> bytes:
    """Nothing is written into an ELF file."""
    return stub


def describe(fd: int, manifest: Manifest) -> None:
    """An ELF file has no place for that."""


def finish(fd: int, end: int) -> None:
    """An ELF file needs nothing more."""


def is_intact(fd: int) -> bool:
    """There is nothing to be damaged."""
    return True
