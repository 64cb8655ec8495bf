"""What `bestserve check` says of a provider: through the real LiteLLM, from a provider on this machine."""

import orjson
import pytest

from bestserve.proxy.check import Finding, ask_all
from bestserve.proxy.config import parse
from tests.end_to_end.world import Backend, Script, answer, completion, nothing
from tests.with_litellm import WITH_LITELLM

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240), *WITH_LITELLM]

KEY = "sk-canary-2b7d"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def found(script: Script | None = None, *, port: int | None = None, more: str = "spend: {usd_per_day: 1}") -> tuple[Finding, Backend]:
    backend = Backend("b")
    backend.script = script or backend.script
    await backend.start()
    try:
        text = (
            f"backends: [{{name: b, engine: litellm, model: openai/gpt-x, api_key: {KEY}, usd_per_million_input: 1, "
            f"usd_per_million_output: 2, litellm: {{api_base: 'http://127.0.0.1:{port or backend.port}/v1'}}, {more}}}]\n"
            "timeouts: {first_token_ms: 500, total_ms: 500}\n"
        )
        (finding,) = await ask_all(parse(text, {}, source="x.yaml"))
        return finding, backend
    finally:
        await backend.stop()


def no(status: int, message: str, code: str) -> Script:
    async def script(got, writer) -> None:
        writer.write(answer(orjson.dumps({"error": {"message": message, "type": "x", "param": None, "code": code}}), status=status))

    return script


async def test_one_that_answers_is_ready():
    """It was asked once, for a few tokens."""
    finding, backend = await found()
    assert (finding.ready, finding.problems, finding.remarks) == (True, [], [])
    (asked,) = backend.got
    assert asked.json()["max_tokens"] == 16


async def test_one_without_a_cap_is_remarked_on():
    """It may cost anything."""
    finding, _ = await found(more="max_in_flight: 4")
    assert (finding.ready, finding.remarks) == (True, ["is paid for and has no cap: set backends[].spend"])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (no(401, f"Incorrect API key provided: {KEY}.", "invalid_api_key"), "refuses our key: set backends[].api_key"),
        (no(404, "The model `gpt-x` does not exist", "model_not_found"), "knows no model 'openai/gpt-x': correct backends[].model"),
        (no(429, "Rate limit reached", "rate_limit_exceeded"), "limits our rate now: set backends[].requests_per_minute"),
        (no(429, "You exceeded your current quota (insufficient_quota)", "insufficient_quota"), "our account there is spent"),
        (no(500, "The server had an error", "x"), "refuses a request of a few words: status_500"),
        (nothing, "did not answer in time"),
    ],
    ids=["bad-key", "unknown-model", "rate-limit", "quota", "error", "hangs"],
)
async def test_what_is_wrong_is_said_with_the_key_to_correct(script, said):
    """And never with the secret itself."""
    finding, _ = await found(script)
    (problem,) = finding.problems
    assert problem.startswith(said)
    assert KEY not in problem
    assert not finding.ready


async def test_one_that_is_not_there_is_named_so():
    """A wrong address."""
    finding, _ = await found(port=9)
    assert finding.problems[0].startswith("cannot be reached: look at backends[].litellm.api_base")
    assert not finding.reachable


async def test_an_embedding_model_is_asked_to_embed():
    """It could not chat."""

    async def script(got, writer) -> None:
        rows = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        writer.write(answer(orjson.dumps({"object": "list", "data": rows, "model": "m", "usage": completion("x")["usage"]})))

    finding, backend = await found(script, more="capabilities: [embeddings], spend: {usd_per_day: 1}")
    assert finding.problems == []
    assert backend.got[0].path == "/v1/embeddings"
