"""What runs inside a bundle: read the command line, pick the face, turn errors into one line and an exit code.

Imported by the frozen program's entry script only. Faces and what they need are imported when they are chosen, so
`--version` pays for nothing but the manifest.
"""

import contextlib
import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from launcher.arguments import parse
from launcher.console import Console, forget_stdout
from launcher.options import Action, Face, LaunchOptions
from launcher.signals import ReaderLeft, Terminated, own_signals
from runtime.bundle import ARGS, ENGINE_PREFIX, Bundle
from runtime.errors import ExitCode, QwenfileError, UsageError

if TYPE_CHECKING:
    from launcher.session import Place

TRY_GPU = "--try-gpu"
# The stub says by this variable which bundle started it.
BUNDLE_VARIABLE = "QWENFILE_BUNDLE"
_BY_SIGNAL = 128
_HANGUP = 1  # SIGHUP, which Windows has not
_NOBODY_READS = 128 + 13


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bundle named by QWENFILE_BUNDLE and return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == [TRY_GPU]:  # launcher.verdict starts this program so
        from launcher import verdict

        return verdict.main(words[1:])
    file = os.environ.pop(BUNDLE_VARIABLE, "")
    console = Console.of_process(os.environ, Path(file).stem or "qwen3")
    code: int = ExitCode.FAILURE
    try:
        code = _guarded(words, file, console)
    finally:
        if "runtime.engine" in sys.modules:
            _leave(code)
    return code


def _guarded(words: Sequence[str], file: str, console: Console) -> int:
    """The only place that catches errors. A signal that comes while one is told has the last word."""
    debug = "--debug" in words
    conversed = console.interactive
    try:
        try:
            if not debug:
                _one_line_only()
            own_signals()
            return _run(words, file, console, os.environ)
        except BrokenPipeError:
            raise
        except Exception as error:
            if conversed and not console.interactive:  # the window was closed, which SIGHUP need not have told yet
                return _BY_SIGNAL + _HANGUP
            return _told(error, console, debug=debug)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Terminated as end:
        return _BY_SIGNAL + end.number
    except (BrokenPipeError, ReaderLeft):
        forget_stdout()
        return _NOBODY_READS


def _told(error: Exception, console: Console, *, debug: bool) -> int:
    """Say what went wrong, if anybody can hear it; returns the exit code."""
    known = error if isinstance(error, QwenfileError) else _shortage(error)
    if known is None:
        known = QwenfileError(f"unexpected {type(error).__name__}: {error} (--debug shows where)")
    with contextlib.suppress(OSError):
        if debug:
            import traceback

            traceback.print_exception(error)
        console.complain(str(known))
    return known.exit_code


def _shortage(error: Exception) -> QwenfileError | None:
    """The failure as lack of memory, if it is that: Python says so in two ways."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        return QwenfileError("memory ran out", "close other programs, or choose a smaller -c")
    return None


def _one_line_only() -> None:
    """What fails where nobody catches it, in a thread or a finalizer, isn't shown: `main` has the last word."""
    import threading

    sys.unraisablehook = lambda _failure: None
    threading.excepthook = lambda _failure: None


def _leave(code: int) -> NoReturn:
    """End the process without tearing the interpreter down: the engine's threads may be in the middle of C code,
    and giving back memory piece by piece takes longer than letting the system take all of it."""
    try:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.flush()
    finally:
        os._exit(code)


