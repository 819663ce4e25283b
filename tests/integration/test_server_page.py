"""The web page in a real browser, on a real bundle. Screenshots of every step are kept in build/screenshots/."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import environment, run_client
from tests.integration.conftest import ROOT, Runner
from tests.integration.server import Server

SHOTS = ROOT / "build" / "screenshots"
CONTEXT = 32_768  # takes the demo model so long to fill that an answer without end can be stopped before


@pytest.fixture(scope="module")
def model_and_seen(run: Runner, demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """What a browser saw and did, and the model's name. Debian and Ubuntu: apt install chromium (`.ci/run` does)."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed: the page is not tried in a browser")
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    with Server(demo_bundle, run, "--temp", "0", "-c", str(CONTEXT), "--parallel", "1") as server:
        home = tmp_path_factory.mktemp("browser")
        seen = run_client(environment("clients"), "page_client.py", server.url, chromium, SHOTS, cwd=home)
        assert server.end()[0] == 0
    print(f"playwright {seen['version']}, Chromium {seen['browser']}")  # noqa: T201
    return str(server.facts["model"]), {**seen, "address": f"127.0.0.1:{server.port}"}


@pytest.fixture
def seen(model_and_seen: tuple[str, Any]) -> Any:
    return model_and_seen[1]


def test_it_bears_the_models_name(model_and_seen: tuple[str, Any]) -> None:
    name, seen = model_and_seen
    assert seen["talk"]["title"] == name
    assert seen["talk"]["chat_title"] == f"What is the capital of France? - {name}"


def test_nothing_leaves_this_machine(seen: Any) -> None:
    for hosts in (seen["hosts"], *(seen[look]["hosts"] for look in ("light", "dark", "phone"))):
        assert hosts == [seen["address"]]
    assert seen["failures"] == []


def test_thinking_is_folded_and_can_be_opened(seen: Any) -> None:
    assert seen["talk"]["folded"] == "false"
    assert "Paris" in seen["talk"]["thinking"]


def test_conversations_are_separate_and_survive_a_reload(seen: Any) -> None:
    """That both are there after the reload, the browser has waited for."""
    assert seen["talk"]["second_sent"] == ["What is the capital of Japan?"]


def test_sampling_is_left_to_the_server_until_settings_say_otherwise(seen: Any) -> None:
    assert not {"temperature", "top_p", "top_k", "min_p"} & set(seen["talk"]["sent"])
    assert seen["temperature"] == {"offered": "Default: 0", "sent": 0.25}


def test_a_file_goes_along(seen: Any) -> None:
    assert "notes.txt" in seen["attached"]
    assert "My name is Ada." in seen["attached"]


def test_stop_stops_the_engine(seen: Any) -> None:
    assert 0 < seen["tokens_when_stopped"] < CONTEXT / 2


def test_light_dark_and_a_phone(seen: Any) -> None:
    assert seen["light"]["background"] != seen["dark"]["background"]
    assert [seen[look]["overflow"] for look in ("light", "dark", "phone")] == [0, 0, 0]


def test_a_page_from_elsewhere_gets_nothing(seen: Any) -> None:
    elsewhere = seen["elsewhere"]
    assert (elsewhere["tried"]["read"], elsewhere["tried"]["json"]) == ("refused", "refused")
    assert elsewhere["statuses"]["POST /v1/chat/completions"] == [403]
    assert 403 in elsewhere["statuses"]["GET /"]  # our page in a frame of theirs
    assert elsewhere["rebound"] == 403


def test_screenshots_are_there_to_be_looked_at(seen: Any) -> None:
    shots = sorted(SHOTS.glob("*.png"))
    assert len(shots) == 12
    assert all(shot.stat().st_size > 5_000 for shot in shots)
