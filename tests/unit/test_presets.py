import pytest

from runtime.errors import UsageError
from runtime.presets import Carried, ContextPlan, carried_yarn, is_quantized, plan_context, preset, yarn_arguments


def test_presets_are_the_published_ones() -> None:
    assert preset(thinking=True, quantized=False) == {
        "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "presence_penalty": 0.0,
    }  # fmt: skip
    assert preset(thinking=False, quantized=True) == {
        "temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0, "presence_penalty": 1.5,
    }  # fmt: skip


def test_a_preset_is_the_callers_own() -> None:
    preset(thinking=True, quantized=False)["temperature"] = 0
    assert preset(thinking=True, quantized=False)["temperature"] == 0.6


@pytest.mark.parametrize(("name", "expected"), [("Q8_0", True), ("Q4_K_M", True), ("F16", False), ("bf16", False)])
def test_quantized(name: str, expected: bool) -> None:
    assert is_quantized(name) is expected


@pytest.mark.parametrize(
    ("wanted", "trained", "size"),
    [
        (None, 40_960, 8192),
        (None, 4096, 4096),
        (None, None, 8192),
        (0, 40_960, 40_960),
        (0, None, 0),
        (32_768, 32_768, 32_768),
        (32_768, 40_960, 32_768),
        (49_152, 49_152, 49_152),
        (256, 4096, 256),
        (131_072, 131_072, 131_072),
        (200_000, 262_144, 200_000),
    ],
)
def test_plain_contexts_need_no_flags(wanted: int | None, trained: int | None, size: int) -> None:
    assert plan_context(wanted, trained) == ContextPlan(size=size)


def test_beyond_the_native_context_yarn_is_switched_on_and_said() -> None:
    plan = plan_context(65_536, 32_768)
    assert plan.size == 65_536
    assert plan.engine_args == ("--rope-scaling", "yarn", "--rope-scale", "2", "--yarn-orig-ctx", "32768")
    assert "YaRN" in plan.notice
    assert plan_context(131_072, 40_960).engine_args == yarn_arguments(131_072)
    assert plan_context(40_960, 40_960).engine_args == yarn_arguments(40_960)
    assert yarn_arguments(49_152)[3] == "1.5"


def test_beyond_a_short_trained_context_there_is_a_notice_and_no_yarn() -> None:
    plan = plan_context(8192, 4096)
    assert plan.size == 8192
    assert plan.engine_args == ()
    assert "4,096" in plan.notice


def test_the_engines_limit_is_lifted_beyond_the_trained_context() -> None:
    """Else its server holds a larger context and uses the trained part."""
    lifted = ("--override-kv", "qwen3.context_length=int:65536")
    assert plan_context(65_536, 4096, architecture="qwen3").engine_args == lifted
    assert plan_context(65_536, 40_960, architecture="qwen3").engine_args == (*yarn_arguments(65_536), *lifted)
    assert plan_context(40_960, 40_960, architecture="qwen3").engine_args == yarn_arguments(40_960)
    own = plan_context(65_536, 40_960, architecture="qwen3", rope_given=True)
    assert own.engine_args == (*lifted, "--yarn-orig-ctx", "40960")
    carried = Carried(architecture="qwen3", context=131_072)
    assert plan_context(65_536, 40_960, architecture="qwen3", rope_given=True, carried=carried).engine_args == lifted


@pytest.mark.parametrize("wanted", [-1, 1, 10, 255, 131_073, 10_000_000])
def test_contexts_out_of_range_are_usage_errors(wanted: int) -> None:
    with pytest.raises(UsageError):
        plan_context(wanted, 32_768)


def test_explicit_rope_flags_win() -> None:
    assert plan_context(1_000_000, 32_768, rope_given=True) == ContextPlan(size=1_000_000)


def test_yarn_keys_in_the_file_are_respected() -> None:
    carried = carried_yarn({"architecture": "qwen3moe", "yarn_context": 131_072})
    assert carried == Carried(architecture="qwen3moe", context=131_072)
    assert carried_yarn({"yarn_context": 0}) is None
    assert plan_context(None, 40_960, carried=carried) == ContextPlan(size=8192)
    assert plan_context(40_000, 40_960, carried=carried) == ContextPlan(size=40_000)
    lifted = ("--override-kv", "qwen3moe.context_length=int:131072")
    assert plan_context(65_536, 40_960, carried=carried) == ContextPlan(size=65_536, engine_args=lifted)
    assert plan_context(0, 40_960, carried=carried) == ContextPlan(size=131_072, engine_args=lifted)
    with pytest.raises(UsageError, match="131,072 of the model's own YaRN"):
        plan_context(131_073, 40_960, carried=carried)
    assert plan_context(300_000, 40_960, carried=carried, rope_given=True) == ContextPlan(size=300_000)
