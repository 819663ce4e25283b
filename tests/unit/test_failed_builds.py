"""A bundle that was written and then does not run: it goes again, and the message says so."""

from pathlib import Path

import pytest

from bundler import assemble, build
from runtime.bundle import Bundle
from runtime.errors import ExitCode, ModelError
from tests.unit.bundle_files import order


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def try_out(bundle: Bundle, _env: object) -> None:
        assert bundle.path.exists()
        raise error

    monkeypatch.setattr(build, "try_out", try_out)


def built(asked: assemble.Order) -> None:
    build._build_one(asked, {}, verify=True)


def test_the_bundle_goes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = order(tmp_path)
    before = set(tmp_path.iterdir())
    fail(monkeypatch, ModelError("tiny.run does not run: no memory", "get some"))
    with pytest.raises(ModelError) as caught:
        built(asked)
    assert caught.value.exit_code == ExitCode.MODEL
    assert str(caught.value) == (
        "tiny.run does not run: no memory (get some; tiny.run is removed again; --no-verify keeps a bundle)"
    )
    assert set(tmp_path.iterdir()) == before


def test_the_weights_beside_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = order(tmp_path, out=tmp_path / "far.run", external_weights=True)
    before = set(tmp_path.iterdir())
    fail(monkeypatch, ModelError("far.run does not run"))
    with pytest.raises(ModelError, match=r"far\.run does not run \(far\.run and far\.gguf are removed again"):
        built(asked)
    assert set(tmp_path.iterdir()) == before


def test_weights_that_lay_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = order(tmp_path, external_weights=True)
    content = asked.model.path.read_bytes()
    fail(monkeypatch, ModelError("tiny.run does not run"))
    with pytest.raises(ModelError, match=r"\(tiny\.run is removed again"):
        built(asked)
    assert not asked.out.exists()
    assert (tmp_path / "tiny.gguf").read_bytes() == content


def test_a_broken_replacement_does_not_stay_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = order(tmp_path, force=True)
    asked.out.write_text("what was there before")
    fail(monkeypatch, ModelError("tiny.run does not run"))
    with pytest.raises(ModelError, match=r"tiny\.run is removed again"):
        built(asked)
    assert not asked.out.exists()


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = order(tmp_path)
    before = set(tmp_path.iterdir())
    fail(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        built(asked)
    assert set(tmp_path.iterdir()) == before


def test_without_trying_it_out_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = order(tmp_path)
    fail(monkeypatch, AssertionError("not to be tried out"))
    build._build_one(asked, {}, verify=False)
    assert asked.out.exists()
