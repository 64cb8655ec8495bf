"""The only file that knows vLLM: its paths, its load reports, its ways of saying no.

Facts, from a real 0.32.0 (golden replies in tests/golden/vllm): /health is cheap and empty; /metrics says what runs, what waits and how
full the memory is, at once and without a flag; /load counts open requests, and says 0 where it was not switched on. Nothing is refused
for a full queue: it has no end. An answer whose cap does not fit beside its prompt is cut to what does; a cap over the whole context,
or a prompt, is a 400.
"""

import math
import re

import orjson

from bestserve.policy.facts import Load

from .dialect import Dialect, Said, prompt_over, usual_reason

METRICS = "/metrics"
LOAD = "/load"


def load_of_metrics(text: bytes) -> Load:
    """What /metrics says, summed over engines. Raises ValueError when it is not vLLM's."""
    sums = {"running": 0.0, "waiting": 0.0}
    used, room = 0.0, 0
    found = _GAUGE.findall(text)
    for name, engine, value in found:
        if name != b"kv_cache_usage_perc":
            sums[name.decode().removeprefix("num_requests_")] += float(value)
        else:
            used += float(value) * _tokens_of(text, engine)
            room += _tokens_of(text, engine)
    if not any(name == b"num_requests_running" for name, _, _ in found):
        raise ValueError("no vllm:num_requests_running among the metrics")
    if not all(map(math.isfinite, (*sums.values(), used))):
        raise ValueError("a metric is not a finite number")
    return Load(round(sums["running"]), round(sums["waiting"]), round(used), kv_tokens=room or None)


_GAUGE = re.compile(
    rb'^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc)\{(?:[^}]*\bengine="([^"]*)")?[^}]*\} (\S+)', re.MULTILINE
)


def _tokens_of(text: bytes, engine: bytes) -> int:
    """Tokens of context that fit in one engine's memory; 0 where it does not say."""
    for line in _CACHE.findall(text):
        said = dict(_LABEL.findall(line))
        if said.get(b"engine", b"") == engine and said.get(b"num_gpu_blocks", b"").isdigit() and said.get(b"block_size", b"").isdigit():
            return int(said[b"num_gpu_blocks"]) * int(said[b"block_size"])
    return 0


_CACHE = re.compile(rb"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
_LABEL = re.compile(rb'(\w+)="([^"]*)"')


def load_of(body: bytes) -> Load:
    """A reply of /load: open requests, running or not. Raises ValueError."""
    try:
        return Load(running=int(orjson.loads(body)["server_load"]), waiting=0, used_tokens=0)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a reply of /load: {type(error).__name__} {error}") from error


def over(said: Said) -> tuple[str, int] | None:
    """What to tell a client whose request is over a context, and that context; None when that is not what the message says."""
    if prompt := _PROMPT_OVER.search(said.message):
        return prompt_over(int(prompt[2]), int(prompt[1]))
    if cap := _CAP_OVER.search(said.message):
        return f"This asks for {cap[1]} tokens; the longest context here is {cap[2]} tokens.", int(cap[2])
    return None


_PROMPT_OVER = re.compile(r"maximum context length is (\d+) tokens\. However, your prompt contains at least (\d+) input tokens")
_CAP_OVER = re.compile(r"max_(?:completion_)?tokens=(\d+) cannot be greater than max_model_len=(\d+)")

VLLM = Dialect("vllm", ready="/health", reports=((METRICS, load_of_metrics), (LOAD, load_of)), over=over, reason=usual_reason)
