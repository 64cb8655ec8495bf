"""A LiteLLM config as one of ours: what each word becomes, and that nothing is dropped in silence. Prices are the real LiteLLM's."""

import hashlib

import orjson
import pytest
import yaml
from click.testing import CliRunner

from bestserve.proxy.cli import main
from bestserve.proxy.config import Config, parse
from bestserve.proxy.config_file import BadConfig
from bestserve.proxy.importing import Imported, translate
from tests.with_litellm import WITH_LITELLM

pytestmark = WITH_LITELLM

ENVIRON = {"KEY": "sk-1", "MASTER": "sk-master", "WHERE": "http://h/v1"}
GPT = "{model: openai/gpt-4o-mini, api_key: os.environ/KEY}"


def imported(text: str, **environ: str) -> tuple[Imported, Config]:
    """What it becomes, and that read by us."""
    made = translate(text, ENVIRON | environ, source="litellm.yaml")
    return made, parse(made.yaml(), ENVIRON | environ, source="bestserve.yaml")


def one(params: str, more: str = "") -> tuple[Imported, Config]:
    return imported(f"model_list:\n  - model_name: m\n    litellm_params: {params}\n{more}")


def test_a_model_name_is_kept_and_its_deployments_become_backends():
    """The policy chooses among them; `auto` is all of them."""
    text = f"model_list:\n  - {{model_name: openai/chat, litellm_params: {GPT}}}\n  - {{model_name: openai/chat, litellm_params: {GPT}}}\n"
    made, config = imported(text)
    assert dict(config.models) == {"openai/chat": ("openai-chat.1", "openai-chat.2"), "auto": ("openai-chat.1", "openai-chat.2")}
    assert [(b.engine, b.model, b.api_key) for b in config.backends] == [("litellm", "openai/gpt-4o-mini", "sk-1")] * 2
    assert "api_key: ${KEY}" in made.yaml()
    assert made.unmatched == []
    assert config.backends[0].facts().tariff.prompt_token > 0


@pytest.mark.parametrize(
    ("params", "key", "value"),
    [
        ("{model: gpt-4o, rpm: 10}", "requests_per_minute", 10),
        ("{model: gpt-4o, tpm: 1000}", "tokens_per_minute", 1000),
        ("{model: gpt-4o, max_parallel_requests: 3}", "max_in_flight", 3),
        ("{model: gpt-4o, input_cost_per_token: 0.000002}", "usd_per_million_input", 2.0),
        ("{model: gpt-4o, output_cost_per_token: 3.0e-06}", "usd_per_million_output", 3.0),
        ("{model: openai/mine, api_base: 'http://h:1/v1'}", "engine", "openai"),
        ("{model: openai/mine, api_base: 'http://h:1/v1/'}", "url", "http://h:1"),
        ("{model: hosted_vllm/Qwen/Qwen3-8B, api_base: 'http://h:1/v1'}", "engine", "vllm"),
        ("{model: hosted_vllm/Qwen/Qwen3-8B, api_base: 'http://h:1/v1'}", "model", "Qwen/Qwen3-8B"),
        ("{model: openai/mine, api_base: 'http://h:1/other'}", "engine", "litellm"),
        ("{model: openai/mine, api_base: os.environ/WHERE}", "litellm", {"api_base": "http://h/v1"}),
        (
            "{model: azure/x, api_base: 'http://h', api_version: 2024-05-01}",
            "litellm",
            {"api_base": "http://h", "api_version": "2024-05-01"},
        ),
        ("{model: x, custom_llm_provider: openai, temperature: 0.5}", "model", "openai/x"),
        ("{model: gpt-4o, api_key: 'a${b'}", "api_key", "a${b"),
        ("{model: openai/text-embedding-3-small}", "capabilities", {"embeddings"}),
    ],
)
def test_what_a_deployment_says_is_said_in_our_words(params, key, value):
    """And the config that comes of it is one that we read."""
    _, config = one(params)
    assert getattr(config.backends[0], key) == value


def test_what_embeds_is_not_asked_to_chat():
    """It has its name, and is not in `auto`."""
    rows = "".join(f"  - {{model_name: {n}, litellm_params: {{model: openai/{n}}}}}\n" for n in ("gpt-4o", "text-embedding-3-small"))
    _, config = imported("model_list:\n" + rows)
    assert config.models["auto"] == ("gpt-4o.1",)
    assert config.models["text-embedding-3-small"] == ("text-embedding-3-small.1",)


def test_a_budget_of_a_day_is_a_cap():
    """One of a month is not."""
    made, config = one("{model: gpt-4o, max_budget: 5, budget_duration: 1d}")
    assert (config.backends[0].spend.usd_per_day, made.unmatched) == (5, [])
    made, config = one("{model: gpt-4o, max_budget: 5, budget_duration: 30d}")
    assert config.backends[0].spend.usd_per_day is None
    assert made.unmatched[0][0] == "model_list[0].litellm_params.max_budget"


