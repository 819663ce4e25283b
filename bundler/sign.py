"""`qwenfile sign`: Authenticode on a bundle for Windows, by osslsigncode or Microsoft's signtool.

The signature comes behind the archive, whose offsets count from the file's start, so nothing in the bundle moves.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bundler.options import Sign
from bundler.verify import verify_bytes
from runtime.bundle import Bundle
from runtime.errors import QwenfileError, UsageError

# What OpenSSL's queue of errors adds to osslsigncode's own words, and its questions that nobody was there to answer.
_ASIDE = re.compile(r"[0-9A-F]+:error:|Enter .*:$|Failed$")


def sign(asked: Sign) -> Path:
    """Sign the bundle in place; returns it. Raises UsageError, or QwenfileError with the tool's reason."""
    bundle = Bundle.open(asked.file)
    target = bundle.manifest.target
    if not target.startswith("windows-"):
        remedy = "codesign signs on macOS" if target.startswith("macos-") else "on Linux nothing asks for signatures"
        raise UsageError(f"{asked.file} is for {target}; sign is for Windows", remedy)
    given = [bool(file) for file in (asked.pkcs12, asked.certificate, asked.key)]
    if given not in ([True, False, False], [False, True, True]):
        problem = "too much or too little to sign with" if any(given) else "nothing to sign with"
        raise UsageError(problem, "name --pkcs12 FILE, or --certificate FILE and --key FILE, which go together")
    for file in filter(None, (asked.pkcs12, asked.certificate, asked.key, asked.password_file)):
        if not file.is_file():
            raise UsageError(f"there is no file {file}", "check its name")
    with tempfile.TemporaryDirectory(prefix=f".{asked.file.name}.", dir=asked.file.absolute().parent) as work:
        part = Path(work) / asked.file.name
        _run(_command(asked, bundle, part), asked)
        part.chmod(asked.file.stat().st_mode)
        verify_bytes(Bundle.open(part), lambda _: None)
        part.replace(asked.file)
    return asked.file


def _command(asked: Sign, bundle: Bundle, out: Path) -> list[str | Path]:
    """How the tool that is here signs a copy at `out`."""
    name = bundle.manifest.name
    if tool := shutil.which("osslsigncode"):
        command: list[str | Path] = [tool, "sign", "-h", "sha256", "-n", name]
        if asked.pkcs12:
            command += ["-pkcs12", asked.pkcs12]
        else:
            command += ["-certs", str(asked.certificate), "-key", str(asked.key)]
        if asked.password_file:
            command += ["-readpass", asked.password_file]
        if asked.timestamp:
            command += ["-ts", asked.timestamp]
        return [*command, "-in", asked.file, "-out", out]
    if not _on_windows():
        remedy = "install it; Debian, Ubuntu: apt install osslsigncode; macOS: brew install osslsigncode"
        raise QwenfileError("there is no osslsigncode", remedy)
    tool = shutil.which("signtool")
    if tool is None:
        remedy = "signtool comes with the Windows SDK; put its folder into PATH"
        raise QwenfileError("there is neither signtool nor osslsigncode", remedy)
    if asked.pkcs12 is None:
        raise UsageError("signtool takes a certificate with its key in one file", "name it with --pkcs12")
    shutil.copyfile(asked.file, out)
    command = [tool, "sign", "/fd", "SHA256", "/d", name, "/f", asked.pkcs12]
    if asked.password_file:
        command += ["/p", asked.password_file.read_text(encoding="utf-8").strip()]
    if asked.timestamp:
        command += ["/tr", asked.timestamp, "/td", "SHA256"]
    return [*command, out]


def _on_windows() -> bool:
    return os.name == "nt"


def _run(command: list[str | Path], asked: Sign) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        remedy = "check the certificate, its key and password"
        remedy += "" if asked.password_file else "; --password-file gives a password"
        remedy += ", and the time-stamping server" if asked.timestamp else ""
        raise QwenfileError(f"{Path(command[0]).stem} failed: {reason(done.stdout, done.stderr)}", remedy)


def reason(out: str, err: str) -> str:
    """Why the tool failed, in its own words: signtool's line of error, or the first that osslsigncode says."""
    together = re.sub(r"\r?\n[ \t]+(?=\S)", " ", f"{err}\n{out}")  # a sentence that goes on in the next line
    lines = [line.strip() for line in together.splitlines() if line.strip()]
    own = [line for line in lines if not _ASIDE.match(line)]
    return next((line for line in own if line.startswith("SignTool Error")), (own or lines or ["no reason given"])[0])
