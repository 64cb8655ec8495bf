"""The only file that knows SGLang: its paths, its load reports, its ways of saying no.

Facts, from a real 0.5.23 (golden replies in tests/golden/sglang): load is at /v1/loads, or in /metrics of an older one; /ready is cheap
where /health generates a token; a full queue is a 503 without Retry-After, or, to a stream, a 200 whose first event is the error;
errors come in four shapes, some with a file path in them; over-context is a 400 that says the numbers.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bestserve.policy.facts import Load
from bestserve.proxy.errors import BadAsk, Refused, Rejected

from .sse import data_of

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "embeddings": "/v1/embeddings", "responses": "/v1/responses"}
READY = "/ready"
LOADS = "/v1/loads?include=core"
METRICS = "/metrics"
MODELS = "/v1/models"

_RETRY_ELSEWHERE = {401, 403, 404, 405, 408, 425, 429}
"""Client errors that are not the client's fault: the backend is misconfigured, busy or slow."""


def load_of(body: bytes) -> Load:
    """A reply of /v1/loads, summed over data-parallel ranks. Raises ValueError."""
    try:
        ranks = orjson.loads(body)["loads"]
        return Load(
            running=sum(rank["num_running_reqs"] for rank in ranks),
            waiting=sum(rank["num_waiting_reqs"] for rank in ranks),
            used_tokens=sum(rank.get("num_used_tokens", 0) for rank in ranks),
            max_running=sum(rank.get("max_running_requests", 0) for rank in ranks) or None,
            kv_tokens=sum(rank.get("max_total_num_tokens", 0) for rank in ranks) or None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a reply of /v1/loads: {type(error).__name__} {error}") from error


def load_of_metrics(text: bytes) -> Load:
    """The same from /metrics. Raises ValueError when it is not SGLang's."""
    sums: dict[str, float] = {}
    for name, value in _GAUGE.findall(text):
        sums[name.decode()] = sums.get(name.decode(), 0.0) + float(value)
    if not all(map(math.isfinite, sums.values())):
        raise ValueError("a metric is not a finite number")
    if "num_running_reqs" not in sums:
        raise ValueError("no sglang:num_running_reqs among the metrics: was it started with --enable-metrics?")
    return Load(
        running=round(sums["num_running_reqs"]),
        waiting=round(sums.get("num_queue_reqs", 0)),
        used_tokens=round(sums.get("num_used_tokens", 0)),
        kv_tokens=round(sums.get("max_total_num_tokens", 0)) or None,
    )


_GAUGE = re.compile(
    rb"^sglang:(num_running_reqs|num_queue_reqs|num_used_tokens|max_total_num_tokens)(?:\{[^}]*\})? ([0-9.eE+-]+)", re.MULTILINE
)


REPORTS = ((LOADS, load_of), (METRICS, load_of_metrics))
"""Where a backend says its load, and how that is read, the better first."""


def models_of(body: bytes) -> list[tuple[str, int | None]]:
    """(name, longest context) of each model in a reply of /v1/models. Raises ValueError."""
    try:
        return [(model["id"], model.get("max_model_len")) for model in orjson.loads(body)["data"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a reply of /v1/models: {type(error).__name__} {error}") from error


def failure_of(status: int, body: bytes) -> Refused | Rejected:
    """What a reply other than 200 means: Refused when another backend may do better, Rejected when the request is at fault."""
    said = _said(body)
    if not 400 <= status < 500 or status in _RETRY_ELSEWHERE:
        return Refused(_reason(status, said.message), status=status, message=said.message)
    over = overflow(said.message)
    if over is not None:
        return Refused("context", status=status, message=over[0], limit=over[1])
    return Rejected(BadAsk(said.message, param=said.param, code=said.code), status=status)


def error_in(event: bytes) -> Refused | Rejected | None:
    """The failure that an event of a stream carries, if it is one: SGLang says no to a stream with a 200."""
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
    return failure_of(status, data)


def overflow(message: str) -> tuple[str, int] | None:
    """What to tell a client whose request is over a context, and that context; None when that is not what the message says."""
    if prompt := _PROMPT_OVER.search(message):
        asked, limit = int(prompt[1]), int(prompt[2])
        return f"The prompt has {asked} tokens, {asked - limit} more than the longest context here, which is {limit} tokens.", limit
    if total := _TOTAL_OVER.search(message):
        limit, asked, prompt_n, answer = (int(total[i]) for i in (1, 2, 3, 4))
        text = (
            f"This asks for {asked} tokens ({prompt_n} in the prompt, {answer} for the answer), "
            f"{asked - limit} more than the longest context here, which is {limit} tokens."
        )
        return text, limit
    return None


_PROMPT_OVER = re.compile(r"input \((\d+) tokens\) is longer than the model's context length \((\d+) tokens\)")
_TOTAL_OVER = re.compile(
    r"maximum context length of (\d+) tokens. You requested a total of (\d+) tokens: (\d+) tokens from the input.* and (\d+) tokens for"
)


@dataclass(frozen=True, slots=True)
class _Said:
    message: str
    param: str | None
    code: str | None


def _said(body: bytes) -> _Said:
    """The error in any of SGLang's shapes: {error: {…}}, {object: error, …}, {detail: …}, or no JSON at all."""
    try:
        raw = orjson.loads(body)
    except ValueError:
        return _Said(clean(body[:500].decode("utf-8", "replace")) or _NO_REASON, None, None)
    error: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    error = error["error"] if isinstance(error.get("error"), dict) else error
    message = error.get("message", error.get("detail", error.get("error")))
    if isinstance(message, list):
        return _validation(message)
    text = message if isinstance(message, str) else orjson.dumps(message).decode() if message else ""
    text = text[:_LONGEST]
    field = _FIELD.search(text)
    if field is not None:
        where = field[1].replace("'", "").replace(", ", ".")
        return _Said(f"Invalid value for '{where}': {clean(field[2])}.", where, "invalid_value")
    param, code = error.get("param"), error.get("code")
    text = clean(text) or _NO_REASON
    return _Said(text, param if isinstance(param, str) else None, code if isinstance(code, str) and not code.isdigit() else None)


def _validation(complaints: list[Any]) -> _Said:
    """The first complaint of a list of them, as FastAPI makes it: {loc: [body, field, …], msg, input}, less the input."""
    first: Mapping[str, Any] = complaints[0] if complaints and isinstance(complaints[0], dict) else {}
    loc, message = first.get("loc"), first.get("msg")
    where = ".".join(str(step) for step in loc if step != "body")[:100] if isinstance(loc, list) else ""
    text = clean(message[:_LONGEST]) if isinstance(message, str) else ""
    return _Said(
        f"Invalid value for '{where}': {text.removesuffix('.')}." if where and text else text or _NO_REASON, where or None, "invalid_value"
    )


_NO_REASON = "The backend gave no reason."
_LONGEST = 8000  # characters of a message that are read
_FIELD = re.compile(r"'loc': \('body', (.+?),?\), 'msg': [\"'](.*?)[\"'](?:, '|\})")


def clean(message: str) -> str:
    """A backend's message without what only its operator should see: traces, files and folders."""
    message = _TRACE.split(message, maxsplit=1)[0]
    return _PATH.sub("…", message).strip()[:2000]


_TRACE = re.compile(r"\s*(?:Traceback \(most recent call last\)|(?:^|\n)\s*File \")")
_PATH = re.compile(r"(?<![\w:/.])(?:file://)?(?:/[\w.@+-]+){2,}/?|(?<![\w./-])[\w./-]*(?:site-packages[\w./-]*|\.py\b)")


def _reason(status: int, message: str) -> str:
    if status == 503 and ("queue is full" in message or "higher priority" in message):
        return "queue_full"
    return {401: "unauthorized", 403: "unauthorized", 404: "no_such_path", 429: "rate_limited"}.get(status, f"status_{status}")
