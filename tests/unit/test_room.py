"""Whether a model fits into memory, and what is said when it doesn't."""

from dataclasses import replace
from typing import Any

import pytest

from bundler import memory as inspection
from launcher import room
from launcher.settings import EngineCommand
from runtime.errors import QwenfileError
from runtime.memory import Cache, Fit, MachineMemory, Shape, estimate, judge, largest_context

GB = 10**9
# Qwen3-8B in Q8_0, whose types no x86 kernel rearranges
SHAPE = Shape(
    layers=36, hidden=4096, heads=32, kv_heads=8, key_length=128, value_length=128, feed_forward=12_288,
    vocabulary=151_936, weights=8_700_000_000, matrices={"Q8_0": 8_000_000_000},
)  # fmt: skip
MIB = 2**20


def check(
    available: int, *args: str, shape: Shape = SHAPE, context: int = 8192, slots: int = 1, **options: Any
) -> room.Verdict:
    """`context`: of each slot."""
    machine = MachineMemory(total=2 * available, available=available)
    settings: dict[str, Any] = {"private": True, "force": False, "draft": None, **options}
    draft = settings.pop("draft")
    told = EngineCommand(args=("--parallel", str(slots), *args), context=context * slots, slots=slots)
    return room.check({"shape": shape.facts()}, draft, told, machine=machine, **settings)


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(QwenfileError) as caught:
        check(*args, **options)
    return str(caught.value)


def suggested(message: str, flag: str = "-c") -> int:
    return int(message.split(f"{flag} ")[1].split()[0])


def test_the_cache_is_exact() -> None:
    assert estimate(SHAPE, Cache(context=8192)).cache == 1152 * MIB
    assert estimate(SHAPE, Cache(context=8000)).cache == 1152 * MIB  # cells come by 256
    assert estimate(SHAPE, Cache(context=8192, keys="q8_0", values="q8_0")).cache == 612 * MIB
    assert estimate(SHAPE, Cache(context=8192, keys="q8_0")).cache == (306 + 576) * MIB


def test_rearranged_weights_are_counted_once_and_a_tied_embedding_twice() -> None:
    shape = replace(SHAPE, weights=100, matrices={"Q4_0": 60}, tied={"Q4_0": 30})
    need = estimate(shape, Cache(context=256), frozenset({"Q4_0"}))
    assert (need.mapped, need.copied) == (40, 90)


def test_enough_is_silent() -> None:
    assert check(11 * GB) == room.Verdict()


def test_too_little_says_what_is_needed_what_is_free_and_what_fits() -> None:
    message = refusal(10 * GB)
    assert message.startswith("this needs 10.03 GB of memory (weights 8.70 GB, 8,192 tokens of context 1.21 GB,")
    assert "10.00 GB are free" in message
    assert "-ctk q8_0 -ctv q8_0" in message
    assert "--force" in message
    fitting = suggested(message)
    assert 7000 < fitting < 8192
    assert check(10 * GB, context=fitting) == room.Verdict()
    with pytest.raises(QwenfileError):
        check(10 * GB, context=fitting + 256)


def test_a_smaller_cache_type_is_seen() -> None:
    assert check(10 * GB, "-ctk", "q8_0", "--cache-type-v", "q8_0") == room.Verdict()


def test_weights_larger_than_memory_run_from_their_file() -> None:
    verdict = check(4 * GB)
    assert "read from the disk again and again" in verdict.notice
    assert verdict.args == ()
    rearranged = replace(SHAPE, matrices=dict.fromkeys(room._ALL_TYPES, 8 * GB))
    assert check(4 * GB, shape=rearranged).args == ("--no-repack",)


def test_a_context_larger_than_memory_does_not() -> None:
    with pytest.raises(QwenfileError, match=r"-c 19\d\d\d fits"):
        check(3 * GB, context=32_768)


def test_nothing_fits() -> None:
    with pytest.raises(QwenfileError, match="close other programs"):
        check(60_000_000)


def test_force_goes_on_with_a_notice() -> None:
    notice = check(10 * GB, force=True).notice
    assert notice.startswith(
        "10.00 GB of memory are free for weights of 8.70 GB and 1.33 GB more: the context does not"
    )
    assert f"-c {suggested(refusal(10 * GB))} fits" in notice
    assert "disk" not in notice


