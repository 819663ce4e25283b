"""What `qwenfile build` decides before it writes: where the weights go, how large a quantized file gets."""

from dataclasses import replace
from pathlib import Path

import pytest

from bundler import assemble, macho, model, quantize
from bundler.build import _fitting
from bundler.demo import DEMO_MODEL
from bundler.platforms import linux, macos
from runtime.bundle import Bundle, Header, Manifest
from runtime.errors import UsageError


def order(folder: Path, **changes: object) -> assemble.Order:
    manifest = Manifest(target="linux-x86_64", qwenfile="0", engine={}, name="b", stub_size=1, stub_sha256="")
    base = Bundle(path=folder / "b.base", size=30_000_000, header=Header(position=0), manifest=manifest)
    fields = {"model": model.load(DEMO_MODEL), "base": base, "out": folder / "m.run", "name": "m", **changes}
    return assemble.Order(**fields)  # type: ignore[arg-type]


def test_weights_go_beside_where_the_system_starts_no_file_so_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not _fitting(order(tmp_path)).external_weights
    monkeypatch.setattr(linux, "MAX_BUNDLE", 32_000_000)
    assert _fitting(order(tmp_path)).external_weights
    assert "the weights go into m.gguf beside the bundle" in capsys.readouterr().err
    monkeypatch.setattr(linux, "MAX_BUNDLE", 1_000_000)
    with pytest.raises(UsageError, match="starts no file of"):
        assemble.check(_fitting(order(tmp_path)))


def test_what_a_signature_for_macos_cannot_cover_is_refused_as_a_single_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sizes in a Mach-O's load commands have 32 bits, and the signature comes on top."""
    manifest = Manifest(target="macos-arm64", qwenfile="0", engine={}, name="b", stub_size=1, stub_sha256="")
    base = Bundle(path=tmp_path / "b.base", size=30_000_000, header=Header(position=0), manifest=manifest)
    assert not _fitting(order(tmp_path, base=replace(base, size=4_200_000_000))).external_weights
    large = order(tmp_path, base=replace(base, size=4_250_000_000))
    with pytest.raises(UsageError, match=r"macos-arm64 starts no file of .*; its limit is 4,250,000,000"):
        assemble.check(large)
    assert _fitting(large).external_weights
    assert "the weights go into m.gguf beside" in capsys.readouterr().err
    assert macos.MAX_BUNDLE is not None
    assert macos.MAX_BUNDLE + macho.signature_size(macos.MAX_BUNDLE) < 2**32


def test_neither_the_draft_nor_an_input_is_written_over(tmp_path: Path) -> None:
    given = tmp_path / "m.run"
    given.write_bytes(DEMO_MODEL.read_bytes())
    with pytest.raises(UsageError, match="is the input"):
        assemble.check(order(tmp_path, draft=model.load(given), force=True))
    with pytest.raises(UsageError, match="is the input"):
        assemble.check(order(tmp_path, inputs=(given,), force=True))


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("IQ2_M", 0.16, 0.6), ("Q4_K_M", 0.25, 0.7), ("Q8_0", 0.5, 0.75), ("F32", 2.0, 2.6)]
)
def test_the_room_for_a_quantized_file(kind: str, least: float, most: float) -> None:
    checked = model.load(DEMO_MODEL)
    assert least < quantize.expected_size(checked, kind) / checked.file_size < most


def test_names_of_types_are_llamas() -> None:
    names = quantize.type_names()
    assert (names["Q4_K_M"], names["F32"], names["BF16"]) == (15, 0, 32)
    assert not {"GUESSED", "NVFP4"} & set(names)
    assert quantize.check(model.load(DEMO_MODEL), "q4_k", requantize=True) == "Q4_K_M"
