"""One file, read by the real LiteLLM Router and, imported, by us: the same names are answered by the same servers."""

import copy
from collections.abc import Iterator

import openai
import pytest
import yaml

from bestserve.proxy.check import ask_all
from bestserve.proxy.config import parse
from bestserve.proxy.dialects import providers
from bestserve.proxy.importing import translate
from tests.with_litellm import WITH_LITELLM

from .world import Backend, running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240), *WITH_LITELLM]

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def the_same_prices() -> Iterator[None]:
    """A Router writes its models into LiteLLM's own table, for the whole process: the next test finds it as it was."""
    lite = providers.library()
    before = copy.deepcopy(lite.model_cost)
    yield
    lite.model_cost.clear()
    lite.model_cost.update(before)
    lite.utils._invalidate_model_cost_lowercase_map()


def litellm_config(a: Backend, b: Backend) -> str:
    """A server of one's own, and a provider that has a price."""
    return f"""
model_list:
  - model_name: mine
    litellm_params: {{model: openai/m-a, api_base: "http://127.0.0.1:{a.port}/v1", api_key: none}}
  - model_name: team/gpt
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{b.port}/v1", api_key: sk-provider, rpm: 600}}
    model_info: {{max_input_tokens: 16000}}
router_settings: {{num_retries: 0, cooldown_time: 3}}
general_settings: {{master_key: sk-master-1234}}
"""


async def test_the_same_file_in_litellms_router_and_imported(tmp_path):
    """Both ask the same server for the same name, with the provider's own key; clients keep their key too."""
    backends = {"a": Backend("a"), "b": Backend("b")}
    for backend in backends.values():
        await backend.start()
    a, b = backends.values()
    text = litellm_config(a, b)
    made = translate(text, {}, source="litellm.yaml")  # first: a Router adds its models to LiteLLM's table of prices

    router = providers.library().Router(model_list=yaml.safe_load(text)["model_list"], num_retries=0)
    for model, said in (("mine", "Hello from a"), ("team/gpt", "Hello from b")):
        assert (await router.acompletion(model=model, messages=HI)).choices[0].message.content == said
    await providers.drop_connections(providers.library())
    router.reset()

    config = parse(made.yaml() + "probe: {interval_ms: 20}\nlisten: {drain_s: 1}\n", {}, source=str(tmp_path / "bestserve.yaml"))
    findings = await ask_all(config)
    assert [(f.backend, f.problems) for f in findings] == [("mine.1", []), ("team-gpt.1", [])]
    async with (
        running(config, backends) as here,
        openai.AsyncOpenAI(base_url=here.base_url, api_key="sk-master-1234", max_retries=0) as sdk,
    ):
        for model, said in (("mine", "Hello from a"), ("team/gpt", "Hello from b")):
            answered = await sdk.chat.completions.create(model=model, messages=HI)
            assert answered.choices[0].message.content == said
        assert b.got[-1].headers["authorization"] == "Bearer sk-provider"
        assert b.got[-1].json()["model"] == "gpt-4o-mini"
        assert {m.id async for m in sdk.models.list()} >= {"mine", "team/gpt", "auto"}
        assert here.serving.recent[-1].outcome.usd == pytest.approx(11 * 0.15e-6 + 3 * 0.6e-6)
