"""Signing bundles for Windows: what is missing, and what the tools say when they fail. No tool is run."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundler import sign as signing
from bundler.options import Sign, parse
from runtime.bundle import Bundle, Header, Manifest
from runtime.errors import QwenfileError, UsageError

QUEUE = "40A0BE3B157F0000:error:1E08010C:DECODER routines:OSSL_DECODER_from_bio:unsupported:decoder_lib.c:103:No data"
PKCS12 = ("--pkcs12", "id.pfx")


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """One for Windows, and files to sign it with."""
    facts = {"target": "windows-x86_64", "qwenfile": "0", "engine": {}, "stub_size": 1, "stub_sha256": ""}
    manifest = Manifest(**facts, name="Qwen3 千问")  # type: ignore[arg-type]
    opened = Bundle(path=tmp_path / "x.exe", size=1, header=Header(position=0), manifest=manifest)
    monkeypatch.setattr(signing, "Bundle", SimpleNamespace(open=lambda path: opened))
    for name in ("x.exe", "id.pfx", "certificate.pem", "key.pem", "password"):
        (tmp_path / name).write_text(" secret\n")
    monkeypatch.chdir(tmp_path)
    return opened


def asked(*arguments: str) -> Sign:
    command = parse(["sign", "x.exe", *arguments]).command
    assert isinstance(command, Sign)
    return command


def tools(monkeypatch: pytest.MonkeyPatch, system: str, *names: str) -> None:
    """A system that has these and no others."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/tools/{name}" if name in names else None)
    monkeypatch.setattr(signing, "_on_windows", lambda: system == "windows")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to sign with"),
        (("--certificate", "certificate.pem"), "too little to sign with"),
        (("--key", "key.pem"), "too little to sign with"),
        ((*PKCS12, "--key", "key.pem"), "too much"),
        ((*PKCS12, "--certificate", "certificate.pem", "--key", "key.pem"), "too much"),
        (("--pkcs12", "nowhere.pfx"), "there is no file nowhere.pfx"),
        ((*PKCS12, "--password-file", "nowhere"), "there is no file nowhere"),
    ],
)
def test_what_is_missing_or_too_much_is_told(bundle: Bundle, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        signing.sign(asked(*arguments))


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("windows", "neither signtool nor osslsigncode .*Windows SDK"),
        ("linux", "there is no osslsigncode .*apt install"),
    ],
)
def test_a_missing_tool_is_told(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, words: str
) -> None:
    tools(monkeypatch, system)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(QwenfileError, match=words) as caught:
        signing.sign(asked(*PKCS12))
    assert caught.value.exit_code == 1
    assert sorted(tmp_path.iterdir()) == before


def test_the_commands_of_both_tools(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "signed.exe"
    pair = ("--certificate", "certificate.pem", "--key", "key.pem")
    more = ("--password-file", "password", "--timestamp", "http://x")
    tools(monkeypatch, "linux", "osslsigncode", "signtool")
    assert [str(word) for word in signing._command(asked(*pair, *more), bundle, out)] == [
        "/tools/osslsigncode", "sign", "-h", "sha256", "-n", "Qwen3 千问", "-certs", "certificate.pem", "-key",
        "key.pem", "-readpass", "password", "-ts", "http://x", "-in", "x.exe", "-out", str(out),
    ]  # fmt: skip
    tools(monkeypatch, "windows", "signtool")
    assert [str(word) for word in signing._command(asked(*PKCS12, *more), bundle, out)] == [
        "/tools/signtool", "sign", "/fd", "SHA256", "/d", "Qwen3 千问", "/f", "id.pfx", "/p", "secret",
        "/tr", "http://x", "/td", "SHA256", str(out),
    ]  # fmt: skip
    assert out.read_bytes() == (tmp_path / "x.exe").read_bytes()  # it signs in place
    with pytest.raises(UsageError, match=r"one file .*--pkcs12"):
        signing._command(asked(*pair), bundle, out)


@pytest.mark.parametrize(
    ("out", "err", "told"),
    [
        (
            "Failed\n",
            f"Enter PEM pass phrase:\nFailed to read k (Password?)\n{QUEUE}\n",
            "Failed to read k (Password?)",
        ),
        ("\nFailed\n", f"Failed to check k\n          with c\n\nNo signature\n{QUEUE}\n", "Failed to check k with c"),
        ("Connecting to http://x/\nFailed\n", f"\nHTTP failure: no data\n{QUEUE}\n", "HTTP failure: no data"),
        ("Failed\n", f"{QUEUE}\n", QUEUE),
        ("One was selected:\r\n", "Done.\r\nSignTool Error: Wrong password.\r\n", "SignTool Error: Wrong password."),
        (
            "Errors: 1\r\n",
            "SignTool Error: None found\r\n\tthat will do.\r\n",
            "SignTool Error: None found that will do.",
        ),
        ("", "", "no reason given"),
    ],
)
def test_the_tools_own_words_are_told(out: str, err: str, told: str) -> None:
    assert signing.reason(out, err) == told
