"""Bundles as files: the layout, what other ZIP readers say, damage, and changing one. No program is run."""

import errno
import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bundler import assemble, edit, model, verify, writer
from bundler.archive import central_directory, local_header
from bundler.platforms import linux
from runtime.bundle import ALIGNMENT, HEADER, LAUNCHER, MANIFEST, MODEL, Bundle, Member, edges_sha256
from runtime.errors import ExitCode, ModelError, QwenfileError, UsageError
from tests.unit.bundle_files import STUB_HEADER_AT, ignore, make_base, order
from tests.unit.gguf_files import TinyGGUF
from tests.unit.systems import posix_only


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(assemble.assemble(order(tmp_path), ignore).out)


def test_the_weights_lie_aligned_and_unchanged(bundle: Bundle) -> None:
    weights = bundle.require(MODEL)
    assert weights.offset % ALIGNMENT == 0
    assert bundle.read(MODEL) == TinyGGUF().data()


def test_the_manifest_describes_the_model(bundle: Bundle) -> None:
    assert bundle.manifest.name == "Tiny"
    assert bundle.manifest.model is not None
    assert bundle.manifest.model["context_length"] == 4096
    assert bundle.manifest.sampling is not None
    assert bundle.manifest.sampling["thinking"]["top_k"] == 20


def test_the_header_points_at_launcher_and_manifest(bundle: Bundle) -> None:
    launcher = bundle.require(LAUNCHER)
    assert (bundle.header.launcher_offset, bundle.header.launcher_size) == (launcher.offset, launcher.size)
    assert bundle.header.launcher_sha256.hex() == launcher.sha256
    assert bundle.header.position == STUB_HEADER_AT


def test_a_bundle_is_a_zip_archive(bundle: Bundle) -> None:
    with zipfile.ZipFile(bundle.path) as archive:
        assert archive.testzip() is None
        names = [member.name for member in bundle.manifest.members]
        assert archive.namelist() == [*names, MANIFEST]
        assert archive.read("engine/libengine.so") == b"engine" * 1000
        assert archive.read("args") == b"--temp 0.5 ...\n"


def test_a_bundle_is_executable_and_the_same_every_time(tmp_path: Path) -> None:
    first = assemble.assemble(order(tmp_path), ignore).out
    second = assemble.assemble(order(tmp_path, out=tmp_path / "second.run"), ignore).out
    assert first.read_bytes() == second.read_bytes()
    assert os.access(first, os.X_OK)


@pytest.mark.parametrize("target", ["macos-arm64", "windows-x86_64"])
def test_a_stub_for_another_system_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(UsageError, match=f"the stub is not for {target}"):
        make_base(tmp_path / "x.base", target=target)
    assert list(tmp_path.iterdir()) == []


def test_no_name_stands_twice(tmp_path: Path) -> None:
    with writer.create(tmp_path / "out") as out:
        out.add("x", b"one")
        with pytest.raises(ValueError, match="two members named x"):
            out.add("x", b"two")


def test_zip64_records_for_large_members() -> None:
    """Read back by the standard library: a member at 5 GiB, and one of 5 GiB."""
    large = Member(name="large", offset=0, size=5 << 30, length=5 << 30, sha256="", crc32=7)
    large = Member(**{**vars_of(large), "offset": len(local_header(large))})
    far = Member(name="far", offset=(5 << 30) + 5000, size=3, length=3, sha256="", crc32=9)
    directory = central_directory([large, far], (5 << 30) + 6000)
    import io

    class Sparse(io.RawIOBase):
        """A file of 5 GiB that holds only its directory."""

        at = 0
        end = (5 << 30) + 6000 + len(directory)

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = offset + (0, self.at, self.end)[whence]
            return self.at

        def tell(self) -> int:
            return self.at

        def read(self, size: int = -1) -> bytes:
            start = self.at - ((5 << 30) + 6000)
            piece = directory[max(start, 0) :] if size < 0 else directory[max(start, 0) : start + size]
            self.at += len(piece)
            return piece

    with zipfile.ZipFile(Sparse()) as archive:
        assert [(info.filename, info.file_size, info.header_offset) for info in archive.infolist()] == [
            ("large", 5 << 30, 0),
            ("far", 3, far.offset - len(local_header(far))),
        ]


def vars_of(member: Member) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(member)


def test_verify_accepts_what_was_built(bundle: Bundle) -> None:
    seen: list[int] = []
    verify.verify_bytes(bundle, seen.append)
    assert sum(seen) == verify.total(bundle)


def region_of(bundle: Bundle, position: int) -> str:
    """The word that must stand in the message about a byte at `position`."""
    if position < bundle.manifest.stub_size:
        in_header = 0 <= position - bundle.header.position < HEADER.size
        return "" if in_header else "damaged stub"
    for member in bundle.manifest.members:
        if position < member.offset + member.size:
            return f"damaged member {member.name}"
    manifest_end = bundle.header.manifest_offset + bundle.header.manifest_size
    return f"damaged member {MANIFEST}" if position < manifest_end else "damaged ZIP directory"


