"""The `qwenfile` command: parse, call, turn errors into exit codes; nothing else."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundler import options
from runtime.bundle import HEADER_SEARCH, MAGIC, Bundle
from runtime.errors import ExitCode, ModelError, QwenfileError
from runtime.paths import build_cache, host_target


def main(argv: Sequence[str] | None = None) -> int:
    """Run `qwenfile` and return its exit code. Tracebacks only with --debug."""
    asked = options.parse(sys.argv[1:] if argv is None else argv)
    try:
        _run(asked.command, options.environment())
    except QwenfileError as error:
        if asked.debug:
            raise
        _say_failure(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say_failure("interrupted; nothing was left behind")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return ExitCode.FAILURE
    except OSError as error:
        if asked.debug:
            raise
        _say_failure(f"{error.filename or 'system'}: {error.strerror}")
        return ExitCode.FAILURE
    return ExitCode.OK


def _say_failure(text: str) -> None:
    sys.stderr.write(f"qwenfile: {text}\n")


def _run(command: options.Command, env: Mapping[str, str]) -> None:
    match command:
        case options.Build():
            _build(command, env)
        case options.BuildBase():
            _base_build(command, env)
        case options.ListBases():
            _base_list(env)
        case options.Inspect():
            _inspect(command)
        case options.Verify():
            _verify(command, env)
        case options.Unpack():
            _unpack(command)
        case options.Args():
            _args(command)
        case options.Upgrade():
            _upgrade(command, env)
        case options.Sign():
            _sign(command)


def _build(asked: options.Build, env: Mapping[str, str]) -> None:
    from bundler.build import build

    build(asked, env)


def _base_build(asked: options.BuildBase, env: Mapping[str, str]) -> None:
    from bundler import base, report

    cache = build_cache(env)
    target = asked.target or host_target()
    parts = base.ingredients(cache, target, asked.engine, asked.stub, asked.python, asked.backend)
    path = base.build(parts, cache, lambda step: report.say(f"base: {step}"), out=asked.out, force=asked.force)
    report.table({"base": str(path), "size": report.size(path.stat().st_size)})


def _base_list(env: Mapping[str, str]) -> None:
    from bundler import base, bases, report

    cache = build_cache(env)
    listed, wrong = bases.known(cache)
    for error in wrong:
        _say_failure(str(error))
    if not listed:
        report.say(f"no bases in {cache / 'bases'}: {base.BUILD_HINT}")
    for found in listed:
        current = base.pointed(cache / "bases", found.manifest.target) == found.path
        mark = "  (current)" if current else ""
        report.table({found.manifest.target: f"{found.path}  {report.size(found.size)}{mark}"})


def _inspect(asked: options.Inspect) -> None:
    from bundler import edit, model, report

    if _is_bundle(asked.file):
        bundle = Bundle.open(asked.file)
        report.describe_bundle(bundle, edit.read_args(bundle), as_json=asked.json)
    else:
        report.describe_model(model.load(asked.file, any_architecture=True), as_json=asked.json)


def _is_bundle(path: Path) -> bool:
    if path.is_dir():
        raise ModelError(f"{path} is a directory", "name a GGUF, base or bundle")
    try:
        with path.open("rb") as file:
            return MAGIC in file.read(HEADER_SEARCH)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None


def _verify(asked: options.Verify, env: Mapping[str, str]) -> None:
    from bundler import report, verify
    from bundler.build import try_out

    bundle = Bundle.open(asked.file)
    with report.progress("hashing", verify.total(bundle)) as progress:
        verify.verify_bytes(bundle, progress)
        beside = verify.verify_weights_beside(bundle, progress) if bundle.manifest.external else None
    if beside:
        report.say(f"verified: {beside}, the weights beside it")
    report.say(f"verified: {len(bundle.manifest.members)} members, {bundle.size:,} bytes as they were built")
    if bundle.manifest.model:
        try_out(bundle, env)


def _unpack(asked: options.Unpack) -> None:
    from bundler import edit, report

    bundle = Bundle.open(asked.file)
    with report.progress("unpacking", sum(member.size for member in bundle.manifest.members)) as progress:
        count = edit.unpack(bundle, asked.folder, progress)
    report.say(f"{count} members in {asked.folder}")


def _args(asked: options.Args) -> None:
    from bundler import edit

    bundle = Bundle.open(asked.file)
    if asked.text is not None:
        edit.set_args(bundle, asked.text)
        bundle = Bundle.open(asked.file)
    sys.stdout.write(edit.read_args(bundle) + "\n")


def _upgrade(asked: options.Upgrade, env: Mapping[str, str]) -> None:
    from bundler import bases, edit, report
    from bundler.build import try_out

    bundle = Bundle.open(asked.file)
    newer = bases.find(build_cache(env), bundle.manifest.target, asked.base, asked.bases, bases.gpu_backend(bundle))
    with report.progress("copying the weights", bundle.size) as progress:
        edit.upgrade(bundle, newer, asked.out, force=asked.force, progress=progress)
    if asked.verify:
        try_out(Bundle.open(asked.out), env)


def _sign(asked: options.Sign) -> None:
    from bundler import report
    from bundler.sign import sign

    report.say(f"signed: {sign(asked)}")


if __name__ == "__main__":
    raise SystemExit(main())
