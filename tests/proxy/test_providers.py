"""What LiteLLM is given, what it says back, what its errors mean. With the real package where it is the package that is asked."""

import orjson
import pytest

from bestserve.policy.facts import Tariff
from bestserve.proxy.dialects import providers
from bestserve.proxy.dialects.dialect import PATHS
from bestserve.proxy.dialects.sse import data_of
from bestserve.proxy.errors import Refused

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = (PATHS[name] for name in ("chat", "completions", "embeddings", "responses"))
HI = [{"role": "user", "content": "hi"}]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def given(path: str = CHAT, **fields: object) -> dict:
    return providers.arguments(path, orjson.dumps({"model": "m", **({"messages": HI} if path == CHAT else {}), **fields}))


def refusal(path: str = CHAT, **fields: object) -> Refused:
    with pytest.raises(Refused) as said:
        given(path, **fields)
    assert said.value.reason == "unfit"
    assert said.value.rejection is not None
    return said.value


# --- what is asked ---


def test_what_openai_knows_is_handed_on():
    """As it came, less what is ours to say."""
    assert given(temperature=0.5, stop=["x"], seed=1, metadata={"a": "b"}, service_tier="flex", user=None) == {
        "messages": HI,
        "temperature": 0.5,
        "stop": ["x"],
        "seed": 1,
        "_skip_mcp_handler": True,
    }
    assert given(COMPLETIONS, prompt="hi", best_of=2) == {"prompt": "hi", "best_of": 2}
    assert given(EMBEDDINGS, input=["a", "b"]) == {"input": ["a", "b"]}


@pytest.mark.parametrize(
    "name",
    ["top_k", "regex", "custom_llm_provider", "fallbacks", "extra_headers", "mock_response", "timeout", "aws_access_key_id", "model_list",
     "api_version", "extra_body", "input_cost_per_token", "success_callback", "_skip_mcp_handler", "litellm_params", "num_retries"],
)  # fmt: skip
def test_any_other_field_is_not(name):
    """A field is an argument of a function that takes addresses, keys and callbacks: none gets in by its name."""
    assert refusal(**{name: "x"}).rejection.param == name


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "image_url", "image_url": "https://example.com/cat.png"},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "file", "file": {"file_id": "https://example.com/x.pdf"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/x.mp4"}},
        {"type": 7},
        "text",
    ],
)
def test_nothing_is_fetched(part):
    """LiteLLM would, for some providers, from here."""
    assert refusal(messages=[{"role": "user", "content": [{"type": "text", "text": "what is it?"}, part]}]).rejection.param == "messages"


def test_what_is_in_the_request_is_handed_on():
    """Images and sound as data."""
    parts = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    assert given(messages=[{"role": "user", "content": parts}])["messages"][0]["content"] == parts


@pytest.mark.parametrize("tool", [{"type": "mcp", "server_url": "http://x"}, {"type": "web_search"}, {}, "f"])
def test_only_functions_are_tools(tool):
    """Others name servers."""
    assert refusal(tools=[tool]).rejection.param == "tools"
    assert given(tools=[{"type": "function", "function": {"name": "f"}}])["tools"]


def test_what_litellm_is_not_asked_for_goes_elsewhere():
    """An endpoint that we do not pass on to it."""
    assert "not offered" in str(refusal(RESPONSES, input="x"))


# --- what is said ---


class Said:
    """One of LiteLLM's objects."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields

    def model_dump(self, exclude_none: bool) -> dict:
        assert exclude_none
        return self.fields


async def streamed(*chunks: Said) -> list[object]:
    async def source():
        for chunk in chunks:
            yield chunk

    told = [data_of(event) async for event in providers.events(source())]
    return [orjson.loads(data) if data != b"[DONE]" else "[DONE]" for data in told]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_stream_is_openais():
    """What only LiteLLM says is left out, usage comes with no choices, and it ends as it should."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    delta = {"content": "a", "provider_specific_fields": {"x": 1}}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    told = await streamed(
        Said(**head, choices=[{"index": 0, "delta": delta}], citations=[]),
        Said(**head, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        Said(**head, choices=[{"index": 0, "delta": {}}], usage=usage),
    )
    assert told == [
        {**head, "choices": [{"index": 0, "logprobs": None, "finish_reason": None, "delta": {"content": "a"}}]},
        {**head, "choices": [{"index": 0, "logprobs": None, "finish_reason": "stop", "delta": {}}]},
        {**head, "choices": [], "usage": usage},
        "[DONE]",
    ]


