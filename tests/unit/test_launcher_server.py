"""What `--server` decides before the engine starts: ports, keys, addresses, the browser, files."""

import os
import socket
from pathlib import Path

import pytest

from launcher.options import Face, LaunchOptions
from launcher.ports import choose_port, holder, unix_sockets
from launcher.room import kept_prompts
from launcher.server import Address, allow_many_connections, has_desktop, page_url, path_prefix, port_file, with_key
from launcher.settings import Listen, door, engine_command, is_private
from runtime.bundle import Manifest
from runtime.errors import ListenError, UsageError
from runtime.paths import host_target
from tests.unit.systems import posix_only


def test_a_port_that_is_taken_is_named_or_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        by = rf" by .* \(process {os.getpid()}\)" if host_target().startswith("linux") else ""
        with pytest.raises(ListenError, match=rf"port {taken}: address already in use{by}"):
            choose_port("127.0.0.1", taken)
        monkeypatch.setattr("launcher.ports.DEFAULT_PORT", taken)
        assert taken < choose_port("127.0.0.1", None) <= taken + 10
    assert choose_port("127.0.0.1", 0) > 0


def test_several_addresses_share_a_port() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert choose_port("127.0.0.1", taken) == taken
        with pytest.raises(ListenError, match=r"127\.0\.0\.2"):
            choose_port("127.0.0.1,127.0.0.2", taken)
    assert choose_port("127.0.0.1,/tmp/x.sock", 0) > 0
    assert choose_port("/tmp/x.sock", None) == 0


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1.*another --host"):
        choose_port("192.0.2.1", 0)


@posix_only
def test_unix_sockets_are_cleared_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with unix_sockets(f"127.0.0.1,{path}"), socket.socket(socket.AF_UNIX) as own:
        own.bind(str(path))
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(ListenError, match="no socket"), unix_sockets(str(path)):
        pytest.fail("it was taken over")
    assert path.read_text() == "precious"


def test_nobody_holds_a_free_port(tmp_path: Path) -> None:
    assert holder(1) == ""
    assert holder(1, tmp_path) == ""


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("/run/x.sock,localhost", "http://localhost:1"),
    ],
)
def test_page_addresses(host: str, url: str) -> None:
    assert page_url(host, 1) == url


def test_the_prefix_of_all_paths_is_known() -> None:
    assert path_prefix(LaunchOptions()) == ""
    given = ("--api-prefix", "/a", "--metrics", "--api-prefix", "/llm/")
    assert path_prefix(LaunchOptions(engine_args=given)) == "/llm"


def test_a_server_that_others_reach_gets_a_key() -> None:
    plain = LaunchOptions(face=Face.SERVER)
    assert with_key(plain, "127.0.0.1").api_key is None
    for host in ("0.0.0.0", "127.0.0.1,192.168.0.1"):
        generated = with_key(plain, host).api_key
        assert generated is not None
        assert len(generated) >= 32
    assert with_key(LaunchOptions(api_key="k"), "0.0.0.0").api_key == "k"
    assert with_key(LaunchOptions(need_key=False), "0.0.0.0").api_key is None
    assert with_key(LaunchOptions(engine_args=("--api-key-file", "f")), "0.0.0.0").api_key is None
    assert is_private("::1")
    assert is_private("localhost,/run/x.sock")
    assert not is_private("192.168.0.1")


@pytest.mark.parametrize("flag", ["--tools", "--mcp-servers-config", "--media-path"])
def test_powerful_features_need_a_key_in_public(flag: str) -> None:
    options = LaunchOptions(need_key=False, engine_args=(flag, "x"))
    with pytest.raises(UsageError, match=f"{flag} with --no-api-key"):
        with_key(options, "0.0.0.0")
    assert with_key(options, "127.0.0.1") is options
    assert with_key(LaunchOptions(engine_args=(flag, "x")), "0.0.0.0").api_key


def test_no_browser_over_ssh_or_without_a_display() -> None:
    assert has_desktop({"DISPLAY": ":0"})
    assert not has_desktop({"DISPLAY": ":0", "SSH_CONNECTION": "a b"})
    assert has_desktop({}) is not host_target().startswith("linux")


def test_the_port_file_lives_as_long_as_the_server(tmp_path: Path) -> None:
    file = tmp_path / "port"
    file.write_text("stale")
    with port_file(file, Address(url="http://127.0.0.1:81", port=81)):
        assert file.read_text() == "81\n"
        assert list(tmp_path.iterdir()) == [file]
    assert not file.exists()
    with port_file(file, Address(url="/run/x.sock", port=0)):
        assert file.read_text() == "/run/x.sock\n"


def test_a_port_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "port"
    with pytest.raises(UsageError, match="no such file"), port_file(file, Address(url="", port=1)):
        pytest.fail("it was written")


def test_the_limit_of_open_files_rises_as_far_as_it_may() -> None:
    resource = pytest.importorskip("resource", reason="this system has no such limits")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(16_384, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


MANIFEST = Manifest(
    target="linux-x86_64", qwenfile="0", engine={}, name="Qwen3-0.6B", model={"quantization": "Q8_0"}, sampling=None,
    stub_size=0, stub_sha256="", members=(),
)  # fmt: skip


def test_the_door_knows_both_presets_and_whom_to_let_in() -> None:
    told = door(LaunchOptions(allowed_hosts=("box.lan, other.lan", ""), max_body=1, sampling={"top_k": 5}), MANIFEST)
    assert told["allowed_hosts"] == ["box.lan", "other.lan"]
    assert (told["max_body"], told["model"]) == (2**20, "Qwen3-0.6B")
    thinking, direct = told["sampling"]["thinking"], told["sampling"]["non_thinking"]
    assert (thinking["temperature"], direct["temperature"]) == (0.6, 0.7)
    assert thinking["top_k"] == direct["top_k"] == 5


@pytest.mark.parametrize(("host", "hidden"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_others_do_not_see_the_slots(host: str, hidden: bool) -> None:
    listen = Listen(host=host, port=1, private=False)
    assert ("--no-slots" in engine_command(LaunchOptions(), MANIFEST, listen, gpu=False, cores=1).args) is hidden
    asked = LaunchOptions(engine_args=("--slots",))
    assert "--no-slots" not in engine_command(asked, MANIFEST, listen, gpu=False, cores=1).args


def test_memory_for_old_conversations_is_bounded_by_the_context() -> None:
    shape = {
        "layers": 28, "hidden": 1024, "heads": 16, "kv_heads": 8, "key_length": 128, "value_length": 128,
        "feed_forward": 3072, "vocabulary": 151_936, "weights": 640_000_000,
    }  # fmt: skip
    at_8k = int(kept_prompts({"shape": shape}, (), context=8192)[1])
    assert 896 <= at_8k <= 1024  # 28 layers of 8 * 128 keys and values, two bytes each, 8,192 times
    assert int(kept_prompts({"shape": shape}, ("-ctk", "q8_0", "-ctv", "q8_0"), context=8192)[1]) < 0.6 * at_8k
    assert kept_prompts({"shape": {**shape, "layers": 1}}, (), context=256) == ("--cache-ram", "16")
    assert kept_prompts({}, (), context=8192) == ("--cache-ram", "1024")
