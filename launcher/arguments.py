"""argv + baked arguments -> frozen LaunchOptions + arguments for the engine. Imported by the launcher only.

A flag that the table (`launcher.flags`) doesn't name goes to the engine; the engine's own list of flags
(`engine/flags.json` of the bundle, read only when needed) tells how many values it takes, and that it exists at all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.flags import OPTIONS, Option
from launcher.options import Face, LaunchOptions
from runtime.errors import UsageError

# The engine's flags that would fetch a model, start a second server or end this process.
_REFUSED = frozenset({
    "-mu", "--model-url", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft", "--hf-token", "--docker-repo", "-dr",
    "-hfv", "-hfrv", "--hf-repo-v", "-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf", "--models-dir",
    "--models-preset", "--server-base", "-cl", "--cache-list", "--completion-bash", "--usage", "--reuse-port",
})  # fmt: skip

EngineFlags = Callable[[], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class _Word:
    """One word of a command line; `baked`: it comes from the bundle, not from the user."""

    text: str
    baked: bool


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One flag as given, with its values. `options` has a row per meaning (`-p` has two), none if the engine's."""

    name: str
    values: tuple[str, ...]
    options: tuple[Option, ...]
    baked: bool


def parse(argv: Sequence[str], baked: str, engine_flags: EngineFlags) -> LaunchOptions:
    """Read the command line. `baked`: the bundle's arguments, with `...` where the user's go (else they follow).

    Raises UsageError for unknown flags, bad values and contradictions. In `baked`, flags of other faces are ignored.
    """
    settings = list(_settings(_words(argv, baked), engine_flags))
    face, serve = _face(settings)
    fields: dict[str, Any] = {"face": face, "serve": serve}
    sampling: dict[str, float | int] = {}
    engine_args: list[str] = []
    for setting in settings:
        option = next((row for row in setting.options if face in row.faces), None)
        if option is None and serve:
            option = next((row for row in setting.options if Face.SERVER in row.faces), None)
        if option is None and (not setting.options or setting.options[0].engine):
            engine_args += [setting.name, *setting.values]
        elif option is None:
            _check_stray(setting, face)
        elif option.target and option.target != "face":
            value = option.read(setting.name, setting.values[0]) if option.hint else option.value
            if option.target.startswith("sampling."):
                sampling[option.target.removeprefix("sampling.")] = value
            elif option.target == "work" and fields.get("work", value) is not value:
                raise UsageError(f"{fields['work'].value} and {setting.name} contradict each other", "choose one")
            else:
                fields[option.target] = (*fields.get(option.target, ()), value) if option.repeat else value
    return LaunchOptions(**fields, sampling=sampling, engine_args=tuple(engine_args))


def _words(argv: Sequence[str], baked: str) -> list[_Word]:
    user = [_Word(text=word, baked=False) for word in argv]
    if not baked.strip():
        return user
    import shlex

    try:
        defaults = [_Word(text=word, baked=True) for word in shlex.split(baked)]
    except ValueError as error:
        remedy = "mend them with 'qwenfile args FILE --set'"
        raise UsageError(f"the bundle's own arguments cannot be read: {error}", remedy) from None
    place = next((at for at, word in enumerate(defaults) if word.text == "..."), None)
    return [*defaults, *user] if place is None else [*defaults[:place], *user, *defaults[place + 1 :]]


def _settings(words: list[_Word], engine_flags: EngineFlags) -> Iterator[_Setting]:
    """Group words into flags and their values. `--name=value` is `--name value`."""
    rows: dict[str, tuple[Option, ...]] = {}
    for option in OPTIONS:
        for name in option.names:
            rows[name] = (*rows.get(name, ()), option)
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        name, equals, inline = word.text.partition("=") if word.text.startswith("--") else (word.text, "", "")
        if not name.startswith("-") or name in ("-", "--"):
            raise UsageError(f"unexpected argument {word.text!r}", "put a prompt after -p, a model after -m")
        if name.startswith("--"):
            name = name.replace("_", "-")
        options = rows.get(name, ())
        count = int(bool(options[0].hint)) if options else _engine_arity(name, engine_flags)
        values = [inline] if equals else []
        if len(values) > count:
            raise UsageError(f"{name} takes no value")
        if count and not values and options and options[0].optional:
            follows = at < len(words) and (words[at].text == "-" or not words[at].text.startswith("-"))
            values = [] if follows else [options[0].optional]
        while len(values) < count:
            if at == len(words):
                raise UsageError(f"{name} needs a value", f"{name} {options[0].hint}" if options else "")
            values.append(words[at].text)
            at += 1
        yield _Setting(name=name, values=tuple(values), options=options, baked=word.baked)


def _engine_arity(name: str, engine_flags: EngineFlags) -> int:
    if name in _REFUSED:
        raise UsageError(f"{name} does not work in a bundle", "other weights: -m FILE.gguf")
    flags = engine_flags()
    for flag in flags:
        if name in flag["names"]:
            return int(flag["values"])
    import difflib

    known = [known for flag in flags for known in flag["names"] if known not in _REFUSED]
    known += [known for option in OPTIONS for known in option.names]
    near = difflib.get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.6)
    remedy = f"did you mean {' or '.join(near)}?" if near else "see --help and --help-engine"
    raise UsageError(f"unknown option {name}", remedy)


def _face(settings: list[_Setting]) -> tuple[Face, bool]:
    """The face, and whether the chat is to serve as well (`--chat --server`)."""

    def said(*, baked: bool) -> list[Face]:
        return [row.value for each in settings for row in each.options if row.target == "face" and each.baked is baked]

    user = said(baked=False)
    if set(user) == {Face.CHAT, Face.SERVER}:
        return Face.CHAT, True
    if len(set(user)) > 1:
        names = " and ".join(face.value for face in dict.fromkeys(user))
        raise UsageError(f"{names} contradict each other", "choose one")
    return [Face.CHAT, *said(baked=True), *user][-1], False


def _check_stray(setting: _Setting, face: Face) -> None:
    """A flag of another face: meant for that one if baked, a mistake if the user's."""
    if not setting.baked:
        homes = " or ".join(home.value for home in Face if any(home in row.faces for row in setting.options))
        raise UsageError(f"{setting.name} means nothing with {face.value}", f"it belongs to {homes}")
