"""Linux: an ELF file may be of any size and needs no finishing; it is marked executable when it is created."""

TARGETS: tuple[str, ...] = ("linux-x86_64", "linux-aarch64")
SUFFIX: str = ".run"
MAX_BUNDLE: int | None = None
