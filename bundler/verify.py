"""Check a finished bundle or base: every byte against its manifest, then a token out of its weights."""

import hashlib
import json
import subprocess
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bundler.archive import central_directory, local_header
from bundler.platforms import platform_of
from bundler.positioned import pread
from bundler.writer import Progress, hash_file, stub_sha256
from runtime.bundle import CHUNK, LAUNCHER, MANIFEST, Bundle, Member
from runtime.errors import ModelError, QwenfileError
from runtime.paths import host_target

GENERATION_TIMEOUT = 600.0  # seconds; large weights on a slow disk are read once


def verify_bytes(bundle: Bundle, progress: Progress) -> None:
    """Hash every member and compare every byte between members. Raises ModelError naming the first that differs."""
    with bundle.path.open("rb") as file:
        fd = file.fileno()
        manifest = bundle.manifest
        record = _manifest_record(bundle, fd)
        _verify_header(bundle, fd)
        position = manifest.stub_size
        for member in (*manifest.members, record):
            _verify_gap(bundle, fd, position, member)
            if member is not record:
                _verify_member(bundle, member, progress)
            position = member.offset + member.size
        directory = central_directory((*manifest.members, record), position)
        found = pread(fd, len(directory), position)
        if len(found) < len(directory):
            raise ModelError(
                f"{bundle.path} is truncated: {bundle.size:,} bytes, {position + len(directory):,} expected",
                "copy it again",
            )
        if found != directory:
            raise ModelError(f"{bundle.path} has a damaged ZIP directory", "copy the file again")
        if not platform_of(manifest.target).is_intact(fd):
            raise ModelError(f"{bundle.path} has a damaged signature", "copy the file again")


def verify_weights_beside(bundle: Bundle, progress: Progress) -> Path:
    """Hash the weights that lie beside a bundle; returns their path. Raises ModelError if they are not its own."""
    external = bundle.manifest.external or {}
    own = bundle.path.with_suffix(".gguf")
    named = (own, bundle.path.with_name(Path(str(external.get("name", own.name))).name))
    there = [path for path in named if path.is_file()]
    right = (path for path in there if path.stat().st_size == external.get("size"))
    path = next(right, there[0] if there else named[1])
    try:
        found = hash_file(path, progress)
    except OSError as error:
        raise ModelError(f"cannot read the weights beside, {path}: {error.strerror}", "put them there") from None
    if found != (external.get("size"), external.get("sha256")):
        raise ModelError(f"{path} is not what {bundle.path} was built with", "copy the file again")
    return path


def _manifest_record(bundle: Bundle, fd: int) -> Member:
    """The manifest as a member, after comparing it with the CRC-32 in its own ZIP header: all else rests on it."""
    header = bundle.header
    content = pread(fd, header.manifest_size, header.manifest_offset)
    record = Member(
        name=MANIFEST,
        offset=header.manifest_offset,
        size=len(content),
        length=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        crc32=zlib.crc32(content),
    )
    expected = local_header(record)
    if pread(fd, len(expected), record.offset - len(expected)) != expected:
        raise bundle.damaged(record, "its CRC-32 differs")
    return record


def _verify_header(bundle: Bundle, fd: int) -> None:
    """The stub as it was built, and its header pointing at the launcher."""
    manifest = bundle.manifest
    launcher = bundle.require(LAUNCHER)
    expected = replace(
        bundle.header,
        launcher_offset=launcher.offset,
        launcher_size=launcher.size,
        launcher_sha256=bytes.fromhex(launcher.sha256),
    ).pack()
    if pread(fd, len(expected), bundle.header.position) != expected:
        raise ModelError(f"{bundle.path} has a damaged header in its stub", "copy the file again")
    try:
        digest = stub_sha256(pread(fd, manifest.stub_size, 0), bundle.header, manifest.target)
    except ValueError as error:
        raise ModelError(f"{bundle.path} has a damaged stub ({error})", "copy the file again") from None
    if digest != manifest.stub_sha256:
        raise ModelError(f"{bundle.path} has a damaged stub (its SHA-256 differs)", "copy the file again")


def _verify_gap(bundle: Bundle, fd: int, position: int, member: Member) -> None:
    """Between two members: zeros for alignment, then the local header."""
    expected = local_header(member)
    start = member.offset - len(expected)
    if start < position or pread(fd, len(expected), start) != expected:
        raise bundle.damaged(member, "its ZIP header differs")
    if any(pread(fd, start - position, position)):
        raise bundle.damaged(member, "the padding before it is not zero")


def _verify_member(bundle: Bundle, member: Member, progress: Progress) -> None:
    for piece in bundle.chunks(member):
        if not member.compressed:
            progress(len(piece))
    if member.compressed:
        progress(member.size)


def verify_generation(bundle: Bundle, env: Mapping[str, str]) -> str:
    """Run the bundle as its user would, for one token out of its own weights; returns the token's text.

    Raises ModelError if the bundle is for another system or generates nothing."""
    if bundle.manifest.target != host_target():
        raise ModelError(f"{bundle.path} is for {bundle.manifest.target}; this machine is {host_target()}")
    # a machine that builds need not be one that can run it well
    request = ("--cli", "--raw", "--json", "-p", "Hello", "-n", "1", "-c", "256", "--temp", "0", "--force")
    result = _run((bundle.path.absolute(), *request), env)
    try:
        answer = json.loads(result.stdout)
        tokens, text = answer["completion_tokens"], answer["text"]
    except (ValueError, KeyError, TypeError):
        reason = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise ModelError(f"{bundle.path} does not run: {reason[0]}") from None
    if tokens != 1:
        raise ModelError(f"{bundle.path} was asked for one token and generated {tokens}")
    return str(text)


def _run(command: Sequence[str | Path], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=GENERATION_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QwenfileError(f"cannot run {command[0]}: {error}") from None


def total(bundle: Bundle) -> int:
    """Bytes that `verify_bytes` and `verify_weights_beside` report as progress."""
    beside = int((bundle.manifest.external or {}).get("size", 0))
    return beside + sum(member.size for member in bundle.manifest.members) or CHUNK
