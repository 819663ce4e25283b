"""--tokenize and --count-tokens: the vocabulary alone is loaded, nothing is computed. Imported by the launcher only."""

import json
from typing import TYPE_CHECKING, Any

from launcher.console import Console
from launcher.crash import tell_crashes
from launcher.options import LaunchOptions, Work
from launcher.session import Place, explain
from launcher.texts import check_files, read_prompt
from launcher.unpack import unpack_engine
from runtime.bundle import MODEL
from runtime.engine import Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(options: LaunchOptions, place: Place, console: Console) -> int:
    """Print the tokens of the text as it is given, without the chat template, or only their number."""
    check_files(options.files)
    engine = open_vocabulary(options, place)
    tokens = engine.tokenize(read_prompt(options, console, lambda _: None))
    if options.work is Work.COUNT_TOKENS:
        console.answer(json.dumps({"count": len(tokens)}) + "\n" if options.json else f"{len(tokens)}\n")
    elif options.json:
        told = [{"id": token, **_as_json(engine.piece(token))} for token in tokens]
        console.answer(json.dumps({"count": len(tokens), "tokens": told}, ensure_ascii=False) + "\n")
    else:
        console.answer(_table(engine, tokens))
    return 0


def open_vocabulary(options: LaunchOptions, place: Place) -> Engine:
    """An engine that can only tokenize. Raises ModelError if the model is missing or broken."""
    engine = Engine(unpack_engine(place.bundle, place.cache))
    tell_crashes(place.bundle.path.stem, engine.last_words)
    engine.verbose(options.verbose)
    name = MODEL
    if place.weights is not None:
        name = str(place.weights)
    else:
        engine.add_model(MODEL, place.bundle.path, place.bundle.require(MODEL).offset)
    try:
        engine.load_vocabulary(name)
    except EngineError:
        raise explain(engine.error_lines(), None) from None
    return engine


def _table(engine: Engine, tokens: "Sequence[int]") -> str:
    """A line a token: its number and its text, written as JSON so that spaces and new lines are seen."""
    lines = [f"{token:>7}  {_shown(engine.piece(token))}\n" for token in tokens]
    return "".join(lines) + f"{len(tokens)} tokens\n"


def _as_json(piece: bytes) -> dict[str, Any]:
    """A token's text; its bytes where they are no whole characters."""
    try:
        return {"text": piece.decode()}
    except UnicodeDecodeError:
        return {"bytes": list(piece)}


def _shown(piece: bytes) -> str:
    try:
        return json.dumps(piece.decode(), ensure_ascii=False)
    except UnicodeDecodeError:
        return " ".join(f"0x{byte:02x}" for byte in piece)
