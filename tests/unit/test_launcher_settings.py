from pathlib import Path
from typing import Any

import pytest

from launcher.options import Face, LaunchOptions
from launcher.origins import show_settings
from launcher.settings import Listen, engine_command, model_name, quantization, reach, sampling
from runtime.bundle import Bundle, Header, Manifest
from runtime.errors import UsageError

PRIVATE = Listen(host="/run/x/engine.sock")
PUBLIC = Listen(host="127.0.0.1", port=8080, private=False)


def manifest(**model: Any) -> Manifest:
    facts = {"quantization": "Q8_0", "context_length": 32_768, **model}
    return Manifest(
        target="linux-x86_64", qwenfile="0", engine={}, name="Tiny", stub_size=1, stub_sha256="", model=facts
    )


def args(listen: Listen = PRIVATE, *, gpu: bool = False, model: Manifest | None = None, **options: Any) -> list[str]:
    command = engine_command(LaunchOptions(**options), model or manifest(), listen, gpu=gpu, cores=2)
    return list(command.args)


def value(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_a_private_engine_serves_one_conversation_and_no_page() -> None:
    words = args(face=Face.CLI)
    assert value(words, "--host") == "/run/x/engine.sock"
    assert value(words, "--parallel") == "1"
    assert {"--no-webui", "--no-warmup"} <= set(words)
    assert value(words, "-t") == "2"
    assert "--port" not in words


def test_a_chat_has_the_page_ready_and_reads_prompts_in_pieces() -> None:
    words = args(face=Face.CHAT)
    assert "--no-webui" not in words
    assert value(words, "-b") == "512"


def test_without_a_gpu_there_is_no_fit_pass() -> None:
    assert value(args(), "--fit") == "off"
    assert "--fit" not in args(gpu=True)


def test_the_engine_chooses_the_threads_where_nobody_knows_the_cores() -> None:
    command = engine_command(LaunchOptions(), manifest(), PRIVATE, gpu=False, cores=0)
    assert "-t" not in command.args


def test_the_server_defaults_to_the_preset_and_to_pages_of_this_machine() -> None:
    words = args(PUBLIC, face=Face.SERVER, sampling={"temperature": 0.1, "seed": 3}, predict=9, api_key="k")
    assert [value(words, flag) for flag in ("--temp", "--top-p", "--top-k", "--presence-penalty", "--seed", "-n")] == [
        "0.1", "0.95", "20", "1.5", "3", "9",
    ]  # fmt: skip
    assert value(words, "--cors-origins") == ""
    assert value(words, "--api-key") == "k"
    assert "--parallel" not in words
    assert "--reasoning" not in words
    assert value(args(PUBLIC, thinking=False), "--reasoning") == "off"
    assert value(args(PUBLIC, thinking=False), "--temp") == "0.7"


def test_the_users_engine_flags_come_last() -> None:
    words = args(engine_args=("--parallel", "4"))
    assert words[-2:] == ["--parallel", "4"]


def test_short_rows_share_a_cache() -> None:
    words = args(short_rows=True, context=512)
    assert "--kv-unified" in words
    assert value(words, "--kv-unified-per-slot") == "512"
    assert "--kv-unified" not in args(context=512)


def test_the_private_door_takes_no_key() -> None:
    with pytest.raises(UsageError, match="belong to --server"):
        args(engine_args=("--api-key-file", "x"))


def test_the_context_is_capped_unless_asked_for_and_stretched_by_yarn() -> None:
    assert value(args(model=manifest(context_length=4096)), "-c") == "4096"
    assert value(args(context=65_536), "--rope-scale") == "2"
    words = args(context=65_536, engine_args=("--rope-scaling", "none"))
    assert value(words, "--rope-scaling") == "none"
    assert "--rope-scale" not in words


def test_the_context_of_each_private_conversation() -> None:
    command = engine_command(LaunchOptions(context=4096), manifest(), PRIVATE, gpu=False, cores=2, slots=3)
    assert (command.context, command.slots) == (3 * 4096, 3)
    assert engine_command(LaunchOptions(context=4096), manifest(), PUBLIC, gpu=False, cores=2, slots=3).context == 4096


def test_how_far_a_model_reaches() -> None:
    options, scaled = LaunchOptions(), LaunchOptions(engine_args=("--rope-scale", "8"))
    own = manifest(context_length=40_960, yarn_context=65_536)
    seen = [
        reach(options, each)
        for each in (manifest(), own, manifest(context_length=262_144), manifest(context_length=4096))
    ]
    assert seen == [131_072, 65_536, 262_144, 4096]
    assert reach(scaled, own) == reach(LaunchOptions(model=Path("x.gguf")), own) == 0


def shown(model: Manifest, **options: Any) -> dict[str, str]:
    chosen = LaunchOptions(**options)
    bundle = Bundle(path=Path("x.run"), size=1, header=Header(position=0), manifest=model)
    table = show_settings(chosen, chosen, LaunchOptions(), bundle)
    return {name.strip(): rest for line in table.splitlines() for name, _, rest in [line.partition("  ")]}


def test_position_scaling_is_shown_as_it_will_be() -> None:
    own = manifest(context_length=40_960, yarn_context=131_072, architecture="qwen3")
    assert "YaRN up to 131,072 tokens" in shown(own)["position scaling"]
    assert "position scaling" not in shown(own, engine_args=("--rope-scaling", "none"))
    trained = manifest(context_length=40_960, architecture="qwen3")
    assert "YaRN, factor 2 " in shown(trained, context=65_536)["position scaling"]
    assert "position scaling" not in shown(trained, context=65_536, engine_args=("--rope-scale", "3"))
    assert "position scaling" not in shown(manifest(context_length=4096, architecture="qwen3"), context=8192)


def test_only_quantized_weights_have_their_own_presence_penalty() -> None:
    row = "presence_penalty, thinking"
    assert shown(manifest())[row].endswith("for quantized weights")
    assert shown(manifest(quantization="F16"))[row].endswith("Qwen3's preset")


def test_sampling_preset_then_bundle_then_command_line() -> None:
    carried = Manifest(
        target="t", qwenfile="0", engine={}, name="n", stub_size=1, stub_sha256="", model={"quantization": "F16"},
        sampling={"thinking": {"temperature": 0.5, "top_k": 7}},
    )  # fmt: skip
    assert sampling(LaunchOptions(sampling={"top_k": 1}), carried, thinking=True) == {
        "temperature": 0.5, "top_p": 0.95, "top_k": 1, "min_p": 0.0, "presence_penalty": 0.0,
    }  # fmt: skip
    assert sampling(LaunchOptions(), carried, thinking=False)["temperature"] == 0.7


def test_other_weights_are_known_by_their_name_alone() -> None:
    options = LaunchOptions(model=Path("dir/Qwen3-0.6B-BF16.gguf"))
    assert model_name(options, manifest()) == "Qwen3-0.6B-BF16"
    assert quantization(options, manifest()) == "BF16"
    assert quantization(LaunchOptions(model=Path("x-q4_k_m.gguf")), manifest()) == ""
    assert value(args(model=manifest(context_length=512), context=None, threads=3), "-t") == "3"
