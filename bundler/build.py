"""What `qwenfile build` does: check everything first, quantize if asked, write the bundle, try it out, say so."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bundler import adapters, assemble, bases, imatrix, model, quantize, report, verify
from bundler.base import pointed
from bundler.demo import DEMO_MODEL
from bundler.model import Model
from bundler.options import Build
from bundler.platforms import default_name
from runtime.bundle import Bundle
from runtime.errors import QwenfileError, UsageError
from runtime.paths import build_cache, host_target
from runtime.presets import DEFAULT_CONTEXT


def build(asked: Build, env: Mapping[str, str]) -> None:
    """One bundle for each target. Raises QwenfileError before anything is written, if it can be known before."""
    cache = build_cache(env)
    found = _bases(asked, cache)
    checked = model.load(asked.model or DEMO_MODEL, any_architecture=asked.any_architecture)
    _say_notices(checked)
    checked = model.with_template(checked)
    name = asked.name or checked.name
    outs = _outs(asked, name, [base.manifest.target for base in found])
    order = assemble.Order(
        model=checked,
        base=found[0],
        out=outs[0],
        name=name,
        args=asked.args.strip(),
        draft=adapters.load_draft(asked.draft, checked) if asked.draft else None,
        adapters=(
            *(adapters.load_lora(path, number, checked) for number, path in enumerate(asked.lora, 1)),
            *(adapters.load_control(path, number, checked) for number, path in enumerate(asked.control_vector, 1)),
        ),
        external_weights=asked.external_weights,
        force=asked.force,
        without_gpu=asked.backend == "cpu",
    )
    with ExitStack() as stack:
        if asked.quantize:
            order = stack.enter_context(_quantized(order, asked, cache))
        elif asked.requantize or asked.imatrix:
            raise UsageError(f"{'--requantize' if asked.requantize else '--imatrix'} goes with --quantize TYPE")
        orders = [_fitting(replace(order, base=base, out=out)) for base, out in zip(found, outs, strict=True)]
        for each in orders:
            assemble.check(each)
        assemble.check_room(order.out.parent, sum(each.size for each in orders))
        for each in orders:
            _build_one(each, env, verify=asked.verify)


def _build_one(order: assemble.Order, env: Mapping[str, str], *, verify: bool) -> None:
    with report.progress("copying the weights", order.model.file_size + order.beside) as progress:
        built = assemble.assemble(order, progress)
    if verify:
        with _gone_unless_it_runs(built):
            try_out(Bundle.open(built.out), env)
    context = min(DEFAULT_CONTEXT, order.model.context_length)
    report.summary(built, order.model, context, order.base.manifest.target)


@contextmanager
def _gone_unless_it_runs(built: assemble.Built) -> Iterator[None]:
    """Remove what was written if the block fails: a bundle that does not run must not look finished.

    Weights that lay there before stay."""
    try:
        yield
    except BaseException as error:
        gone = [path.name for path in built.written if _removed(path)]
        if not gone or not isinstance(error, QwenfileError):
            raise
        again = f"{' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} removed again; --no-verify keeps a bundle"
        raise type(error)(error.message, "; ".join(filter(None, (error.remedy, again)))) from error


def _removed(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # on Windows, while a program that was stopped still has it open
        return False
    return True


def _bases(asked: Build, cache: Path) -> list[Bundle]:
    """A base for each target: those asked for, else the one that --base is for, else this machine's."""
    if asked.base is None:
        targets = asked.targets or (host_target(),)
        found = [bases.find(cache, target, folder=asked.bases, backend=asked.backend) for target in targets]
    elif len(asked.targets) > 1:
        raise UsageError("--base names one base, which serves one target", "name a folder of bases with --bases")
    else:
        found = [bases.checked(asked.base, asked.targets[0] if asked.targets else None)]
    for base in found:
        carried = bases.gpu_backend(base)
        if asked.backend not in (None, "cpu", carried):
            remedy = "run build_scripts/build_native.py where its tools are, then 'qwenfile base build'"
            raise UsageError(f"{base.path} carries {carried or 'no GPU backend'}, not {asked.backend}", remedy)
    return found


def _outs(asked: Build, name: str, targets: Sequence[str]) -> list[Path]:
    """The files to write. Several have their targets in their names."""
    if len(targets) == 1:
        return [asked.out or Path(default_name(name, targets[0]))]
    folder = asked.out or Path()
    if not folder.is_dir():
        problem = f"-o {folder} is no folder, and {len(targets)} bundles are to be written"
        raise UsageError(problem, "name a folder that is there")
    return [folder / default_name(f"{name}-{target}", target) for target in targets]


def _say_notices(checked: Model) -> None:
    if len(checked.whole.files) > 1:
        report.say(f"joining {len(checked.whole.files)} shards")
    if checked.foreign:
        report.say(
            f"warning: {checked.architecture} is no Qwen3: only the file was checked, and Qwen3's settings may not fit"
        )
    elif not checked.has_chat_template:
        report.say("note: this model has no chat template; qwenfile's own, of Qwen3's format, is put in")
    elif checked.template == "other":
        report.say("note: the chat template is not Qwen3's; thinking and tools may not work as described")


def _fitting(order: assemble.Order) -> assemble.Order:
    """The order with its weights beside the bundle where the target could not start one that holds them."""
    if order.external_weights or not assemble.needs_external(order):
        return order
    report.say(
        f"note: {order.base.manifest.target} starts no file of {report.size(order.size)}: the weights go into "
        f"{order.out.with_suffix('.gguf').name} beside the bundle, and both belong together"
    )
    return replace(order, external_weights=True)


@contextmanager
def _quantized(order: assemble.Order, asked: Build, cache: Path) -> Iterator[assemble.Order]:
    """The order with a quantized model, which lies beside the output while the bundle is written."""
    given = order.model
    kind = quantize.check(given, asked.quantize or "", requantize=asked.requantize)
    expected = quantize.expected_size(given, kind)
    if asked.imatrix:
        imatrix.check(asked.imatrix, given)
    read = (*given.whole.files, *([asked.imatrix] if asked.imatrix else []))
    smaller = replace(order, inputs=(*order.inputs, *read))
    report.say(f"quantizing to {kind}: a file of up to {report.size(expected)} lies beside the output meanwhile")
    engine = pointed(cache / "engine", host_target())
    libraries = engine / "lib" if engine else None
    base = order.base if order.base.manifest.target == host_target() else None
    if libraries is None and base is None:
        base = bases.find(cache, host_target())  # llama.cpp quantizes on this machine
    with ExitStack() as stack:
        with report.progress("quantizing", sum(given.whole.sizes)) as progress:
            model_file = stack.enter_context(
                quantize.quantized(given, kind, asked.imatrix, order.out, base or order.base, libraries, progress)
            )
        yield replace(smaller, model=model.with_template(replace(model_file, name=given.name)))


def try_out(bundle: Bundle, env: Mapping[str, str]) -> None:
    """Generate a token with a bundle for this system; say plainly when it is for another."""
    if bundle.manifest.target == host_target():
        token = verify.verify_generation(bundle, env)
        report.say(f"verified: loaded its weights and generated a token ({token!r})")
    else:
        report.say(f"not tried out: {bundle.path} is for {bundle.manifest.target}, this machine is {host_target()}")
