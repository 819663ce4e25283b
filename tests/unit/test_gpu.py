"""Which devices compute: wishes held against what works, without any."""

from pathlib import Path
from typing import Any

import pytest

from launcher.gpu import Choice, Wish, carried_backends, loaded, wanted, why_not
from launcher.options import LaunchOptions
from launcher.room import fit
from launcher.verdict import Tried, Verdict, nothing_found
from runtime.engine import Device
from runtime.errors import QwenfileError, UsageError
from runtime.layers import Layers, Share


def tried(name: str, kind: str = "gpu", fault: str = "") -> Tried:
    return Tried(name=name, description=f"card of {name}", kind=kind, driver="Mesa 25", fault=fault)


def device(name: str, free: int = 8 * 10**9) -> Device:
    return Device(
        name=name, description=f"card of {name}", kind="gpu", backend="Vulkan", memory_total=free, memory_free=free
    )


def layers(gpu: int, cpu: int, split: int = 0) -> Layers:
    shares = [("Vulkan0", "gpu", gpu), ("CPU", "cpu", cpu)]
    return Layers(
        total=gpu + cpu + split,
        split=split,
        shares=tuple(
            Share(name=name, description=name, kind=kind, backend="x", layers=count, bytes=count * 10**8)
            for name, kind, count in shares
        ),
    )


def wish(**options: Any) -> Wish:
    return Wish.of(LaunchOptions(**options))


@pytest.mark.parametrize(
    ("options", "off", "asked", "named"),
    [
        ({}, False, False, False),
        ({"gpu": "auto"}, False, False, False),
        ({"gpu_layers": "99"}, False, True, False),
        ({"gpu_layers": "0"}, True, False, False),
        ({"gpu": "off", "gpu_layers": "99"}, True, False, False),
        ({"device": "none"}, True, False, False),
        ({"gpu": "vulkan"}, False, True, True),
        ({"device": "CPU"}, True, False, False),
        ({"gpu": "vulkan", "device": "Vulkan1"}, False, True, True),
        ({"device": "Vulkan0,Vulkan1"}, False, True, True),
    ],
)
def test_what_the_command_line_wishes(options: dict[str, str], off: bool, asked: bool, named: bool) -> None:
    said = wish(**options)
    assert (said.off, said.asked, said.named) == (off, asked, named)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gpu": "off", "device": "Vulkan0"}, "--gpu off and --device Vulkan0"),
        ({"gpu": "vulkan", "device": "none"}, "--gpu vulkan and --device none"),
        ({"gpu": "cuda", "device": "CUDA0,Vulkan0"}, "--gpu cuda and --device CUDA0,Vulkan0"),
        ({"gpu": "vulkan", "gpu_layers": "0"}, "--gpu vulkan and -ngl 0"),
        ({"device": "Vulkan0", "gpu_layers": "0"}, "--device Vulkan0 and -ngl 0"),
    ],
)
def test_wishes_that_contradict_each_other(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words} contradict each other"):
        wish(**options)


def test_integrated_gpus_count_when_asked_and_only_without_a_better_one() -> None:
    integrated, discrete = tried("Vulkan0", "igpu"), tried("Vulkan1")
    assert wanted(wish(), [integrated]) == ()
    assert wanted(wish(), [integrated, discrete]) == ("Vulkan1",)
    assert wanted(wish(gpu_layers="9"), [integrated]) == ("Vulkan0",)
    assert wanted(wish(gpu="vulkan"), [integrated]) == ("Vulkan0",)


def test_named_devices_are_all_there_or_none() -> None:
    there = [tried("Vulkan0", "igpu"), tried("Vulkan1")]
    assert wanted(wish(device="vulkan0"), there) == ("Vulkan0",)
    assert wanted(wish(device="Vulkan1, Vulkan0"), there) == ("Vulkan1", "Vulkan0")
    assert wanted(wish(device="Vulkan0,Vulkan7"), there) == ()


def test_a_device_with_a_fault_is_not_usable() -> None:
    verdict = Verdict(devices=(tried("Vulkan0", fault="it computes wrongly"), tried("Vulkan1")))
    assert [each.name for each in verdict.usable] == ["Vulkan1"]


def test_reasons_name_what_is_there() -> None:
    assert why_not(wish(device="Vulkan7"), Verdict(devices=(tried("Vulkan0"),))) == "it has Vulkan0 (card of Vulkan0)"
    assert why_not(wish(gpu="vulkan"), Verdict(reason="no driver")) == "no driver"


