"""The only file that knows SGLang: its paths, its load reports, its ways of saying no.

Facts, from a real 0.5.23 (golden replies in tests/golden/sglang): load is at /v1/loads, or in /metrics of an older one; /ready is cheap
where /health generates a token; a full queue is a 503 without Retry-After, or, to a stream, a 200 whose first event is the error;
errors come in four shapes, some with a file path in them; over-context is a 400 that says the numbers.
"""

import math
import re
from dataclasses import dataclass

import orjson

from bestserve.policy.facts import Load

from .dialect import Dialect, Said, prompt_over, total_over, usual_reason

LOADS = "/v1/loads?include=core"
METRICS = "/metrics"
INFO = "/server_info"


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a backend says of itself; None where it does not say."""

    max_running: int | None = None
    max_queued: int | None = None
    kv_tokens: int | None = None
    context: int | None = None
    prefill_batch_tokens: int | None = None
    remembers: bool | None = None  # whether it has a prefix cache
    version: str | None = None
    device: str | None = None  # what it runs on, e.g. "cpu", or a GPU's name
    n_gpus: int | None = None


def limits_of(body: bytes) -> Limits:
    """A reply of /server_info. Its context is null unless one was set: then /v1/models says it. Raises ValueError."""
    try:
        told = orjson.loads(body)
        ranks = told.get("internal_states") or [{}]
        batch = told.get("chunked_prefill_size")
        return Limits(
            max_running=told.get("max_running_requests") or ranks[0].get("effective_max_running_requests_per_dp"),
            max_queued=told.get("max_queued_requests"),
            kv_tokens=told.get("max_total_num_tokens"),
            context=told.get("context_length"),
            prefill_batch_tokens=batch if batch is None or batch > 0 else told.get("max_prefill_tokens"),
            remembers=None if told.get("disable_radix_cache") is None else not told["disable_radix_cache"],
            version=told.get("version"),
            device="cpu" if told.get("device") == "cpu" else None,  # "cuda" says nothing
            n_gpus=math.prod(told.get(f"{kind}_size") or 1 for kind in ("tp", "pp", "dp")),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not a reply of /server_info: {type(error).__name__} {error}") from error


def accelerator_of(body: bytes) -> str | None:
    """What a reply of /v1/loads says it runs on."""
    try:
        told = orjson.loads(body).get("accelerator")
    except (ValueError, AttributeError):
        return None
    return told if isinstance(told, str) and told else None


def over(said: Said) -> tuple[str, int] | None:
    """What to tell a client whose request is over a context, and that context; None when that is not what the message says."""
    if prompt := _PROMPT_OVER.search(said.message):
        return prompt_over(int(prompt[1]), int(prompt[2]))
    if total := _TOTAL_OVER.search(said.message):
        limit, asked, prompt_n, answer = (int(total[i]) for i in (1, 2, 3, 4))
        return total_over(asked, limit, prompt_n, answer)
    return None


_PROMPT_OVER = re.compile(r"input \((\d+) tokens\) is longer than the model's context length \((\d+) tokens\)")
_TOTAL_OVER = re.compile(
    r"maximum context length of (\d+) tokens. You requested a total of (\d+) tokens: (\d+) tokens from the input.* and (\d+) tokens for"
)


def _reason(status: int, said: Said) -> str:
    if status == 503 and ("queue is full" in said.message or "higher priority" in said.message):
        return "queue_full"
    return usual_reason(status, said)


SGLANG = Dialect("sglang", ready="/ready", reports=((LOADS, load_of), (METRICS, load_of_metrics)), over=over, reason=_reason)
