"""Importance matrices in both forms: what is read, and what does not go with a model."""

import struct
from pathlib import Path

import pytest

from bundler import imatrix, model
from bundler.model import Model
from runtime.errors import ModelError
from tests.unit.gguf_files import HIDDEN, WIDE, TinyGGUF, mixture

UP, DOWN = "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(TinyGGUF().data())
    return model.load(path)


def in_gguf(folder: Path, sizes: dict[str, tuple[int, int]], count: float = 3.0, without: str = "") -> Path:
    """`sizes`: of each weight, the columns and the experts."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (columns, experts) in sizes.items():
        shapes |= {f"{name}.in_sum2": (columns, experts), f"{name}.counts": (1, experts)}
    shapes.pop(without, None)
    made = TinyGGUF(values={"general.type": "imatrix"}, tensors=list(shapes), shapes=shapes)
    made.fill = {name: count for name in shapes if name.endswith(".counts")}
    path = folder / "imatrix.gguf"
    path.write_bytes(made.data())
    return path


def in_dat(folder: Path, sizes: dict[str, int], divisor: int = 5, tail: bytes = b"\7\0\0\0") -> Path:
    data = struct.pack("<i", len(sizes))
    for name, size in sizes.items():
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack(f"<ii{size}f", divisor, size, *range(size))
    path = folder / "imatrix.dat"
    path.write_bytes(data + tail)
    return path


def test_the_sums_of_a_gguf_are_found(tiny: Model, tmp_path: Path) -> None:
    path = in_gguf(tmp_path, {UP: (HIDDEN, 1), DOWN: (WIDE, 1)})
    imatrix.check(path, tiny)
    entries = imatrix.read(path)
    assert {name: (entry.size, entry.counts) for name, entry in entries.items()} == {
        UP: (HIDDEN, (3.0,)),
        DOWN: (WIDE, (3.0,)),
    }
    assert path.read_bytes()[entries[DOWN].start :][: 4 * WIDE] == bytes(4 * WIDE)


def test_each_expert_has_its_share(tmp_path: Path) -> None:
    experts = tmp_path / "moe.gguf"
    experts.write_bytes(mixture().data())
    path = in_gguf(tmp_path, {"blk.0.ffn_up_exps.weight": (HIDDEN, 4)})
    imatrix.check(path, model.load(experts))
    assert imatrix.read(path)["blk.0.ffn_up_exps.weight"].counts == (3.0,) * 4
    with pytest.raises(ModelError, match=rf"has {HIDDEN} values for .*ffn_up_exps.*takes {4 * HIDDEN}"):
        imatrix.check(in_gguf(tmp_path, {"blk.0.ffn_up_exps.weight": (HIDDEN, 1)}), model.load(experts))


@pytest.mark.parametrize(("divisor", "count"), [(5, 5), (0, 1)])
def test_the_sums_of_a_dat_are_found(tiny: Model, tmp_path: Path, divisor: int, count: int) -> None:
    path = in_dat(tmp_path, {UP: HIDDEN, DOWN: WIDE}, divisor)
    imatrix.check(path, tiny)
    entry = imatrix.read(path)[DOWN]
    assert (entry.size, entry.counts) == (WIDE, (count,))
    assert struct.unpack(f"<{WIDE}f", path.read_bytes()[entry.start :][: 4 * WIDE]) == tuple(range(WIDE))


def test_a_matrix_of_another_model_is_told(tiny: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 9 values for 'blk\.0\.ffn_up\.weight', tiny\.gguf takes 8"):
        imatrix.check(in_dat(tmp_path, {UP: HIDDEN + 1}), tiny)
    with pytest.raises(ModelError, match=r"has none of the weights of tiny\.gguf, but 'h\.0\.mlp' and so on"):
        imatrix.check(in_gguf(tmp_path, {"h.0.mlp": (HIDDEN, 1)}), tiny)


def test_what_is_no_matrix_is_told(tiny: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no importance matrix"):
        imatrix.check(tiny.path, tiny)
    with pytest.raises(ModelError, match=r"cannot read .*: No such file"):
        imatrix.check(tmp_path / "none.dat", tiny)
    with pytest.raises(ModelError, match=r"the counts of 'blk\.0\.ffn_up\.weight' do not go with its sums"):
        imatrix.check(in_gguf(tmp_path, {UP: (HIDDEN, 1)}, without=f"{UP}.counts"), tiny)
    with pytest.raises(ModelError, match="the counts of"):
        imatrix.check(in_gguf(tmp_path, {UP: (HIDDEN, 1)}, count=float("nan")), tiny)
    text = tmp_path / "text.dat"
    for content in (b"", b"four", b"\1\0\0\0", b"\0\0\0\0", b"hello, this is a text of some length"):
        text.write_bytes(content)
        with pytest.raises(ModelError, match="is no importance matrix, or damaged"):
            imatrix.check(text, tiny)


def test_a_dat_that_is_cut_is_told_wherever_it_ends(tiny: Model, tmp_path: Path) -> None:
    path = in_dat(tmp_path, {UP: HIDDEN, DOWN: WIDE}, tail=b"")
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError, match="is no importance matrix, or damaged"):
            imatrix.check(path, tiny)