@pytest.mark.parametrize(
    ("survey", "env", "reason"),
    [
        ((), {}, "its drivers find no GPU"),
        ((("software", "llvmpipe", "Mesa", "22"),), {}, "there is no GPU, only a program that plays one (llvmpipe)"),
        ((("integrated", "Old", "x", "1"),), {}, "Old cannot do what the engine needs"),
        (
            (("discrete", "New", "x", "1"),),
            {"GGML_VK_VISIBLE_DEVICES": ""},
            "GGML_VK_VISIBLE_DEVICES= leaves none of New",
        ),
        ((), {"CUDA_VISIBLE_DEVICES": "5"}, "CUDA_VISIBLE_DEVICES=5 leaves none"),
    ],
)
def test_why_a_backend_finds_nothing(survey: tuple[tuple[str, ...], ...], env: dict[str, str], reason: str) -> None:
    assert nothing_found(survey, env) == reason


def test_backends_are_found_by_their_files(tmp_path: Path) -> None:
    assert carried_backends(tmp_path) == ()
    for name in ("libggml-vulkan.so", "ggml-cuda.dll", "libggml-cpu-haswell.so"):
        (tmp_path / name).touch()
    assert carried_backends(tmp_path) == ("cuda", "vulkan")


def test_the_engine_gets_devices_and_layers() -> None:
    assert Choice(wish=wish(gpu_layers="9")).args == ()
    assert Choice(wish=wish(), given_up=True).args == ("--device", "none")
    both = (device("Vulkan0"), device("Vulkan1"))
    assert Choice(wish=wish(), devices=both).args == ("--device", "Vulkan0,Vulkan1")
    assert Choice(wish=wish(gpu_layers="9"), devices=both[:1]).args == ("--device", "Vulkan0", "-ngl", "9")


def test_nothing_is_told_when_all_is_as_wished() -> None:
    assert loaded(Choice(wish=wish()), layers(0, 29)) == ""
    assert loaded(Choice(wish=wish(), devices=(device("Vulkan0"),)), layers(29, 0)) == ""
    assert loaded(Choice(wish=wish(gpu_layers="9"), devices=(device("Vulkan0"),)), layers(9, 20)) == ""


def test_memory_is_not_blamed_where_the_person_placed_the_weights() -> None:
    placed = wish(gpu="vulkan", engine_args=("-ot", "blk.*=CPU"))
    assert loaded(Choice(wish=placed, devices=(device("Vulkan0"),)), layers(1, 28)) == ""
    assert loaded(Choice(wish=placed, devices=(device("Vulkan0"),)), layers(0, 29)) == ""


def test_a_part_that_fits_is_told_with_its_numbers() -> None:
    told = loaded(Choice(wish=wish(gpu_layers="all"), devices=(device("Vulkan0", 3 * 10**9),)), layers(20, 9))
    assert told.startswith("20 of 29 layers are on Vulkan0 (card of Vulkan0), 2.00 GB of weights: 3.00 GB were free")
    assert "9 of 29" in loaded(Choice(wish=wish(gpu_layers="20"), devices=(device("Vulkan0"),)), layers(9, 20))
    assert "3 of 29" in loaded(Choice(wish=wish(), devices=(device("Vulkan0"),)), layers(0, 26, split=3))


def test_nothing_that_fits_is_a_notice_or_an_error() -> None:
    there = (device("Vulkan0", 10**8),)
    told = loaded(Choice(wish=wish(gpu_layers="99"), devices=there), layers(0, 29))
    assert told.startswith("computing on the CPU: not enough memory on Vulkan0 (card of Vulkan0)")
    assert "100 MB were free" in told
    with pytest.raises(QwenfileError, match=r"--gpu vulkan cannot be used: not enough memory"):
        loaded(Choice(wish=wish(gpu="vulkan"), devices=there), layers(0, 29))


SHAPE = {
    "layers": 28, "hidden": 1024, "heads": 16, "kv_heads": 8, "key_length": 128, "value_length": 128,
    "feed_forward": 3072, "vocabulary": 151_936, "weights": 640_000_000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("free", "context", "skipped"),
    [([8 * 10**9], 8192, True), ([2 * 10**9], 8192, False), ([9 * 10**9] * 2, 8192, False)],
)
def test_the_fit_pass_is_left_out_where_all_is_certain_to_fit(free: list[int], context: int, skipped: bool) -> None:
    args = fit({"shape": SHAPE}, None, [], context=context, private=True, free=free)
    assert args == (("--fit", "off") if skipped else ())


def test_a_model_of_unknown_shape_is_always_fitted() -> None:
    assert fit({}, None, [], context=8192, private=True, free=[10**12]) == ()