@pytest.mark.anyio
async def test_usage_that_comes_with_the_last_word_loses_neither():
    """Some providers say both at once; those of completions say zeros until they have counted."""
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    told = await streamed(
        Said(choices=[{"index": 0, "text": "a"}], usage=zero),
        Said(choices=[{"index": 0, "text": "b", "finish_reason": "stop"}], usage=usage),
    )
    assert told == [
        {"choices": [{"index": 0, "logprobs": None, "finish_reason": None, "text": "a"}]},
        {"choices": [{"index": 0, "logprobs": None, "finish_reason": "stop", "text": "b"}]},
        {"choices": [], "usage": usage},
        "[DONE]",
    ]


def test_a_whole_answer_is_openais():
    """With a content even where a tool is called."""
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "tool_calls": [call], "provider_specific_fields": {}}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message, "provider_specific_fields": {}}
    said = Said(id="c", object="chat.completion", choices=[choice], usage={"total_tokens": 3}, service_tier="x")
    assert orjson.loads(providers.whole(said)) == {
        "id": "c",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "logprobs": None,
                "finish_reason": "tool_calls",
                "message": {"content": None, "role": "assistant", "tool_calls": [call]},
            }
        ],
        "usage": {"total_tokens": 3},
    }


# --- with the real package ---


@pytest.fixture(scope="module")
def lite():
    return providers.library()


def test_what_models_cost(lite):
    """From LiteLLM's own table, in dollars a token, with what the model can do."""
    known = providers.known("openai/gpt-4o-mini")
    assert known.tariff == Tariff(1.5e-7, 6e-7, 7.5e-8)
    assert known.context == 128_000
    assert known.capabilities == {"tools", "json", "vision"}
    assert "embeddings" in providers.known("openai/text-embedding-3-small").capabilities


def test_a_model_of_a_known_provider_may_have_no_price(lite):
    """Then the config has to say it."""
    assert providers.known("openai/of-my-own") == providers.NOTHING


def test_a_provider_that_nobody_knows_is_refused(lite):
    """With the form that is meant."""
    with pytest.raises(ValueError, match="PROVIDER/MODEL"):
        providers.known("just-a-name")


@pytest.mark.parametrize(
    ("name", "status", "said", "reason"),
    [
        ("AuthenticationError", 401, "Incorrect API key provided", "unauthorized"),
        ("NotFoundError", 404, "The model `x` does not exist", "no_such_path"),
        ("RateLimitError", 429, "Rate limit reached", "rate_limited"),
        ("RateLimitError", 429, "insufficient_quota: You exceeded your current quota", "quota_spent"),
        ("InternalServerError", 500, "The server had an error", "status_500"),
        ("ServiceUnavailableError", 503, "Overloaded", "status_503"),
        ("APIConnectionError", 500, "Connection error.", "connect_failed"),
        ("Timeout", 408, "Request timed out", "timeout"),
        ("ContextWindowExceededError", 400, "maximum context length is 5 tokens", "context"),
        ("ContentPolicyViolationError", 400, "not allowed", "unfit"),
        ("UnsupportedParamsError", 400, "does not support parameters: ['seed']", "unfit"),
        ("BadRequestError", 400, "temperature is too high", "unfit"),
    ],
)
def test_what_its_errors_mean(lite, name, status, said, reason):
    """Each is a refusal: what one provider will not do another may."""
    error = getattr(lite, name, None) or getattr(lite.exceptions, name)
    failure = providers.failure_of(error(message=said, model="m", llm_provider="openai"))
    assert (failure.reason, failure.status) == (reason, status)
    if reason == "unfit":
        assert failure.rejection.message == said


def test_any_other_error_is_a_refusal_too(lite):
    """Whatever it is made of."""
    assert providers.failure_of(KeyError("x")).reason == "failed"
    assert providers.failure_of(TimeoutError()).reason == "timeout"