def damage_message(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        verify.verify_bytes(Bundle.open(path), ignore)
    assert caught.value.exit_code == ExitCode.MODEL
    return str(caught.value)


def interesting(bundle: Bundle) -> set[int]:
    """The borders of every region, every byte of header, manifest and directory, and a grid over the rest."""
    borders = {0, bundle.size - 1, bundle.manifest.stub_size - 1, bundle.manifest.stub_size}
    for member in bundle.manifest.members:
        borders |= {member.offset - 1, member.offset, member.offset + member.size - 1}
    header = range(bundle.header.position, bundle.header.position + HEADER.size)
    tail = range(bundle.header.manifest_offset - 60, bundle.size, 7)
    return borders | set(header) | set(tail) | set(range(0, bundle.size, 997))


def test_one_flipped_byte_is_found_and_named(bundle: Bundle) -> None:
    whole = bytearray(bundle.path.read_bytes())
    damaged = bundle.path.with_name("damaged.run")
    for position in sorted(interesting(bundle)):
        whole[position] ^= 0x10
        damaged.write_bytes(whole)
        assert region_of(bundle, position) in damage_message(damaged), f"byte {position}"
        whole[position] ^= 0x10


@pytest.mark.parametrize("missing", [1, 2, 22, 100, 1000, 3000, 60_000])
def test_a_truncated_bundle_is_refused(bundle: Bundle, missing: int) -> None:
    with bundle.path.open("r+b") as file:
        file.truncate(bundle.size - missing)
    assert "truncated" in damage_message(bundle.path)


def test_what_signing_tools_append_is_no_damage(bundle: Bundle) -> None:
    with bundle.path.open("ab") as file:
        file.write(b"certificate" * 10)
    verify.verify_bytes(Bundle.open(bundle.path), ignore)


def test_no_bundle_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"#!/bin/sh\n")
    assert "is not a qwenfile bundle" in damage_message(path)
    assert "cannot read" in damage_message(tmp_path / "missing")


@pytest.mark.parametrize("text", ["", "-c 4096", "--temp 0.1 " + "--top-k 7 " * 2000, "-sys 'Grüße 你好' ..."])
def test_setting_arguments_gives_what_a_fresh_build_gives(tmp_path: Path, text: str) -> None:
    changed = Bundle.open(assemble.assemble(order(tmp_path), ignore).out)
    edit.set_args(changed, text)
    edit.set_args(Bundle.open(changed.path), text)
    fresh = assemble.assemble(order(tmp_path, out=tmp_path / "fresh.run", args=text.strip()), ignore).out
    assert edit.read_args(Bundle.open(changed.path)) == text.strip()
    assert changed.path.read_bytes() == fresh.read_bytes()


