"""Joining shards: which sets are accepted, what a bad set is told, and that the result is the whole model."""

import struct
from pathlib import Path

import pytest

from bundler import model
from bundler.shards import open_whole
from runtime.errors import ModelError
from runtime.gguf_header import read_header
from tests.unit.gguf_files import SHAPES, TinyGGUF, content_of, default_tensors, shards


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        model.load(path)
    return str(caught.value)


@pytest.mark.parametrize("named", [0, 1, 2])
def test_any_shard_stands_for_the_set(tmp_path: Path, named: int) -> None:
    loaded = model.load(shards(tmp_path)[named])
    joined = tmp_path / "joined.gguf"
    joined.write_bytes(content_of(loaded.source))
    assert loaded.file_size == joined.stat().st_size
    again = model.load(joined)
    assert again.facts() == loaded.facts()
    assert [key for key in again.whole.header.values if key.startswith("split")] == []
    data = joined.read_bytes()
    start = again.whole.header.data_start
    values = {
        tensor.name: struct.unpack_from("<f", data, start + tensor.offset)[0] for tensor in again.whole.header.tensors
    }
    assert values == {name: float(index + 1) for index, name in enumerate(default_tensors())}


def test_missing_shards_are_named(tmp_path: Path) -> None:
    paths = shards(tmp_path, 4)
    paths[1].unlink()
    paths[3].unlink()
    assert "missing: m-00002-of-00004.gguf, m-00004-of-00004.gguf" in refusal(paths[0])


def test_swapped_shards(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    second = paths[1].read_bytes()
    paths[1].write_bytes(paths[2].read_bytes())
    paths[2].write_bytes(second)
    assert "is shard 3 of 3 by its content, 2 by its name" in refusal(paths[0])


def test_a_renamed_shard(tmp_path: Path) -> None:
    renamed = shards(tmp_path)[0].rename(tmp_path / "model.gguf")
    assert "is one of 3 shards, which its name does not say" in refusal(renamed)


def test_a_shard_of_a_set_of_another_size(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    paths[2].write_bytes(shards(tmp_path, 4, "other")[2].read_bytes())
    assert "split.count is 4, not 3" in refusal(paths[0])


def test_a_file_that_is_no_shard(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    paths[1].write_bytes(TinyGGUF().data())
    assert "split.count is none" in refusal(paths[0])


def test_a_foreign_shard_with_tensors_of_ours(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    tiny = TinyGGUF(values={"split.no": 1, "split.count": 3}, tensors=["token_embd.weight"])
    paths[1].write_bytes(tiny.data())
    message = refusal(paths[0])
    assert "'token_embd.weight' stands in both m-00001-of-00003.gguf and m-00002-of-00003.gguf" in message


def test_a_foreign_shard_with_too_few_tensors(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    paths[1].write_bytes(TinyGGUF(values={"split.no": 1, "split.count": 3}, tensors=["x.weight"]).data())
    assert "tensors, 13 expected" in refusal(paths[0])


def test_a_shard_of_another_architecture(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    values = {"general.architecture": "llama", "split.no": 1, "split.count": 3}
    paths[1].write_bytes(TinyGGUF(values=values, tensors=["x.weight"]).data())
    assert "general.architecture is 'llama', in m-00001-of-00003.gguf 'qwen3'" in refusal(paths[0])


def test_a_shard_of_another_size_of_model(tmp_path: Path) -> None:
    """All names and counts are right; what tells are the shapes."""
    paths = shards(tmp_path)
    own = [tensor.name for tensor in read_header(paths[1]).tensors]
    larger = {name: tuple(2 * size for size in SHAPES[name]) for name in own}
    tiny = TinyGGUF(values={"split.no": 1, "split.count": 3}, tensors=own, shapes=larger)
    paths[1].write_bytes(tiny.data())
    message = refusal(paths[0])
    assert message.startswith(f"{paths[1]}: tensor {own[0]!r} is ")
    assert "a shard is of another model; download them again" in message


def test_each_tensor_knows_its_file(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    whole = open_whole(paths[0])
    homes = {tensor.name: whole.home(tensor) for tensor in whole.header.tensors}
    assert homes == {tensor.name: path for path in paths for tensor in read_header(path).tensors}


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    assert "m-00003-of-00003.gguf is truncated" in refusal(paths[0])


def test_a_template_is_put_in_and_the_tensors_stay(tmp_path: Path) -> None:
    tiny = TinyGGUF()
    del tiny.values["tokenizer.chat_template"]
    path = tmp_path / "bare.gguf"
    path.write_bytes(tiny.data())
    bare = model.load(path)
    dressed = model.with_template(bare)
    assert (bare.template, dressed.template) == ("none", "qwenfile's")
    assert dressed.facts()["has_chat_template"]
    out = tmp_path / "dressed.gguf"
    out.write_bytes(content_of(dressed.source))
    assert model.load(out).template == "Qwen3"
    old, new = read_header(path), read_header(out)
    assert new.tensors == old.tensors
    assert out.read_bytes()[new.data_start :] == path.read_bytes()[old.data_start :]


def test_shards_without_a_template_get_one_too(tmp_path: Path) -> None:
    whole = open_whole(shards(tmp_path)[0])
    once = whole.with_values({"general.name": "New", "x": "y"})
    twice = once.with_values({"z": "w"})
    out = tmp_path / "out.gguf"
    out.write_bytes(content_of(twice.source))
    header = read_header(out)
    assert header.values["z"] == "w"
    assert header.tensors == twice.header.tensors
