"""Face 1: the chat in a terminal. Imported by `launcher.__main__` only.

The engine loads on its thread while prompt_toolkit is imported here; rich follows while the person reads the banner.
"""

import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.banner import LEAVE_HINT, banner
from launcher.computing import computing
from launcher.console import Console, keys_unseen
from launcher.options import LaunchOptions
from launcher.session import Place, Session, find_weights
from launcher.settings import model_name
from launcher.texts import system_prompt
from runtime.bundle import ARGS, ENGINE_PREFIX, Bundle
from runtime.errors import CacheError, QwenfileError
from runtime.paths import state_dir

if TYPE_CHECKING:
    from launcher.archive import Archive
    from launcher.chat import Chat
    from launcher.pastes import Pastes
    from launcher.prompt import Prompt


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Talk until the person leaves. Returns the exit code."""
    place = find_weights(options, place)
    options = replace(options, system=system_prompt(options), system_file=None)
    notices: list[str] = []  # for below the banner
    with keys_unseen(), Session.start(options, place, tell=notices.append) as session:
        from launcher.painter import warm_up
        from launcher.pastes import Pastes
        from launcher.prompt import history, prompt_session

        folder = _state_folder(options, place, console)
        archive = _archive(options, place, console, folder)
        pastes = Pastes()
        file = folder / "history" if folder else None
        past = history(file, lambda reason: console.complain(f"your input's history is not kept: {reason}"))
        prompt = prompt_session(past, pastes, archive.names if archive else list, colour=console.colour)
        chat = _open_chat(options, place, console, session, archive, notices)
        threading.Thread(target=warm_up, daemon=True).start()
        try:
            _talk(chat, prompt, pastes, session, console)
        except Exception:
            console.say("")  # it may have failed in the middle of a line
            raise
    return 0


def _archive(options: LaunchOptions, place: Place, console: Console, folder: Path | None) -> "Archive | None":
    from launcher.archive import Archive

    if folder is None:
        return None
    name = model_name(options, place.bundle.manifest)
    return Archive(
        folder / "sessions", name, lambda reason: console.complain(f"the conversation is not saved: {reason}")
    )


def _open_chat(
    options: LaunchOptions,
    place: Place,
    console: Console,
    session: Session,
    archive: "Archive | None",
    notices: Sequence[str],
) -> "Chat":
    """The chat, when the engine is ready, with the banner shown and files and an earlier conversation in it."""
    from launcher import terminal_ui
    from launcher.ahead import Reader
    from launcher.chat import Chat
    from launcher.doorway import Doorway
    from launcher.files import add
    from launcher.tell_commands import load
    from launcher.turn_settings import TurnSettings

    client = session.ready()
    size = client.context_size()
    door = Doorway(client=client, env=place.env, browser=options.browser)
    chat = Chat(
        Reader(client),
        terminal_ui.make(console, ascii_only=options.ascii),
        TurnSettings(options=options, manifest=place.bundle.manifest, baked=_baked_sampling(place.bundle)),
        size,
        archive=archive,
        door=door,
    )
    chat.statistics.computing = computing(session.layers(), options)
    if options.logo:
        console.say(banner(options, place.bundle.manifest, session, chat.used(), size))
    for notice in notices:
        console.say(notice)
    if options.resume:
        earlier = archive.saved() if archive else []
        if earlier:
            load(chat, earlier[0].name)
            if options.system and options.system != chat.system:
                chat.conversation.set_system(options.system)
        else:
            console.say("there is no conversation to resume")
    for path in options.files:
        add(chat, path, truncate=options.truncate)
    if options.serve:
        console.say(f"page  {door.open(options.port)}")
    chat.prepare()
    return chat


def _talk(chat: "Chat", prompt: "Prompt", pastes: "Pastes", session: Session, console: Console) -> None:
    """Read and answer until Ctrl-D or /exit. Raises what ended the engine."""
    from launcher.pastes import unquote
    from launcher.prompt import ask

    while True:
        try:
            text = ask(prompt)
        except KeyboardInterrupt:
            console.say(LEAVE_HINT)
            continue
        except EOFError:
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)  # prompt_toolkit had its own
        try:
            if not chat.handle(pastes.expand(unquote(text))):
                return
        except KeyboardInterrupt:
            console.say("")
        except QwenfileError as error:
            chat.ui.turn_over(interrupted=False)
            session.check()
            console.complain(str(error))


def _baked_sampling(bundle: Bundle) -> Mapping[str, float | int]:
    """The sampling values that the bundle's own arguments set."""
    if bundle.manifest.member(ARGS) is None:
        return {}
    import json

    from launcher.arguments import parse

    baked = bundle.read(ARGS).decode(errors="replace")
    return parse((), baked, lambda: list(json.loads(bundle.read(ENGINE_PREFIX + "flags.json")))).sampling


def _state_folder(options: LaunchOptions, place: Place, console: Console) -> Path | None:
    """Where history and conversations are kept; None, with one complaint unless that was wanted, for nowhere."""
    if not options.history:
        return None
    try:
        folder = state_dir(place.env)
        (folder / "sessions").mkdir(mode=0o700, exist_ok=True)
    except (CacheError, OSError) as error:
        console.complain(f"history and conversations will not be kept: {error}")
        return None
    return folder
