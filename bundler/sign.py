"""`qwenfile sign`: Authenticode on a bundle for Windows, by osslsigncode or Microsoft's signtool.

The signature comes behind the archive, whose offsets count from the file's start, so nothing in the bundle moves.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bundler.options import Sign
from bundler.verify import verify_bytes
from runtime.bundle import Bundle
from runtime.errors import QwenfileError, UsageError


def sign(asked: Sign) -> Path:
    """Sign the bundle in place; returns it. Raises UsageError, or QwenfileError with the tool's last line."""
    bundle = Bundle.open(asked.file)
    target = bundle.manifest.target
    if not target.startswith("windows-"):
        remedy = "codesign signs on macOS" if target.startswith("macos-") else "on Linux nothing asks for signatures"
        raise UsageError(f"{asked.file} is for {target}; sign is for Windows", remedy)
    if asked.pkcs12 is None and (asked.certificate is None or asked.key is None):
        raise UsageError("nothing to sign with", "name --pkcs12 FILE, or --certificate FILE and --key FILE")
    for given in filter(None, (asked.pkcs12, asked.certificate, asked.key, asked.password_file)):
        if not given.is_file():
            raise UsageError(f"there is no file {given}")
    with tempfile.TemporaryDirectory(prefix=f".{asked.file.name}.", dir=asked.file.absolute().parent) as work:
        part = Path(work) / asked.file.name
        _run(_command(asked, bundle, part))
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
    tool = shutil.which("signtool")
    if tool is None or os.name != "nt":
        raise QwenfileError("there is no osslsigncode", "install it (Debian, Ubuntu: apt install osslsigncode)")
    if asked.pkcs12 is None:
        raise UsageError("signtool takes a certificate with its key in one file", "name it with --pkcs12")
    shutil.copyfile(asked.file, out)
    command = [tool, "sign", "/fd", "SHA256", "/d", name, "/f", asked.pkcs12]
    if asked.password_file:
        command += ["/p", asked.password_file.read_text(encoding="utf-8").strip()]
    if asked.timestamp:
        command += ["/tr", asked.timestamp, "/td", "SHA256"]
    return [*command, out]


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no reason given")
        raise QwenfileError(f"{Path(command[0]).stem} failed: {reason}", "check the certificate, its key and password")