@pytest.mark.parametrize("tokens", ["2048", "4096"])
def test_what_is_said_to_fit_fits_with_batches_of_another_size(tokens: str) -> None:
    fitting = suggested(refusal(12 * GB, "-ub", tokens, context=100_000))
    assert check(12 * GB, "-ub", tokens, context=fitting) == room.Verdict()
    refusal(12 * GB, "-ub", tokens, context=fitting + 256)


def test_of_several_conversations_each_has_to_fit() -> None:
    message = refusal(12 * GB, slots=8)
    assert "8 x 8,192 tokens of context 9.66 GB" in message
    fitting, fewer = suggested(message), suggested(message, "--parallel")
    assert fitting % 256 == 0
    assert check(12 * GB, slots=8, context=fitting) == check(12 * GB, slots=fewer) == room.Verdict()
    refusal(12 * GB, slots=8, context=fitting + 256)
    refusal(12 * GB, slots=fewer + 1)


def test_a_draft_counts_and_its_context_shrinks_with_the_models() -> None:
    draft = {"shape": replace(SHAPE, weights=GB).facts()}
    assert "the draft model 2.33 GB" in refusal(11 * GB, draft=draft)
    message = refusal(11 * GB, draft=draft, context=32_768)
    assert "--no-draft" in message
    assert "close other programs" not in message
    fitting = suggested(message)
    assert check(11 * GB, draft=draft, context=fitting) == room.Verdict()
    refusal(11 * GB, draft=draft, context=fitting + 256)


def test_the_drafts_cache_is_f16_whatever_the_models_is() -> None:
    cache = Cache(context=8192, keys="q8_0", values="q8_0")
    assert estimate(SHAPE, cache, draft=SHAPE).cache == (612 + 1152) * MIB


@pytest.mark.parametrize(
    ("available", "context", "total", "words"),
    [
        (11, 8192, 12, "fits"),
        (10, 8192, 12, "fits once memory is freed"),
        (6, 8192, 12, "fits once memory is freed"),
        (6, 8192, 8, "reads weights from disk all the time"),
        (9, 131_072, 24, "too large"),
        (23, 131_072, 23.7, "too large"),
        (1, 8192, 8, "too large until memory is freed"),
        (0, 8192, 8, ""),
    ],
)
def test_inspect_says_what_the_launcher_does(available: int, context: int, total: float, words: str) -> None:
    need = estimate(SHAPE, Cache(context=context))
    machine = MachineMemory(total=round(total * GB), available=available * GB)
    assert inspection.verdict(need, machine) == words
    if words.startswith("too large") or words == "fits once memory is freed":
        assert (judge(need, machine.available) is Fit.NOT) is (available != 6)


def test_weights_that_fit_unless_rearranged_are_mapped() -> None:
    shape = replace(SHAPE, tied={"Q4_0": GB})
    need = estimate(shape, Cache(context=8192), frozenset({"Q4_0"}))
    assert judge(need, 11 * GB + 100 * MIB) is Fit.WELL
    assert judge(need, 10 * GB + 100 * MIB) is Fit.MAPPED
    assert inspection.verdict(need, MachineMemory(total=11 * GB, available=10 * GB + 100 * MIB)) == "fits"


def test_the_drafts_memory_is_inspected_too() -> None:
    alone, both = (next(inspection.needs(SHAPE, 32_768, draft))[2] for draft in (None, SHAPE))
    assert both.total == 2 * alone.total


def test_without_knowledge_nothing_is_checked() -> None:
    assert check(0) == room.Verdict()
    assert check(GB, context=0) == room.Verdict()
    machine = MachineMemory(total=1, available=1)
    told = EngineCommand(args=(), context=1)
    assert room.check({}, None, told, private=True, force=False, machine=machine) == room.Verdict()


def test_largest_context_is_a_multiple_of_256_that_fits() -> None:
    size = largest_context(SHAPE, Cache(context=100_000), 20 * GB)
    assert size % 256 == 0
    assert estimate(SHAPE, Cache(context=size)).total <= 20 * GB < estimate(SHAPE, Cache(context=size + 256)).total
