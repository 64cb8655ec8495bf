"""Servers of which only OpenAI's API is known. Their words for what is too long are documented ones, not captured."""

import orjson
import pytest

from bestserve.proxy.dialects.compatible import COMPATIBLE
from bestserve.proxy.errors import Refused, Rejected


def failure(status: int, message: str, code: object = None) -> Refused | Rejected:
    return COMPATIBLE.failure_of(status, orjson.dumps({"error": {"message": message, "type": "x", "param": None, "code": code}}))


@pytest.mark.parametrize(
    ("message", "limit", "told"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. Please reduce the length.",
            8192,
            "The prompt has 9000 tokens, 808 more than",
        ),
        (
            "maximum context length is 8192 tokens. However, you requested 9192 tokens (1000 in the messages, 8192 in the completion).",
            8192,
            "asks for 9192 tokens (1000 in the prompt, 8192 for the answer), 1000 more",
        ),
        ("request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it", 8192, "9000 tokens, 808 more"),
    ],
)
def test_over_the_context_in_several_words(message, limit, told):
    """OpenAI's and llama.cpp's; another backend may have the room."""
    refused = failure(400, message)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.limit) == ("context", limit)
    assert told in str(refused)


def test_a_code_says_it_too():
    """Where the words are unknown, the limit is."""
    refused = failure(400, "Input tokens exceed the configured limit.", "context_length_exceeded")
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.limit) == ("context", 0)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, "invalid_api_key", "unauthorized"),
        (404, "model_not_found", "no_such_path"),
        (429, "rate_limit_exceeded", "rate_limited"),
        (429, "insufficient_quota", "quota_spent"),
        (500, None, "status_500"),
        (503, None, "status_503"),
    ],
)
def test_what_is_not_the_requests_fault_is_refused(status, code, reason):
    """Somebody else may answer."""
    refused = failure(status, "no", code)
    assert isinstance(refused, Refused)
    assert refused.reason == reason


def test_a_request_that_is_at_fault_is_rejected():
    """With its own words."""
    assert isinstance(failure(400, "temperature is too high"), Rejected)


def test_it_is_asked_seldom():
    """Whoever is paid for is not asked twice a second whether he is there."""
    assert COMPATIBLE.least_s >= 10
