"""What a header alone tells about other weights is what the bundler tells, who looks closely."""

from pathlib import Path

import pytest

from bundler import model
from bundler.demo import DEMO_MODEL
from runtime.errors import ModelError
from runtime.gguf_facts import file_facts
from tests.unit.gguf_files import TinyGGUF


def test_the_launcher_and_the_bundler_agree() -> None:
    close = model.load(DEMO_MODEL).facts()
    seen = file_facts(DEMO_MODEL)
    for key in ("file_size", "architecture", "quantization", "context_length", "layers"):
        assert seen[key] == close[key]
    mine, its = seen["shape"], close["shape"]
    assert mine["weights"] == pytest.approx(its["weights"], rel=0.01)
    for key in set(its) - {"weights", "matrices", "tied"}:
        assert mine[key] == its[key], key


def test_a_model_of_another_kind_has_no_shape(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    tiny.values["general.architecture"] = "llama"
    path = tmp_path / "x.gguf"
    path.write_bytes(tiny.data())
    facts = file_facts(path)
    assert facts["architecture"] == "llama"
    assert "shape" not in facts
    assert "context_length" not in facts


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(TinyGGUF().data()[:200])
    with pytest.raises(ModelError, match="truncated"):
        file_facts(path)