def _run(words: Sequence[str], file: str, console: Console, env: MutableMapping[str, str]) -> int:
    if not file:
        raise UsageError(f"{BUNDLE_VARIABLE} names no bundle", "start the bundle itself, not its launcher")
    bundle = Bundle.open(Path(file))
    baked = bundle.read(ARGS).decode(errors="replace") if bundle.manifest.member(ARGS) else ""
    options = parse(words, baked, lambda: engine_flags(bundle))
    if options.action is Action.SHOW_SETTINGS:
        from launcher.origins import show_settings

        user = parse((options.face.value, *words), "", lambda: engine_flags(bundle))
        own = parse((), baked, lambda: engine_flags(bundle))
        if options.model is not None:
            from launcher.session import find_weights

            bundle = find_weights(options, _place(bundle, env)).bundle
        console.answer(show_settings(options, user, own, bundle))
        return ExitCode.OK
    if options.shell is not None:
        from launcher.completion import script

        console.answer(script(options.shell, bundle.path.name))
        return ExitCode.OK
    if options.action is not Action.RUN:
        return _inform(options, bundle, console, env)
    if options.face is Face.CHAT and not words and console.unattended:
        from dataclasses import replace

        options = replace(options, face=Face.SERVER)  # a click on the icon: the page is the chat then
    if options.face is Face.SERVER and options.api_key is None and env.get("LLAMA_API_KEY"):
        from dataclasses import replace

        options = replace(options, api_key=env["LLAMA_API_KEY"])
    place = _place(bundle, env)
    if options.face is Face.SERVER:
        from launcher import server

        return server.run(options, place, console)
    if options.face is Face.CHAT and console.interactive:
        from launcher import repl

        return repl.run(options, place, console)
    from launcher import cli

    return cli.run(options, place, console)


def _place(bundle: Bundle, env: MutableMapping[str, str]) -> "Place":
    """Where the bundle runs. A frozen launcher lies in the run cache that the stub has judged already."""
    from launcher.session import Place, forget_engine_settings

    forget_engine_settings(env)
    if getattr(sys, "frozen", False):
        from launcher.tidy import hold

        own = Path(sys.executable).parent
        hold(own)
        return Place(bundle=bundle, cache=own.parent, env=env)
    from runtime.paths import run_cache

    return Place(bundle=bundle, cache=run_cache(env), env=env)


def _inform(options: LaunchOptions, bundle: Bundle, console: Console, env: MutableMapping[str, str]) -> int:
    """--version and the like: print and leave."""
    if options.action is Action.VERSION:
        console.answer(version_line(bundle) + "\n")
        return ExitCode.OK
    from launcher import help as texts

    match options.action:
        case Action.HELP if options.face is Face.CLI and not options.verbose:
            console.answer(texts.cli_help(bundle.path.name, bundle.manifest.name))
        case Action.HELP:
            console.answer(texts.face_help(options.face, bundle.path.name, bundle.manifest.name))
        case Action.HELP_ENGINE:
            console.answer(texts.engine_help(engine_flags(bundle)))
        case Action.LICENSES:
            console.answer(texts.licenses(bundle))
        case Action.LIST_DEVICES:
            from launcher.devices import show_devices

            show_devices(_place(bundle, env), console, verbose=options.verbose)
        case Action.INSTALL_DESKTOP:
            from launcher import desktop

            console.answer(f"in the menu as {bundle.manifest.name}: {desktop.install(bundle, env)}\n")
        case Action.UNINSTALL_DESKTOP:
            from launcher import desktop

            removed = desktop.uninstall(bundle, env)
            console.answer(f"removed {removed}\n" if removed else "there was no menu entry\n")
    return ExitCode.OK


def version_line(bundle: Bundle) -> str:
    """qwenfile, the model, the engine and the target, with their versions."""
    manifest = bundle.manifest
    kind = (manifest.model or {}).get("quantization")
    model = f"model {manifest.name}" + (f" ({kind})" if kind else "") if manifest.model else "no model"
    engine = str(manifest.engine.get("llama_cpp", "unknown"))[:7]
    return f"qwenfile {manifest.qwenfile}, {model}, llama.cpp {engine}, target {manifest.target}"


def engine_flags(bundle: Bundle) -> list[dict[str, Any]]:
    """The engine's own flags, as the build took them down."""
    import json

    flags: list[dict[str, Any]] = json.loads(bundle.read(ENGINE_PREFIX + "flags.json"))
    return flags


if __name__ == "__main__":
    raise SystemExit(main())
