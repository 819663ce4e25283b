"""The `qwenfile` command line: argparse in, one frozen dataclass per command out. The Namespace dies here."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.platforms import known_targets
from runtime.version import VERSION


@dataclass(frozen=True, kw_only=True)
class Build:
    """`qwenfile build`. `out` None: named after the model. `args` is baked as it is. `targets`: none means the base's
    own, or this system. `bases`: a release folder. `quantize`: a type's name."""

    model: Path | None
    demo: bool
    out: Path | None
    args: str
    name: str | None
    base: Path | None
    bases: Path | None
    targets: tuple[str, ...]
    backend: str | None
    external_weights: bool
    draft: Path | None
    lora: tuple[Path, ...]
    control_vector: tuple[Path, ...]
    quantize: str | None
    requantize: bool
    imatrix: Path | None
    any_architecture: bool
    verify: bool
    force: bool


@dataclass(frozen=True, kw_only=True)
class BuildBase:
    """`qwenfile base build`."""

    backend: str | None
    target: str | None
    engine: Path | None
    stub: Path | None
    python: Path | None
    out: Path | None
    force: bool


@dataclass(frozen=True, kw_only=True)
class ListBases:
    """`qwenfile base list`."""


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """`qwenfile inspect`."""

    file: Path
    json: bool


@dataclass(frozen=True, kw_only=True)
class Verify:
    """`qwenfile verify`."""

    file: Path


@dataclass(frozen=True, kw_only=True)
class Unpack:
    """`qwenfile unpack`."""

    file: Path
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Args:
    """`qwenfile args`. `text` None: print them."""

    file: Path
    text: str | None


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """`qwenfile upgrade`."""

    file: Path
    out: Path
    base: Path | None
    bases: Path | None
    verify: bool
    force: bool


@dataclass(frozen=True, kw_only=True)
class Sign:
    """`qwenfile sign`. `pkcs12`, or `certificate` and `key`."""

    file: Path
    pkcs12: Path | None
    certificate: Path | None
    key: Path | None
    password_file: Path | None
    timestamp: str | None


