"""Real bundles for the integration tests: built once per session from the newest base, run as their users run them."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # it needs a system with terminals
    from tests.integration.terminal import Terminal

ROOT = Path(__file__).parents[2]
# A shell starts background jobs with Ctrl-C ignored, and ignoring is inherited: the programs under test must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

TIMEOUT = 300.0  # seconds; a guard against hanging, not a measurement


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a program left behind. `out` and `err` are decoded strictly: all output is UTF-8."""

    code: int
    out: str
    err: str

    @property
    def one_line(self) -> str:
        """The single line on stderr; anything else fails the test."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Starts programs with a home and a run cache of the test session, and English messages."""

    env: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self,
        *command: str | Path,
        input: str | bytes = b"",  # noqa: A002 - as subprocess.run names it
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        **changes: str,
    ) -> Result:
        done = subprocess.run(
            command,
            input=input.encode() if isinstance(input, str) else input,
            capture_output=True,
            cwd=cwd,
            env={**(self.env if env is None else env), **changes},
            timeout=TIMEOUT,
            check=False,
        )
        return Result(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    def qwenfile(self, *arguments: str | Path, cwd: Path | None = None) -> Result:
        """The build tool."""
        return self(sys.executable, "-m", "bundler", *arguments, cwd=cwd, PYTHONPATH=str(ROOT))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Runs programs with an environment of the session's own, so that nothing of the user's is read or written."""
    home = tmp_path_factory.mktemp("home")
    cache = tmp_path_factory.mktemp("cache")
    cache.chmod(0o700)
    build_cache = os.environ.get("QWENFILE_BUILD_CACHE", "")
    if not build_cache:
        from runtime.paths import build_cache as find

        build_cache = str(find(os.environ))
    return Runner(
        env={
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "QWENFILE_CACHE": str(cache),
            "QWENFILE_BUILD_CACHE": build_cache,
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
        }
    )


def succeed(result: Result, what: Sequence[object]) -> Result:
    assert result.code == 0, f"{what}: exit code {result.code}\n{result.err}\n{result.out}"
    return result


@pytest.fixture(scope="session")
def base(run: Runner) -> Path:
    """The newest base for this machine, up to date with the launcher's sources."""
    done = succeed(run.qwenfile("base", "build"), ["qwenfile", "base", "build"])
    return Path(done.out.split("base", 1)[1].split("\n", 1)[0].strip())


@pytest.fixture(scope="session")
def demo_bundle(run: Runner, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the demo model, tried out by the builder. Its name and folder have a space and Chinese letters."""
    path = tmp_path_factory.mktemp("bundle 模型") / "qwen3 演示.run"
    succeed(run.qwenfile("build", "--demo", "--base", base, "-o", path), ["qwenfile", "build", "--demo"])
    return path


@pytest.fixture(scope="session")
def other_base(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a base for a target, once, in a folder that then is as a release's."""
    from tests.integration.bases import make_base

    folder = tmp_path_factory.mktemp("bases")
    return functools.cache(lambda target: make_base(run, target, folder))


@pytest.fixture(scope="session")
def emulated(run: Runner) -> Runner:
    """Runs programs for arm64, with the libraries of Debian 11 for them."""
    from tests.integration.bases import script

    known = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
    if not known.is_file() or "enabled" not in known.read_text():
        pytest.skip("the kernel starts no programs for arm64 here (binfmt_misc, from binfmt-support, as root)")
    return Runner(env={**run.env, "QEMU_LD_PREFIX": str(script(run, "sysroot.py", "--target", "linux-aarch64"))})


@pytest.fixture(scope="session")
def wine_environment(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """What programs for Windows run in, with a drive C: of the session's own."""
    from tests.integration.windows import drive_c

    with drive_c(run.env, tmp_path_factory.mktemp("wine") / "prefix") as named:
        yield named


# One thread: tests share their machine with others. Temperature 0: the likeliest answer, always the same.
STEADY = ("-t", "1", "--temp", "0")


@dataclass(frozen=True, kw_only=True)
class Cli:
    """Runs `BUNDLE --cli` with steady answers."""

    run: Runner
    bundle: Path

    def __call__(self, *arguments: str | Path, input: str | bytes = b"", **env: str) -> Result:  # noqa: A002
        return self.run(self.bundle, "--cli", *STEADY, *arguments, input=input, **env)

    def start(self, *arguments: str | Path, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        """Start it with pipes on stdout and stderr."""
        command = [self.bundle, "--cli", *STEADY, *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=pipe, env=dict(self.run.env))


@pytest.fixture
def cli(run: Runner, demo_bundle: Path) -> Cli:
    """The demo bundle's scripting face."""
    return Cli(run=run, bundle=demo_bundle)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder of the test's own."""
    return tmp_path


@dataclass(frozen=True, kw_only=True)
class Chats:
    """Opens chats of the demo bundle in a home of the test's own, with steady answers."""

    run: Runner
    bundle: Path
    home: Path
    opened: "list[Terminal]" = field(default_factory=list)

    def start(
        self, *arguments: str | Path, bundle: Path | None = None, before: str = "", columns: int = 80, **changes: str
    ) -> "Terminal":
        """One that need not have come to its prompt. `before`: what a shell does first."""
        from tests.integration.terminal import Terminal

        command: list[str | Path] = [bundle or self.bundle, *STEADY, "--seed", "1", *arguments]
        if before:
            command = ["bash", "-c", f'{before}; exec "$0" "$@"', *command]
        it = Terminal(command, {**self.run.env, "HOME": str(self.home), **changes}, columns=columns)
        self.opened.append(it)
        return it

    def __call__(self, *arguments: str | Path, **changes: Any) -> "Terminal":
        """One at its first prompt; named arguments as for `start`."""
        it = self.start(*arguments, **changes)
        it.wait_for(r"(^|\n)>>>")
        return it


@pytest.fixture
def open_chat(run: Runner, demo_bundle: Path, home: Path) -> Iterator[Chats]:
    """Opens chats; those that are left at the end of the test are killed."""
    chats = Chats(run=run, bundle=demo_bundle, home=home)
    yield chats
    for it in chats.opened:
        it.kill()


@pytest.fixture
def chat(open_chat: Chats) -> "Terminal":
    """A chat at its first prompt that answers without thinking."""
    from tests.integration.terminal import DIRECT

    return open_chat(*DIRECT)


@pytest.fixture
def endless(open_chat: Chats) -> "Terminal":
    """A chat at its first prompt that goes on answering until it is stopped."""
    from tests.integration.terminal import ENDLESS

    return open_chat(*ENDLESS)
