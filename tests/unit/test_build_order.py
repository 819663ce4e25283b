"""What `qwenfile build` decides before it writes: where the weights go, how large a quantized file gets."""

from pathlib import Path

import pytest

from bundler import assemble, model, quantize
from bundler.build import _fitting
from bundler.demo import DEMO_MODEL
from bundler.platforms import linux
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


def test_neither_the_draft_nor_an_input_is_written_over(tmp_path: Path) -> None:
    given = tmp_path / "m.run"
    given.write_bytes(DEMO_MODEL.read_bytes())
    with pytest.raises(UsageError, match="is the input"):
        assemble.check(order(tmp_path, draft=model.load(given), force=True))
    with pytest.raises(UsageError, match="is the input"):
        assemble.check(order(tmp_path, inputs=(given,), force=True))


@pytest.mark.parametrize(("kind", "least", "most"), [("Q4_K_M", 0.25, 0.7), ("Q8_0", 0.5, 0.75), ("F32", 2.0, 2.6)])
def test_the_room_for_a_quantized_file(kind: str, least: float, most: float) -> None:
    checked = model.load(DEMO_MODEL)
    assert least < quantize.expected_size(checked, kind) / checked.file_size < most


def test_names_of_types_are_llamas() -> None:
    names = quantize.type_names()
    assert (names["Q4_K_M"], names["F32"], names["BF16"]) == (15, 0, 32)
    assert "GUESSED" not in names
