"""Real clients, unchanged, against `--server` of a real bundle."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import HERE, environment, run_client
from tests.integration.conftest import TIMEOUT, Runner
from tests.integration.server import Server

PARIS = "The capital of France is Paris."
SUNNY = "It is 18 degrees and sunny in Paris."
CALL = {"name": "get_weather", "arguments": {"city": "Paris"}}


@pytest.fixture(scope="module")
def programs() -> Path:
    """The environment of all clients but litellm, which wants another version of openai."""
    return environment("clients")


@pytest.fixture(scope="module")
def api(run: Runner, demo_bundle: Path) -> Iterator[Server]:
    with Server(demo_bundle, run) as server:
        yield server
        assert server.end()[0] == 0


def say(seen: dict[str, Any]) -> None:
    """The version that was tried, in pytest's report."""
    print(f"version {seen['version']}")  # noqa: T201


@pytest.fixture(scope="module")
def openai(api: Server, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    seen = run_client(programs, "openai_client.py", api.url, api.facts["model"], cwd=tmp_path_factory.mktemp("openai"))
    say(seen)
    return seen


def test_openai_chats_and_thinks(openai: Any) -> None:
    assert openai["chat"]["content"] == PARIS
    assert openai["chat"]["reasoning"].strip()
    stream = openai["stream"]
    assert (stream["content"], stream["reasoning"]) == (PARIS, openai["chat"]["reasoning"])
    assert stream["pieces"] > 5
    assert stream["usage"]["completion"] > 5


@pytest.mark.parametrize("way", ["direct", "effort_none", "soft_off", "hard_off_soft_on"])
def test_openai_thinking_is_switched_as_on_the_model_card(openai: Any, way: str) -> None:
    assert openai[way] == {"content": PARIS, "reasoning": None}


def test_openai_calls_tools_and_uses_their_answer(openai: Any) -> None:
    assert openai["tools"] == {"finish": "tool_calls", "call": CALL, "answer": SUNNY}
    assert openai["tools_stream"] == CALL
    assert openai["responses_tools"] == CALL


def test_openai_output_follows_a_schema(openai: Any) -> None:
    assert set(openai["schema"]) == {"city", "rivers"}
    assert openai["schema"]["city"] in ("Paris", "Rome")


def test_openai_logprobs(openai: Any) -> None:
    assert len(openai["logprobs"]) == 4
    assert PARIS.startswith("".join(at["token"] for at in openai["logprobs"]))
    assert all(at["logprob"] <= 0 and at["top"] == 3 for at in openai["logprobs"])


def test_openai_stop_limit_seed_and_n(openai: Any) -> None:
    assert openai["stop"]["content"] == "The capital"
    assert openai["limit"] == "length"
    assert openai["seeds"][0] == openai["seeds"][1]
    assert len(set(openai["seeds"])) > 1
    assert openai["n"] == [PARIS] * 3


def test_openai_completions_and_models(openai: Any, api: Server) -> None:
    assert openai["completion"]
    assert openai["completion_stream"] == openai["completion"]
    assert openai["models"] == [api.facts["model"]]


def test_openai_responses(openai: Any) -> None:
    assert openai["responses"]["text"] == PARIS
    assert openai["responses"]["kinds"] == ["reasoning", "message"]
    assert openai["responses_stream"] == {
        "text": PARIS, "first": "response.created", "last": "response.completed"
    }  # fmt: skip


def test_openai_errors_are_its_own(openai: Any) -> None:
    too_long = openai["too_long"]
    assert (too_long["class"], too_long["status"]) == ("BadRequestError", 400)
    assert too_long["body"]["n_prompt_tokens"] > too_long["body"]["n_ctx"] == 4096
    for number in (too_long["body"]["n_prompt_tokens"], too_long["body"]["n_ctx"]):
        assert str(number) in too_long["body"]["message"]
    assert (openai["bad_request"]["class"], openai["bad_request"]["body"]["type"]) == (
        "BadRequestError", "invalid_request_error"
    )  # fmt: skip


def test_openai_embeddings(run: Runner, demo_bundle: Path, programs: Path, tmp_path: Path) -> None:
    with Server(demo_bundle, run, "--embedding", "--pooling", "last") as server:
        seen = run_client(programs, "openai_embeddings.py", server.url, server.facts["model"], cwd=tmp_path)
        assert server.end()[0] == 0
    assert len(set(seen["sizes"])) == 1
    assert seen["norms"] == pytest.approx([1.0] * 3, abs=1e-3)
    assert seen["near"] > seen["far"]
    assert seen["same"] < 1e-5
    assert seen["tokens"] > 10


def test_anthropic(api: Server, programs: Path, tmp_path: Path) -> None:
    seen = run_client(programs, "anthropic_client.py", api.url, api.facts["model"], cwd=tmp_path)
    say(seen)
    thinking, text = seen["blocks"]
    assert (thinking["type"], text) == ("thinking", {"type": "text", "text": PARIS})
    assert thinking["text"].strip()
    assert (seen["stop"], seen["direct"]) == ("end_turn", [{"type": "text", "text": PARIS}])
    assert seen["stream"]["text"] == PARIS
    assert {"message_start", "content_block_delta", "thinking", "text", "message_stop"} <= set(seen["stream"]["kinds"])
    assert seen["tools"] == {"stop": "tool_use", "name": "get_weather", "input": {"city": "Paris"}, "answer": SUNNY}
    assert seen["counted"] > 5
    assert seen["too_long"] == {"class": "BadRequestError", "status": 400}


def test_qwen_agent_with_a_function_and_an_mcp_server(api: Server, programs: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    seen = run_client(programs, "qwen_agent_client.py", api.url, api.facts["model"], log, cwd=tmp_path)
    say(seen)
    assert seen["plain"][-1]["content"] == PARIS
    for way in ("function", "function_raw", "mcp_raw"):
        roles = [part["role"] for part in seen[way]]
        assert roles.index("function") > 0, seen[way]
        assert "Paris" in next(part["function_call"] for part in seen[way] if part["function_call"])["arguments"]
        assert seen[way][-1]["content"] == SUNNY
    assert log.read_text().splitlines() == ["function Paris", "function Paris", "Paris"]


def test_langchain(api: Server, programs: Path, tmp_path: Path) -> None:
    seen = run_client(programs, "langchain_client.py", api.url, api.facts["model"], cwd=tmp_path)
    say(seen)
    assert seen["invoke"] == seen["ainvoke"] == seen["stream"] == PARIS
    assert seen["pieces"] > 5
    assert seen["batch"] == [PARIS, "The capital of Japan is Tokyo."]
    assert seen["calls"] == [{"name": "get_weather", "args": {"city": "Paris"}}]
    assert seen["answer"] == SUNNY


def test_litellm(api: Server, tmp_path: Path) -> None:
    seen = run_client(environment("litellm"), "litellm_client.py", api.url, api.facts["model"], cwd=tmp_path)
    say(seen)
    assert seen["content"] == seen["stream"] == PARIS
    assert seen["reasoning"].strip()
    assert seen["too_long"] == "ContextWindowExceededError"


def test_llm_on_the_command_line(api: Server, programs: Path, run: Runner, tmp_path: Path) -> None:
    """The `llm` tool with a model of its extra-openai-models.yaml: streamed, whole, and with a function."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: bundle\n  model_name: {api.facts['model']}\n  api_base: {api.url}/v1\n  supports_tools: true\n"
    )
    function = (
        "def get_weather(city: str) -> str:\n"
        '    """Get the current weather in a city"""\n'
        '    return \'{"temperature": 18, "condition": "sunny"}\'\n'
    )

    def llm(*arguments: str) -> str:
        command = (programs / "llm", "-m", "bundle", "--key", "none", "-o", "temperature", "0", *arguments)
        done = run(*command, LLM_USER_PATH=str(tmp_path))
        assert done.code == 0, done.err
        return done.out.strip()

    assert llm("What is the capital of France?") == PARIS
    assert llm("--no-stream", "What is the capital of France?") == PARIS
    assert llm("--functions", function, "What is the weather in Paris?") == SUNNY
    version = run(programs / "llm", "--version").out.rsplit(" ", 1)[1]
    say({"version": version.strip()})


def test_the_pages_own_mcp_servers(run: Runner, demo_bundle: Path, programs: Path, tmp_path: Path) -> None:
    """--mcp-servers-config starts the servers it names, offers their tools to the page, and ends them with itself."""
    log = tmp_path / "calls"
    config = tmp_path / "mcp.json"
    command = {"command": str(programs / "python"), "args": [str(HERE / "weather_mcp.py"), str(log)]}
    config.write_text(json.dumps({"mcpServers": {"weather": command}}))
    with Server(demo_bundle, run, "--mcp-servers-config", str(config)) as server:
        names = json.dumps(server.get("/tools"))
        assert "get_weather" in names
        children = Path(f"/proc/{server.child.pid}/task/{server.child.pid}/children").read_text().split()
        assert server.end()[0] == 0
    for child in children:
        assert not Path(f"/proc/{child}").exists()


def test_tools_and_mcp_are_off_unless_asked_for(api: Server) -> None:
    for path in ("/tools", "/cors-proxy"):
        status, body, _ = api.request(path)
        assert (status, body["error"]["type"]) == (403, "feature_disabled")
    local = [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]
    status, body, _ = api.request("/v1/chat/completions", {"messages": [{"role": "user", "content": local}]})
    assert status in (400, 500)
    assert "root:" not in json.dumps(body)
    assert subprocess.run(["pgrep", "-P", str(api.child.pid)], capture_output=True, timeout=TIMEOUT).stdout == b""