def test_the_router_settings_that_mean_something_here():
    """Who fails, for how long he is left alone, how long is waited, who else may answer."""
    text = f"""model_list:
  - {{model_name: small, litellm_params: {GPT}}}
  - {{model_name: large, litellm_params: {GPT}}}
router_settings: {{allowed_fails: 5, cooldown_time: 7, timeout: 60, stream_timeout: 9,
    fallbacks: [{{small: [large]}}], model_group_alias: {{big: large}}}}
"""
    made, config = imported(text)
    assert (config.circuit.failures, config.circuit.open_ms, config.timeouts.total_ms, config.timeouts.first_token_ms) == (
        5,
        7000,
        60_000,
        9000,
    )
    assert (config.models["small"], config.models["big"]) == (("small.1", "large.1"), ("large.1",))
    assert made.unmatched == [("router_settings.fallbacks", "the backends of large answer 'small' too: not only when others fail")]


def test_the_master_key_becomes_its_hash():
    """By the environment, or in the file; where it is not known now, nobody gets in until its hash is set."""
    by_environment, by_file = (
        one("{model: gpt-4o}", f"general_settings: {{master_key: {key}}}")[1] for key in ("os.environ/MASTER", "sk-master")
    )
    (key,) = by_environment.keys
    assert (key.sha256, key.admin) == (hashlib.sha256(b"sk-master").hexdigest(), True)
    assert by_file.keys == by_environment.keys

    made = translate(
        "model_list: [{model_name: m, litellm_params: {model: gpt-4o}}]\ngeneral_settings: {master_key: os.environ/NONE}", {}, source="f"
    )
    with pytest.raises(BadConfig, match="NONE_SHA256"):
        parse(made.yaml(), {}, source="b")
    assert "set NONE_SHA256 to its hash" in made.unmatched[0][1]


def test_a_model_without_a_price_is_free_and_said_to_be():
    """As LiteLLM counts it."""
    made, config = one("{model: openai/mine, api_base: 'http://h/other'}")
    assert config.backends[0].facts().tariff.usd(1e6, 1e6) == 0
    assert "knows no price" in made.unmatched[0][1]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("    model_info: {supports_vision: true}\n", "model_list[0].model_info.supports_vision"),
        ("router_settings: {routing_strategy: least-busy}", "router_settings.routing_strategy"),
        ("router_settings: {redis_host: h}", "router_settings.redis_host"),
        ("litellm_settings: {cache: true}", "litellm_settings.cache"),
        ("general_settings: {database_url: x}", "general_settings.database_url"),
        ("guardrails: []", "guardrails"),
        ("  - {model_name: '*', litellm_params: {model: openai/*}}", "model_list[1].model_name"),
        ("  - {model_name: x, litellm_params: {model: nobody/knows}}", "model_list[1].litellm_params.model"),
        ("  - {model_name: x, litellm_params: {model: gpt-4o, weight: 2}}", "model_list[1].litellm_params.weight"),
        ("  - {model_name: x, litellm_params: {model: gpt-4o, extra_headers: {a: b}}}", "model_list[1].litellm_params.extra_headers"),
    ],
)
def test_what_has_no_counterpart_is_said(text, key):
    """Each by its own key, with a reason."""
    made, _ = one("{model: gpt-4o}", text)
    ((said, why),) = made.unmatched
    assert said == key
    assert why


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("backends: []", "litellm.yaml: model_list: is missing"),
        ("a: [", "litellm.yaml:1: is not YAML"),
        ("model_list: [3]", r"model_list\[0\]: must have model_name"),
        ("model_list: []", "holds no model"),
        ("model_list: [{model_name: m, litellm_params: {model: gpt-4o}}]\nrouter_settings: 3", "router_settings: must be a mapping"),
    ],
)
def test_what_is_no_config_of_litellms_is_refused(text, said):
    """With the place."""
    with pytest.raises(BadConfig, match=said):
        translate(text, {}, source="litellm.yaml")


def test_the_verb_prints_the_config_and_says_the_rest_on_the_other_stream(tmp_path):
    """So that `bestserve import litellm.yaml > bestserve.yaml` is all."""
    file = tmp_path / "litellm.yaml"
    file.write_text("model_list: [{model_name: m, litellm_params: {model: gpt-4o, weight: 2}}]\n")
    done = CliRunner().invoke(main, ["import", str(file)])
    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout)["models"] == {"m": ["m.1"], "auto": ["m.1"]}
    assert "model_list[0].litellm_params.weight: the policy weighs the live load" in done.stderr
    said = orjson.loads(CliRunner().invoke(main, ["import", "--json", str(file)]).stdout)
    assert (said["config"]["models"]["m"], said["no_counterpart"][0]["key"]) == (["m.1"], "model_list[0].litellm_params.weight")
    assert CliRunner().invoke(main, ["import", str(tmp_path / "none.yaml")]).exit_code == 1
