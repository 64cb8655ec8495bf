"""One kind of server as a value: where it says what, and what it means by it. And what they all say alike: the shapes of an error.

Errors come as {error: {…}} (OpenAI's), {object: error, …}, {detail: …} or no JSON at all, some with a file path in them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bestserve.policy.facts import Load
from bestserve.proxy.errors import BadAsk, Refused, Rejected

from .sse import data_of

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "embeddings": "/v1/embeddings", "responses": "/v1/responses"}
MODELS = "/v1/models"

UNENDING = {"ignore_eos": True}
"""What makes an engine's answer go on to the last token that is allowed."""

COUNTED = {"include_usage": True, "continuous_usage_stats": True}
"""Stream options that make each event of an engine say how many tokens there are by now."""

_RETRY_ELSEWHERE = {401, 403, 404, 405, 408, 425, 429}
"""Client errors that are not the client's fault: the backend is misconfigured, busy or slow."""


@dataclass(frozen=True, slots=True)
class Said:
    """An error as a server told it."""

    message: str  # without what only its operator should see
    param: str | None = None
    code: str | None = None


Over = Callable[[Said], tuple[str, int] | None]
"""What to tell a client whose request is over a context, and that context (0: unknown); None when that is not what is said."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What has to be known of one kind of server."""

    name: str  # as `engine` names it
    ready: str  # answers 200 when it takes requests, cheaply
    reports: tuple[tuple[str, Callable[[bytes], Load]], ...]  # where it says its load and how that is read, the better first
    over: Over
    reason: Callable[[int, Said], str]  # of a refusal: one word
    least_s: float = 0.0  # between two questions whether it is ready

    def failure_of(self, status: int, body: bytes) -> Refused | Rejected:
        """What a reply other than 200 means: Refused when another backend may do better, Rejected when the request is at fault."""
        said = said_in(body)
        over = self.over(said) if 400 <= status < 500 else None
        if over is not None:
            return Refused("context", status=status, message=over[0], limit=over[1])
        if not 400 <= status < 500 or status in _RETRY_ELSEWHERE:
            return Refused(self.reason(status, said), status=status, message=said.message)
        return Rejected(BadAsk(said.message, param=said.param, code=said.code), status=status)

    def error_in(self, event: bytes) -> Refused | Rejected | None:
        """The failure that an event of a stream carries, if it is one: some say no to a stream with a 200."""
        if b'"error"' not in event:
            return None
        data = data_of(event)
        try:
            error = orjson.loads(data).get("error")
        except (ValueError, AttributeError):
            return None
        if not error:
            return None
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        return self.failure_of(status, data)


def usual_reason(status: int, said: Said) -> str:
    """The word for a refusal that nothing more is known of."""
    return {401: "unauthorized", 403: "unauthorized", 404: "no_such_path", 429: "rate_limited"}.get(status, f"status_{status}")


def prompt_over(asked: int, limit: int) -> tuple[str, int]:
    """What is told of a prompt that fits in no context here, and the context."""
    return f"The prompt has {asked} tokens, {asked - limit} more than the longest context here, which is {limit} tokens.", limit


def total_over(asked: int, limit: int, prompt: int, answer: int) -> tuple[str, int]:
    """The same where prompt and answer together do not fit."""
    text = (
        f"This asks for {asked} tokens ({prompt} in the prompt, {answer} for the answer), "
        f"{asked - limit} more than the longest context here, which is {limit} tokens."
    )
    return text, limit


def models_of(body: bytes) -> dict[str, Mapping[str, Any]]:
    """What a reply of /v1/models says of each model, by its name. Raises ValueError."""
    try:
        return {model["id"]: model for model in orjson.loads(body)["data"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a reply of /v1/models: {type(error).__name__} {error}") from error


def said_in(body: bytes) -> Said:
    """The error in any of its shapes."""
    try:
        raw = orjson.loads(body)
    except ValueError:
        return Said(clean(body[:500].decode("utf-8", "replace")) or _NO_REASON, None, None)
    error: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    error = error["error"] if isinstance(error.get("error"), dict) else error
    message = error.get("message", error.get("detail", error.get("error")))
    if isinstance(message, list):
        return _validation(message)
    text = message if isinstance(message, str) else orjson.dumps(message).decode() if message else ""
    text = text[:_LONGEST]
    field = _FIELD.search(text)
    if field is not None:
        where = (field[1] or field[2]).replace("'", "").replace(", ", ".")
        return Said(f"Invalid value for '{where}': {clean(field[3])}.", where, "invalid_value")
    param, code = error.get("param"), error.get("code")
    text = _PARAMETER.sub("", clean(text)) or _NO_REASON
    return Said(text, param if isinstance(param, str) else None, code if isinstance(code, str) and not code.isdigit() else None)


def _validation(complaints: list[Any]) -> Said:
    """The first complaint of a list of them, as FastAPI makes it: {loc: [body, field, …], msg, input}, less the input."""
    first: Mapping[str, Any] = complaints[0] if complaints and isinstance(complaints[0], dict) else {}
    loc, message = first.get("loc"), first.get("msg")
    where = ".".join(str(step) for step in loc if step != "body")[:100] if isinstance(loc, list) else ""
    text = clean(message[:_LONGEST]) if isinstance(message, str) else ""
    return Said(
        f"Invalid value for '{where}': {text.removesuffix('.')}." if where and text else text or _NO_REASON, where or None, "invalid_value"
    )


_NO_REASON = "The backend gave no reason."
_LONGEST = 8000  # characters of a message that are read
_FIELD = re.compile(r"'loc': (?:\('body', (.+?),?\)|'body\.(\w[\w.]*)'), 'msg': [\"'](.*?)[\"'](?:, '|\})")
_PARAMETER = re.compile(r" \(parameter=\w+, value=[^)]*\)$")


def clean(message: str) -> str:
    """A backend's message without what only its operator should see: traces, files and folders."""
    message = _TRACE.split(message, maxsplit=1)[0]
    return _PATH.sub("…", message).strip()[:2000]


_TRACE = re.compile(r"\s*(?:Traceback \(most recent call last\)|(?:^|\n)\s*File \")")
_PATH = re.compile(r"(?<![\w:/.])(?:file://)?(?:/[\w.@+-]+){2,}/?|(?<![\w./-])[\w./-]*(?:site-packages[\w./-]*|\.py\b)")
