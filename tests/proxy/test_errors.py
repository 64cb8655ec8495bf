"""What can go wrong is told in OpenAI's shape, with the headers that make a client behave."""

import openai
import orjson
import pytest

from bestserve.proxy.errors import (
    AskFailure,
    BackendFailure,
    BadAsk,
    Failure,
    FleetFailure,
    Forbidden,
    NobodyCan,
    NotAllowed,
    NotFound,
    OverQuota,
    Shed,
    TooLarge,
    TooLong,
    Unauthorized,
    body_of,
    response_of,
)

ALL = [
    (BadAsk("m", param="n"), 400, "invalid_request_error", None, openai.BadRequestError),
    (BadAsk("m", code="c"), 400, "invalid_request_error", "c", openai.BadRequestError),
    (TooLong("m", param="messages"), 400, "invalid_request_error", "context_length_exceeded", openai.BadRequestError),
    (Unauthorized("m"), 401, "invalid_request_error", "invalid_api_key", openai.AuthenticationError),
    (Forbidden("m"), 403, "invalid_request_error", "insufficient_permissions", openai.PermissionDeniedError),
    (NotFound("m"), 404, "invalid_request_error", "not_found", openai.NotFoundError),
    (NotFound("m", param="model", code="model_not_found"), 404, "invalid_request_error", "model_not_found", openai.NotFoundError),
    (NotAllowed("m"), 405, "invalid_request_error", "method_not_allowed", openai.APIStatusError),
    (TooLarge("m"), 413, "invalid_request_error", "request_too_large", openai.APIStatusError),
    (OverQuota("m", retry_after_s=1.5, limit=60), 429, "rate_limit_error", "rate_limit_exceeded", openai.RateLimitError),
    (Shed("m", retry_after_s=2.0), 429, "server_error", "overloaded", openai.RateLimitError),
    (NobodyCan("m", retry_after_s=2.0), 503, "server_error", "no_backend_available", openai.InternalServerError),
    (Failure("m"), 500, "server_error", "internal_error", openai.InternalServerError),
]
NAMED = pytest.mark.parametrize("failure", [row[0] for row in ALL], ids=[type(row[0]).__name__ + str(i) for i, row in enumerate(ALL)])


@pytest.mark.parametrize(("failure", "status", "type_", "code", "_sdk"), ALL)
def test_a_failure_in_openais_shape(failure, status, type_, code, _sdk):
    """Four fields, always."""
    response = response_of(failure)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert orjson.loads(response.body) == {"error": {"message": "m", "type": type_, "param": failure.param, "code": code}}
    assert response.body == body_of(failure)


@NAMED
def test_a_client_is_told_whether_to_try_again(failure):
    """The same request to the same end is not worth another try; a fleet that is full is, but later."""
    headers = response_of(failure).headers

    if isinstance(failure, OverQuota):
        assert int(headers["retry-after"]) >= 1
    elif isinstance(failure, AskFailure):
        assert headers["x-should-retry"] == "false"
        assert "retry-after" not in headers
    elif isinstance(failure, FleetFailure):
        assert headers["x-should-retry"] == "true"


@pytest.mark.parametrize(
    ("seconds", "whole", "ms"),
    [(0.0, "1", "1"), (0.0001, "1", "1"), (0.5, "1", "500"), (1.0, "1", "1000"), (1.2, "2", "1200"), (30.0, "30", "30000")],
)
@pytest.mark.parametrize("kind", [Shed, NobodyCan])
def test_when_to_come_back(kind, seconds, whole, ms):
    """In whole seconds for everybody, never zero; in milliseconds for the SDKs, which heed them first."""
    headers = response_of(kind("m", retry_after_s=seconds)).headers

    assert (headers["retry-after"], headers["retry-after-ms"]) == (whole, ms)


@pytest.mark.parametrize("kind", [Shed, NobodyCan])
def test_when_waiting_will_not_help(kind):
    """The client is told not to."""
    headers = response_of(kind("m", retry_after_s=None)).headers

    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers


def test_a_spent_quota_says_what_it_was():
    """In the headers that OpenAI uses for it."""
    headers = response_of(OverQuota("m", retry_after_s=1.5, limit=60)).headers

    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "1.500s"


def test_more_headers_may_be_given():
    """They stand beside the failure's own."""
    headers = response_of(Unauthorized("m"), {"x-request-id": "r"}).headers

    assert (headers["x-request-id"], headers["www-authenticate"], headers["x-should-retry"]) == ("r", "Bearer", "false")


@pytest.mark.parametrize("message", ["é", '"quoted"\n', "\x00", "😀" * 1000, ""])
def test_any_message_can_be_told(message):
    """As JSON."""
    assert orjson.loads(body_of(BadAsk(message)))["error"]["message"] == message


@pytest.mark.parametrize("kind", BackendFailure.__subclasses__())
def test_what_one_backend_did_is_no_answer_to_a_client(kind):
    """It has to be turned into a failure first."""
    assert not issubclass(kind, Failure)
