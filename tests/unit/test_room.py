"""Whether a model fits into memory, and what is said when it doesn't."""

from dataclasses import replace
from typing import Any

import pytest

from launcher import room
from runtime.errors import QwenfileError
from runtime.memory import Cache, MachineMemory, Shape, estimate, largest_context

GB = 10**9
# Qwen3-8B in Q8_0, whose types no x86 kernel rearranges
SHAPE = Shape(
    layers=36, hidden=4096, heads=32, kv_heads=8, key_length=128, value_length=128, feed_forward=12_288,
    vocabulary=151_936, weights=8_700_000_000, matrices={"Q8_0": 8_000_000_000},
)  # fmt: skip
MIB = 2**20


def check(available: int, *args: str, shape: Shape = SHAPE, context: int = 8192, **options: Any) -> room.Verdict:
    machine = MachineMemory(total=2 * available, available=available)
    settings: dict[str, Any] = {"private": True, "force": False, "draft": None, **options}
    draft = settings.pop("draft")
    return room.check({"shape": shape.facts()}, draft, args, context=context, machine=machine, **settings)


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
    with pytest.raises(QwenfileError) as caught:
        check(10 * GB)
    message = str(caught.value)
    assert message.startswith("this needs 10.03 GB of memory (weights 8.70 GB, 8,192 tokens of context 1.21 GB,")
    assert "10.00 GB are free" in message
    assert "-ctk q8_0 -ctv q8_0" in message
    assert "--force" in message
    fitting = int(message.split("-c ")[1].split()[0])
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
    assert "10.00 GB of memory are free" in check(10 * GB, force=True).notice


def test_a_draft_counts() -> None:
    with pytest.raises(QwenfileError, match="the draft model 2"):
        check(11 * GB, draft={"shape": replace(SHAPE, weights=GB).facts()})


def test_without_knowledge_nothing_is_checked() -> None:
    assert check(0) == room.Verdict()
    assert check(GB, context=0) == room.Verdict()
    machine = MachineMemory(total=1, available=1)
    assert room.check({}, None, (), context=1, private=True, force=False, machine=machine) == room.Verdict()


def test_largest_context_is_a_multiple_of_256_that_fits() -> None:
    size = largest_context(SHAPE, Cache(context=100_000), 20 * GB, mapped=False)
    assert size % 256 == 0
    assert estimate(SHAPE, Cache(context=size)).total <= 20 * GB < estimate(SHAPE, Cache(context=size + 256)).total