@posix_only
def test_setting_arguments_survives_a_stop_at_any_write(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the power after the n-th write, for every n: the bundle has either the old or the new arguments, whole."""
    before = bundle.path.read_bytes()
    real = os.pwrite

    def stop_after(count: int) -> Callable[[int, bytes, int], int]:
        def write(fd: int, data: bytes, position: int) -> int:
            nonlocal count
            if count == 0:
                raise KeyboardInterrupt
            count -= 1
            return real(fd, data, position)

        return write

    for writes in range(1, 8):
        bundle.path.write_bytes(before)
        monkeypatch.setattr(os, "pwrite", stop_after(writes))
        try:
            edit.set_args(Bundle.open(bundle.path), "--seed 7")
            finished = True
        except KeyboardInterrupt:
            finished = False
        monkeypatch.setattr(os, "pwrite", real)
        assert edit.read_args(Bundle.open(bundle.path)) in ("--temp 0.5 ...", "--seed 7")
        assert Bundle.open(bundle.path).read(MODEL) == TinyGGUF().data()
    assert finished


def test_arguments_that_do_not_split_are_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="closing quotation"):
        edit.set_args(bundle, "-sys 'never closed")
    assert edit.read_args(Bundle.open(bundle.path)) == "--temp 0.5 ..."


def test_upgrading_gives_what_a_fresh_build_on_the_new_base_gives(bundle: Bundle, tmp_path: Path) -> None:
    newer = make_base(tmp_path / "newer.base", launcher=b"launcher two, longer")
    edit.upgrade(bundle, newer, tmp_path / "upgraded.run", force=False, progress=ignore)
    fresh = assemble.assemble(order(tmp_path, base=newer, out=tmp_path / "fresh.run"), ignore).out
    assert (tmp_path / "upgraded.run").read_bytes() == fresh.read_bytes()


def test_upgrading_makes_no_file_that_its_system_does_not_start(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = make_base(tmp_path / "newer.base", launcher=b"launcher two, longer")
    monkeypatch.setattr(linux, "MAX_BUNDLE", bundle.size)
    with pytest.raises(UsageError, match=r"linux-x86_64 starts no file of .*\(build it from its GGUF again"):
        edit.upgrade(bundle, newer, tmp_path / "upgraded.run", force=False, progress=ignore)
    assert not (tmp_path / "upgraded.run").exists()


def test_leaving_the_gpu_backend_out_gives_what_a_base_without_one_gives(tmp_path: Path) -> None:
    whole = assemble.assemble(order(tmp_path, base=make_base(tmp_path / "gpu.base", gpu=True)), ignore).out
    assert "engine/libggml-vulkan.so" in [member.name for member in Bundle.open(whole).manifest.members]
    base = make_base(tmp_path / "gpu.base", gpu=True)
    small = assemble.assemble(order(tmp_path, base=base, out=tmp_path / "small.run", without_gpu=True), ignore).out
    plain = assemble.assemble(order(tmp_path, out=tmp_path / "plain.run"), ignore).out
    assert small.read_bytes() == plain.read_bytes()
    verify.verify_bytes(Bundle.open(small), ignore)


def test_unpacking_gives_every_member(bundle: Bundle, tmp_path: Path) -> None:
    count = edit.unpack(bundle, tmp_path / "parts", ignore)
    files = [path for path in (tmp_path / "parts").rglob("*") if path.is_file()]
    assert len(files) == count == 6
    assert (tmp_path / "parts/engine/libengine.so").read_bytes() == b"engine" * 1000
    with pytest.raises(UsageError, match="not an empty directory"):
        edit.unpack(bundle, tmp_path / "parts", ignore)


def test_external_weights_lie_beside(tmp_path: Path) -> None:
    built = assemble.assemble(order(tmp_path, out=tmp_path / "far.run", external_weights=True), ignore)
    assert built.weights == tmp_path / "far.gguf"
    assert built.weights.read_bytes() == TinyGGUF().data()
    assert os.name == "nt" or not os.access(built.weights, os.X_OK)
    bundle = Bundle.open(built.out)
    assert bundle.manifest.member(MODEL) is None
    assert bundle.manifest.external is not None
    assert bundle.manifest.external["name"] == "far.gguf"


def test_weights_that_lie_there_already_are_not_copied(tmp_path: Path) -> None:
    """`build tiny.gguf --external-weights -o tiny.run`, in one folder."""
    asked = order(tmp_path, external_weights=True)
    weights = asked.model.path
    before = weights.stat()
    built = assemble.assemble(asked, ignore)
    assert (built.weights, weights.stat().st_mtime_ns, weights.stat().st_ino) == (
        weights, before.st_mtime_ns, before.st_ino,
    )  # fmt: skip
    assert built.written == (built.out,)
    told = Bundle.open(built.out).manifest.external or {}
    assert told == {
        "name": weights.name, **edges_sha256(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()
    }  # fmt: skip
    other = model.with_template(replace(asked.model, template="none"))  # what is to be written differs
    with pytest.raises(UsageError, match="is the input"):
        assemble.assemble(replace(asked, model=other, force=True), ignore)


def test_an_existing_output_is_kept(tmp_path: Path) -> None:
    (tmp_path / "tiny.run").write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        assemble.assemble(order(tmp_path), ignore)
    assert (tmp_path / "tiny.run").read_text() == "precious"
    assemble.assemble(order(tmp_path, force=True), ignore)
    assert Bundle.open(tmp_path / "tiny.run").manifest.name == "Tiny"


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    asked = order(tmp_path, force=True)
    with pytest.raises(UsageError, match="is the input"):
        assemble.assemble(order(tmp_path, force=True, out=asked.model.path), ignore)
    assert asked.model.path.read_bytes() == TinyGGUF().data()


def test_a_missing_output_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no directory"):
        assemble.assemble(order(tmp_path, out=tmp_path / "missing" / "x.run"), ignore)


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(assemble.shutil, "disk_usage", lambda folder: usage)
    asked = order(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(QwenfileError, match="1,000 bytes free"):
        assemble.assemble(asked, ignore)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("external", [False, True])
def test_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, external: bool
) -> None:
    asked = order(tmp_path, out=tmp_path / "out.run", external_weights=external)
    before = set(tmp_path.iterdir())

    def fail(*arguments: object) -> int:
        raise failure

    monkeypatch.setattr(os, "copy_file_range", fail, raising=False)
    with pytest.raises((KeyboardInterrupt, QwenfileError)) as caught:
        assemble.assemble(asked, ignore)
    if isinstance(failure, OSError):
        assert "No space left" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert set(tmp_path.iterdir()) == before


def test_copying_without_the_kernels_help_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = assemble.assemble(order(tmp_path), ignore).out.read_bytes()

    def refuse(*arguments: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    second = assemble.assemble(order(tmp_path, force=True), ignore).out.read_bytes()
    assert first == second
