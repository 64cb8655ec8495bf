"""Everything that can go wrong, and how it is told to a client in OpenAI's shape.

    Failure
    ├── AskFailure             the client's side: the same request will fail again
    │   ├── BadAsk             400  a field is missing, of the wrong type, or out of range
    │   │   └── TooLong        400  prompt and answer fit in no backend's context
    │   ├── Unauthorized       401
    │   ├── Forbidden          403
    │   ├── NotFound           404  no such path, model or capability
    │   ├── NotAllowed         405
    │   ├── TooLarge           413  the body is over the limit
    │   └── OverQuota          429  the key's requests per minute, or its feedback, are spent
    ├── FleetFailure           our side: worth another try later
    │   ├── Shed               429  nobody was asked, by choice
    │   └── NobodyCan          503  every backend that could is down or has refused
    └── BackendFailure         one backend's side: never reaches a client as such
        ├── Refused                 it said no before the first byte; another may be asked
        ├── Rejected                it found the request itself at fault; nobody else is asked
        └── Broke                   it failed after the first byte

A failure knows its HTTP status, its OpenAI `type` and `code`, and the headers that go with it.
"""

import math
from typing import Any, ClassVar

import orjson
from starlette.responses import Response

OURS = "The proxy failed; this has been logged."
"""All that a client is told of a failure that nobody foresaw."""


class Failure(Exception):
    """Something that can be told to a client."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = "internal_error"
    param: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def headers(self) -> dict[str, str]:
        """Headers that tell a client what to do about it."""
        return {}


class AskFailure(Failure):
    """The request is at fault. Another try of the same will fail the same way. `param` names the field, where it is one."""

    type = "invalid_request_error"

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or self.code

    def headers(self) -> dict[str, str]:
        return {"x-should-retry": "false"}


class BadAsk(AskFailure):
    """A field is missing, of the wrong type, or out of range; `param` names it."""

    status = 400
    code: str | None = None


class TooLong(BadAsk):
    """Prompt and answer fit in no backend's context."""

    code = "context_length_exceeded"


class Unauthorized(AskFailure):
    """No key, or one that is not known."""

    status = 401
    code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer", **super().headers()}


class Forbidden(AskFailure):
    """A known key that may not do this."""

    status = 403
    code = "insufficient_permissions"


class NotFound(AskFailure):
    """No such path, model or capability."""

    status = 404
    code = "not_found"


class NotAllowed(AskFailure):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class TooLarge(AskFailure):
    """The body is over the limit."""

    status = 413
    code = "request_too_large"


class OverQuota(AskFailure):
    """The key's requests per minute are spent."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float, limit: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit

    def headers(self) -> dict[str, str]:
        return {
            **_retry_after(self.retry_after_s),
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": f"{self.retry_after_s:.3f}s",
        }


class FleetFailure(Failure):
    """The fleet cannot take it now. `retry_after_s` is our guess of when it can; None when waiting will not help."""

    def __init__(self, message: str, *, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        if self.retry_after_s is None:
            return {"x-should-retry": "false"}
        return {**_retry_after(self.retry_after_s), "x-should-retry": "true"}


class Shed(FleetFailure):
    """Nobody was asked, because an answer would have been late and would have made others late."""

    status = 429
    code = "overloaded"


class NobodyCan(FleetFailure):
    """Every backend that could answer is down or has refused."""

    status = 503
    code = "no_backend_available"


class BackendFailure(Exception):
    """What one backend did. The relay turns it into an Ending; a client sees one of the failures above."""


class Refused(BackendFailure):
    """No, before the first byte. `reason` is one word for metrics and records; `limit` is the context's, for one of length.

    `rejection` is what the client is told where nobody else takes the request either; `retry_after_s` is when to ask this one again.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int = 0,
        message: str = "",
        limit: int = 0,
        rejection: AskFailure | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.status = status
        self.limit = limit
        self.rejection = rejection
        self.retry_after_s = retry_after_s


class Rejected(BackendFailure):
    """The request itself is at fault, says the backend; `failure` is what the client will be told."""

    def __init__(self, failure: AskFailure, *, status: int) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.status = status


class Broke(BackendFailure):
    """It failed after the first byte."""


def body_of(failure: Failure) -> bytes:
    """The failure in OpenAI's shape."""
    return error_body(failure.message, type_=failure.type, param=failure.param, code=failure.code)


def error_body(message: str, *, type_: str, param: str | None = None, code: str | None = None) -> bytes:
    """`{"error": {message, type, param, code}}` as bytes."""
    error: dict[str, Any] = {"message": message, "type": type_, "param": param, "code": code}
    return orjson.dumps({"error": error})


def response_of(failure: Failure, headers: dict[str, str] | None = None) -> Response:
    """The failure as an HTTP answer."""
    return Response(
        body_of(failure),
        status_code=failure.status,
        headers={**failure.headers(), **(headers or {})},
        media_type="application/json",
    )


def _retry_after(seconds: float) -> dict[str, str]:
    """Whole seconds for everybody, milliseconds for the clients that read them (the OpenAI SDKs do)."""
    return {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(max(1, round(seconds * 1000)))}
