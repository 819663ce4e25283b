"""The engine of a chat or a script where there are no Unix sockets, as on Windows: a port, and a key to it.

The launcher runs from its sources here, and is made to believe that its system has no such sockets.
"""

import http.client
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, STEADY, Runner
from tests.integration.terminal import DIRECT, Terminal

WITHOUT = """\
import types
import launcher.session
launcher.session.socket = types.ModuleType("socket")
from launcher.__main__ import main
raise SystemExit(main())
"""
QUESTION = "What is the capital of France?"


@pytest.fixture
def alone(run: Runner, demo_bundle: Path) -> Runner:
    return Runner(env={**run.env, "QWENFILE_BUNDLE": str(demo_bundle), "PYTHONPATH": str(ROOT)})


def ports(process: int) -> set[int]:
    """The TCP ports of this machine that a process listens on."""
    inodes = set()
    for handle in Path(f"/proc/{process}/fd").iterdir():
        kind, _, inode = str(handle.readlink()).partition(":[")
        if kind == "socket":
            inodes.add(inode.rstrip("]"))
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}


def test_it_answers(alone: Runner) -> None:
    told = alone(sys.executable, "-c", WITHOUT, "--cli", *STEADY, "-p", QUESTION)
    assert (told.code, told.out, told.err) == (0, "The capital of France is Paris.\n", "")


def test_others_are_not_let_in(alone: Runner) -> None:
    endless = ("--raw", "--ignore-eos", "-c", "32768", "-n", "30000", "-p", "Once")
    command = [sys.executable, "-c", WITHOUT, "--cli", *STEADY, *endless]
    with subprocess.Popen(command, env=dict(alone.env), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1)
        (port,) = ports(child.pid)
        for path in ("/props", "/slots", "/v1/chat/completions"):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("POST", path, b"{}", {"Authorization": "Bearer guessed"})
            assert connection.getresponse().status == 401
            connection.close()
        child.kill()


def test_the_chat_opens_its_page_with_the_key(alone: Runner) -> None:
    chat = Terminal([sys.executable, "-c", WITHOUT, *STEADY, *DIRECT], alone.env)
    chat.wait_for(r">>> *$")
    chat.ask(QUESTION)
    shown = chat.ask("/serve 0")
    found = re.search(r"http://([\d.:]+)", shown)
    assert found, shown
    connection = http.client.HTTPConnection(found[1])
    connection.request("GET", "/props")
    assert connection.getresponse().status == 200
    connection.close()
    chat.enter("/exit")
    assert chat.end() == 0
