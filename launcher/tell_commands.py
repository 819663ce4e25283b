"""The slash commands that tell something, or carry the conversation out of the chat. Imported by `launcher.commands`
only."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.conversation import ASSISTANT, is_words
from launcher.settings import model_facts, model_name, reach
from runtime.errors import UsageError
from runtime.presets import native_context

if TYPE_CHECKING:
    from launcher.archive import Archive
    from launcher.chat import Chat
    from launcher.client import Timings

_BAR = 36  # with its ends it stands in a terminal of 40 columns
_LISTED = 20


def stats(chat: "Chat", _argument: str) -> None:
    numbers = chat.statistics
    if numbers.last is None:
        chat.ui.show("no turn so far" + (f"\ncomputed by {numbers.computing}" if numbers.computing else ""))
        return
    lines = ["last turn", *_costs(numbers.last.timings)]
    if numbers.first_token_ms:
        lines.append(f"  first token after {numbers.first_token_ms[-1] / 1000:.2f} s")
    if numbers.turns > 1:
        lines += [f"session, {numbers.turns} turns", *_costs(numbers.session)]
        middle = sorted(numbers.first_token_ms)[len(numbers.first_token_ms) // 2]
        lines.append(f"  first token after {middle / 1000:.2f} s (median)")
    if numbers.computing:
        lines.append(f"computed by {numbers.computing}")
    chat.ui.show("\n".join(lines))


def _costs(timings: "Timings") -> list[str]:
    """Rows for prompt and generation, with rates; for a draft model, how often it was right."""
    rows = [
        f"  prompt     {timings.prompt:>7,} tokens {_rate(timings.prompt, timings.prompt_ms)}, "
        f"{timings.cached:,} more from cache",
        f"  generation {timings.generated:>7,} tokens {_rate(timings.generated, timings.generated_ms)}",
    ]
    if timings.guessed:
        share = 100 * timings.accepted / timings.guessed
        rows.append(f"  draft      {timings.accepted:>7,} of {timings.guessed:,} guesses were right ({share:.0f} %)")
    return rows


def _rate(tokens: int, milliseconds: float) -> str:
    rate = f"{tokens * 1000 / milliseconds:,.1f}" if milliseconds > 0 else "-"
    return f"in {milliseconds / 1000:.2f} s, {rate} tokens/s"


def context(chat: "Chat", _argument: str) -> None:
    used, size = chat.used(), chat.context_size
    turns = chat.conversation.exchanges()
    filled = min(_BAR, round(_BAR * used / size)) if size else 0
    system = chat.model.tokens(chat.system) if chat.system else 0
    files = [turn for turn in chat.turns if turn.file]
    in_files = sum(chat.model.tokens(turn.content) for turn in files)
    lines = [
        f"[{'#' * filled}{'.' * (_BAR - filled)}]",
        f"  used     {used:>7,} of {size:,} tokens ({turns} turn{'s' * (turns != 1)})",
        f"  system   {system:>7,}",
        f"  files    {in_files:>7,}" + (f" ({', '.join(turn.file for turn in files)})" if files else ""),
        f"  history  {max(0, used - system - in_files):>7,}",
        f"  free     {max(0, size - used):>7,}",
        _more(chat),
    ]
    chat.ui.show("\n".join(filter(None, lines)))


def _more(chat: "Chat") -> str:
    """What a larger -c would give."""
    options, manifest, size = chat.settings.options, chat.settings.manifest, chat.context_size
    most = reach(options, manifest)
    if most and size >= most:
        return f"  this is all that the model can use ({most:,})"
    wanted = min(2 * size, most or 2 * size)
    facts = model_facts(options, manifest)
    native = most if facts.get("yarn_context") else native_context(facts.get("context_length"))
    stretched = " by YaRN" if native < most else ""
    known = f" (the model takes up to {most:,}{stretched}: -c {most})" if most else ""
    return f"  start with -c {wanted} for {wanted - size:,} more{known}"


def show(chat: "Chat", _argument: str) -> None:
    turns = chat.next_turn()
    values, origins = chat.settings.request(turns), chat.settings.origins(turns)
    rows = [f"  {name:<18}{values[name]:<12.10g}{origin}" for name, origin in origins.items()]
    mode = "thinking" if chat.settings.thinks(turns) else "not thinking"
    chat.ui.show("\n".join([f"the next turn, {mode}:", *rows]))


def dump(chat: "Chat", _argument: str) -> None:
    if not chat.messages():
        raise UsageError("there is no prompt yet", "say something first")
    chat.ui.exact(chat.model.render(chat.messages(), chat.request()))


def save(chat: "Chat", argument: str) -> None:
    archive = _archive(chat)
    if argument:
        archive.rename(argument)
    if not archive.name:
        raise UsageError("there is nothing to save yet")
    chat.ui.show(f"saved as {archive.name}; /load {archive.name} or --resume goes on with it")


def load(chat: "Chat", argument: str) -> None:
    archive = _archive(chat)
    conversation, same = archive.open(archive.find(argument))
    chat.conversation = conversation
    chat.pending = None
    copied = "" if same else ", in a copy"
    turns = conversation.exchanges()
    used = f"{chat.used():,} of {chat.context_size:,} tokens used"
    chat.ui.show(f"loaded {turns} turn{'s' * (turns != 1)}{copied}; {used}")
    chat.prepare()


def sessions(chat: "Chat", _argument: str) -> None:
    archive = _archive(chat)
    rows = []
    for each in archive.saved()[:_LISTED]:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.modified))
        mark = "*" if each.name == archive.name else " "
        turns = f"{each.turns} turn{'s' * (each.turns != 1)}"
        rows.append(f"{mark} {each.name:<20}  {when}  {turns:>9}  {each.title[:60]}")
    chat.ui.show("\n".join(rows) or "no conversation is saved")


def _archive(chat: "Chat") -> "Archive":
    if chat.archive is None:
        raise UsageError("conversations are not kept here", "/export writes this one into a file")
    return chat.archive


def export(chat: "Chat", argument: str) -> None:
    path = Path(argument).expanduser()
    match path.suffix.lower():
        case ".md":
            text = _markdown(chat)
        case ".json":
            text = _json(chat)
        case _:
            raise UsageError(f"{path.name} says no format", "end the name with .md or .json")
    try:
        with path.open("x", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already", "choose another name") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
    chat.ui.show(f"written {path}")


def _markdown(chat: "Chat") -> str:
    parts = [f"# Conversation with {model_name(chat.settings.options, chat.settings.manifest)}"]
    if chat.system:
        parts.append(f"## System\n\n{chat.system}")
    for turn in chat.turns:
        if turn.file:
            parts.append(f"## File {turn.file}\n\n{turn.content}")
        else:
            head = "## You" if is_words(turn) else "## " + ("Answer (interrupted)" if turn.interrupted else "Answer")
            parts.append(f"{head}\n\n{turn.content}")
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _json(chat: "Chat") -> str:
    facts = {"model": model_name(chat.settings.options, chat.settings.manifest), "messages": chat.messages()}
    return json.dumps(facts, ensure_ascii=False, indent=2) + "\n"


def copy(chat: "Chat", _argument: str) -> None:
    last = next((turn for turn in reversed(chat.turns) if turn.role == ASSISTANT), None)
    if last is None:
        raise UsageError("there is no answer yet")
    chat.ui.copy(last.content)
    chat.ui.show(f"copied {len(last.content):,} characters, if your terminal allows it")


def serve(chat: "Chat", argument: str) -> None:
    if chat.door is None:
        raise UsageError("nothing can be served here")
    port = None
    if argument:
        if not argument.isdecimal() or int(argument) > 65_535:
            raise UsageError(f"{argument!r} is no port", "use 0 to 65535; 0 picks one")
        port = int(argument)
    url = chat.door.open(port)
    chat.ui.show(f"page  {url}\nAPI   {url}/v1\nas long as this chat runs")
