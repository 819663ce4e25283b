from pathlib import Path
from typing import Any

import pytest

from launcher.arguments import parse
from launcher.flags import OPTIONS
from launcher.help import engine_help, face_help
from launcher.options import Action, Face, LaunchOptions
from runtime.errors import UsageError

ENGINE_FLAGS: list[dict[str, Any]] = [
    {"names": ["-b", "--batch-size"], "values": 1, "value_hint": "N", "help": "logical maximum batch size"},
    {"names": ["--metrics"], "values": 0, "value_hint": "", "help": "enable metrics"},
    {"names": ["--control-vector-layer-range"], "values": 2, "value_hint": "START", "help": "layers"},
    {"names": ["-hf", "--hf-repo"], "values": 1, "value_hint": "REPO", "help": "download"},
]


def read(*argv: str, baked: str = "") -> LaunchOptions:
    return parse(argv, baked, lambda: ENGINE_FLAGS)


def no_engine_flags() -> list[dict[str, Any]]:
    raise AssertionError("the engine's flags were read without need")


def test_no_arguments_is_the_chat() -> None:
    assert parse((), "", no_engine_flags) == LaunchOptions(face=Face.CHAT)


def test_our_flags_need_no_engine_flags() -> None:
    options = parse(
        ("--cli", "-p", "hi", "-n", "5", "--temp", "0.5", "--seed", "7", "-c", "4096", "-t", "2"), "", no_engine_flags
    )
    assert (options.face, options.prompt, options.predict) == (Face.CLI, "hi", 5)
    assert (options.context, options.threads) == (4096, 2)
    assert options.sampling == {"temperature": 0.5, "seed": 7}
    assert options.engine_args == ()


def test_the_prompt_is_the_system_prompt_in_the_chat() -> None:
    assert read("-p", "Be brief.").system == "Be brief."
    assert read("--cli", "-p", "Hi", "-sys", "Be brief.").prompt == "Hi"


def test_values_may_follow_an_equals_sign_and_may_look_like_flags() -> None:
    assert read("--cli", "--prompt=a=b", "--temp=0.1").prompt == "a=b"
    assert read("--cli", "-p", "--server").prompt == "--server"
    assert read("--cli", "-p", "-").prompt == "-"
    assert read("--top_k", "5").sampling == {"top_k": 5}


def test_repeated_flags_collect_or_the_last_one_wins() -> None:
    assert read("--cli", "-f", "a", "-f", "b").files == (Path("a"), Path("b"))
    assert read("--temp", "1", "--temp", "2").sampling == {"temperature": 2.0}


def test_unknown_flags_go_to_the_engine_with_their_values() -> None:
    options = read("--server", "-b", "64", "--metrics", "--control-vector-layer-range", "1", "2", "--port", "9000")
    assert options.engine_args == ("-b", "64", "--metrics", "--control-vector-layer-range", "1", "2")
    assert options.port == 9000
    assert read("--batch_size=64").engine_args == ("--batch-size", "64")


def test_a_flag_that_nobody_knows_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown option --batch-sise \(did you mean --batch-size"):
        read("--batch-sise", "3")
    with pytest.raises(UsageError, match="--help"):
        read("--zzzzzzzzzz")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--cli", "--server"), "--cli and --server contradict each other"),
        (("--json",), "--json means nothing with --chat"),
        (("--server", "-p", "x"), "-p means nothing with --server"),
        (("--cli", "-p"), "-p needs a value"),
        (("-b",), "-b needs a value"),
        (("hello",), "unexpected argument 'hello'"),
        (("-",), "unexpected argument '-'"),
        (("-n", "0"), "-n 0 is out of range"),
        (("-n", "-2"), "-n -2 is out of range"),
        (("-n", "many"), "-n needs a whole number, not 'many'"),
        (("--temp", "-1"), "--temp -1 is out of range"),
        (("--temp", "nan"), "--temp nan is out of range"),
        (("--top-p", "1.5"), "use 0 to 1"),
        (("--server", "--port", "70000"), "use 0 to 65535"),
        (("--metrics=1",), "--metrics takes no value"),
        (("--nologo=yes",), "--nologo takes no value"),
        (("-hf", "a/b"), "-hf does not work in a bundle"),
        (("-m", ""), "-m needs the name of a file"),
        (("--cli", "-p", "a\udcffb"), "not UTF-8"),
    ],
)
def test_mistakes_are_usage_errors(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError) as error:
        read(*argv)
    assert words in str(error.value)


def test_baked_arguments_come_first_so_that_the_users_win() -> None:
    options = read("--temp", "0.9", baked="--temp 0.1 -c 1024 -p 'You are a cat.'")
    assert (options.sampling, options.context, options.system) == ({"temperature": 0.9}, 1024, "You are a cat.")


def test_three_dots_mark_where_the_users_arguments_go() -> None:
    options = read("--temp", "0.9", "--top-k", "3", baked="--top-k 1 ... --temp 0.1")
    assert options.sampling == {"top_k": 3, "temperature": 0.1}


def test_a_baked_face_gives_way_to_the_users() -> None:
    assert read(baked="--server").face is Face.SERVER
    assert read("--cli", "-p", "x", baked="--server").face is Face.CLI


def test_baked_flags_of_another_face_are_left_out() -> None:
    options = read(baked="--port 9000 --json --nologo")
    assert (options.port, options.json, options.logo) == (None, False, False)


def test_broken_baked_arguments_are_named() -> None:
    with pytest.raises(UsageError, match="bundle's own arguments"):
        read(baked="-p 'unclosed")


def test_llamafiles_harmless_flags_are_accepted() -> None:
    assert read("--simple-io", "--no-display-prompt").engine_args == ()
    assert read("--cli", "-no-cnv", "-p", "x").raw


@pytest.mark.parametrize("flag", ["--version", "--help", "-h", "--licenses", "--help-engine", "--list-devices"])
def test_actions(flag: str) -> None:
    assert read(flag).action is not Action.RUN


def test_thinking_is_unsaid_by_default() -> None:
    assert read().thinking is None
    assert read("--think").thinking is True
    assert read("--nothink").thinking is False


def test_no_two_rows_of_one_face_share_a_name() -> None:
    for face in Face:
        names = [name for option in OPTIONS if face in option.faces for name in option.names]
        assert len(names) == len(set(names))


def test_rows_set_fields_that_exist() -> None:
    fields = LaunchOptions.__dataclass_fields__
    for option in OPTIONS:
        assert not option.target or option.target.split(".")[0] in fields


@pytest.mark.parametrize("face", Face)
def test_help_fits_on_a_screen_and_names_what_the_face_takes(face: Face) -> None:
    lines = face_help(face, "qwen3.run", "Qwen3-0.6B").splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 110
    assert ("--raw" in "\n".join(lines)) is (face is Face.CLI)
    assert ("--port" in "\n".join(lines[8:])) is (face is Face.SERVER)


def test_engine_help_has_every_flag() -> None:
    assert "-b, --batch-size N\n        logical maximum batch size\n" in engine_help(ENGINE_FLAGS)