Command = Build | BuildBase | ListBases | Inspect | Verify | Unpack | Args | Upgrade | Sign


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked: the command, and whether defects show a traceback."""

    command: Command
    debug: bool


def parse(argv: Sequence[str]) -> Options:
    """Parse the arguments. Exits 0 after --help and --version, 2 on a wrong usage, as argparse does."""
    namespace = _parser().parse_args(argv)
    fields = vars(namespace)
    debug = fields.pop("debug")
    kind = fields.pop("kind")
    if kind is Build:
        fields["args"] = _baked(fields)
        fields["targets"] = tuple(dict.fromkeys(fields["targets"]))
        fields["lora"], fields["control_vector"] = tuple(fields["lora"]), tuple(fields["control_vector"])
    return Options(command=kind(**fields), debug=debug)


def _baked(fields: dict[str, object]) -> str:
    """--args and --system-prompt as one text of baked arguments."""
    import shlex

    prompt = fields.pop("system_prompt")
    args = str(fields["args"])
    return f"-sys {shlex.quote(str(prompt))} {args}".strip() if prompt is not None else args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qwenfile", description="Make one executable file from a Qwen3 model in GGUF form."
    )
    parser.add_argument("--version", action="version", version=f"qwenfile {VERSION}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands.add_parser("build", help="make a bundle from a model"))
    _add_base(commands.add_parser("base", help="build or list bases: bundles without a model"))

    inspect = commands.add_parser("inspect", help="describe a GGUF, base or bundle")
    inspect.add_argument("file", type=Path)
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.set_defaults(kind=Inspect)

    verify = commands.add_parser("verify", help="check every byte of a bundle, then generate one token with it")
    verify.add_argument("file", type=Path)
    verify.set_defaults(kind=Verify)

    unpack = commands.add_parser("unpack", help="take a bundle apart into a folder")
    unpack.add_argument("file", type=Path)
    unpack.add_argument("folder", type=Path, metavar="DIR")
    unpack.set_defaults(kind=Unpack)

    args = commands.add_parser("args", help="show or replace a bundle's baked arguments")
    args.add_argument("file", type=Path)
    args.add_argument("--set", dest="text", metavar="ARGS", help="the new ones; '' for none")
    args.set_defaults(kind=Args)

    upgrade = commands.add_parser("upgrade", help="put a bundle's weights on a newer base")
    upgrade.add_argument("file", type=Path)
    _add_output(upgrade, required=True)
    upgrade.set_defaults(kind=Upgrade)

    _add_sign(commands.add_parser("sign", help="put a signature on a bundle for Windows (Authenticode)"))
    return parser


def _add_sign(sign: argparse.ArgumentParser) -> None:
    sign.add_argument("file", type=Path)
    sign.add_argument("--pkcs12", type=Path, metavar="FILE", help="certificate and key in one file (.pfx, .p12)")
    sign.add_argument("--certificate", type=Path, metavar="FILE", help="the certificate and those above it (PEM)")
    sign.add_argument("--key", type=Path, metavar="FILE", help="its key (PEM)")
    sign.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password of the key")
    sign.add_argument("--timestamp", metavar="URL", help="a time-stamping server (RFC 3161)")
    sign.set_defaults(kind=Sign)


def _add_output(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    parser.add_argument(
        "-o", "--out", type=Path, required=required, help="the bundle to write; of several, their folder"
    )
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--base", type=Path, metavar="FILE", help="the base to use; default: the newest in the cache")
    base.add_argument("--bases", type=Path, metavar="DIR", help="a folder of TARGET.base files, as a release has them")
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="do not generate a token with the result"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing output")


def _add_build(build: argparse.ArgumentParser) -> None:
    model = build.add_mutually_exclusive_group(required=True)
    model.add_argument("model", nargs="?", type=Path, metavar="MODEL.gguf", help="a Qwen3 model, or any of its shards")
    model.add_argument("--demo", action="store_true", help="the tiny demo model that qwenfile carries")
    _add_output(build)
    targets = ", ".join(known_targets())
    build.add_argument(
        "--target", dest="targets", metavar="TARGET", action="append", default=[],
        help=f"the system to build for; may be repeated: {targets}; default: the base's, or this one",
    )  # fmt: skip
    build.add_argument(
        "--args", default="", metavar="ARGS", help="default arguments of the bundle; ... is where the user's go"
    )
    build.add_argument("--name", help="the model's name as the bundle shows it")
    build.add_argument("--system-prompt", metavar="TEXT", help="the bundle's default system prompt")
    build.add_argument(
        "--backend", choices=("cpu", "vulkan", "cuda"), help="for GPUs: none, Vulkan, or CUDA; default: as in the base"
    )
    build.add_argument("--external-weights", action="store_true", help="leave the weights beside the bundle")
    build.add_argument(
        "--draft", type=Path, metavar="SMALL.gguf", help="a smaller model that guesses ahead (speculative decoding)"
    )
    build.add_argument(
        "--lora", type=Path, metavar="FILE", action="append", default=[], help="a LoRA adapter; may be repeated"
    )
    build.add_argument(
        "--control-vector", type=Path, metavar="FILE", action="append", default=[], help="a control vector"
    )
    build.add_argument("--quantize", metavar="TYPE", help="quantize an F16, BF16 or F32 model: Q4_K_M, Q8_0 ...")
    build.add_argument("--requantize", action="store_true", help="with --quantize: even if it is quantized already")
    build.add_argument(
        "--imatrix",
        type=Path,
        metavar="FILE",
        help="with --quantize: an importance matrix; the smallest types need one",
    )
    build.add_argument(
        "--allow-any-architecture", dest="any_architecture", action="store_true", help="models that are not Qwen3 too"
    )
    build.set_defaults(kind=Build)


def _add_base(base: argparse.ArgumentParser) -> None:
    commands = base.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="freeze the launcher and join it with engine and stub")
    build.add_argument("--target", metavar="TARGET", help="default: this system")
    build.add_argument("--engine", type=Path, metavar="DIR", help="default: the newest in the cache")
    build.add_argument("--stub", type=Path, metavar="FILE", help="default: the newest in the cache")
    build.add_argument("--python", type=Path, metavar="DIR", help="default: this one, or for other systems the newest")
    build.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: the cache, as its newest")
    build.add_argument("--force", action="store_true", help="build it again")
    build.add_argument("--backend", choices=("cuda",), help="with the newest CUDA engine")
    build.set_defaults(kind=BuildBase)
    listing = commands.add_parser("list", help="list the bases in the cache")
    listing.set_defaults(kind=ListBases)


def environment() -> dict[str, str]:
    """The process's environment, read in one place."""
    return dict(os.environ)
