"""What an emulated SGLang says of itself: its model, its limits, its load, its metrics. Pure. As captured from SGLang 0.5.23."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bestserve.policy.facts import Load
from bestserve.profiles.schema import Profile

__all__ = ["VERSION", "loads", "metrics", "model_card", "model_info", "server_info"]

VERSION = "0.5.23"
"""The SGLang that this imitates."""


def model_card(model: str, created: int, context: int) -> dict[str, Any]:
    """One entry of /v1/models."""
    return {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": "sglang",
        "root": model,
        "parent": None,
        "max_model_len": context,
    }


def model_info(profile: Profile, model: str) -> dict[str, Any]:
    """The body of /model_info."""
    return {
        "model_path": profile.model,
        "served_model_name": model,
        "tokenizer_path": profile.model,
        "is_generation": True,
        "preferred_sampling_params": None,
        "weight_version": "default",
        "load_format": "emulated",
        "reasoning_parser": None,
        "tool_call_parser": None,
        "disaggregation_mode": "null",
        "has_image_understanding": False,
        "has_audio_understanding": False,
        "model_type": "emulated",
        "architectures": ["Emulated"],
    }


def server_info(profile: Profile, model: str, load: Load, *, prefix_cache: bool) -> dict[str, Any]:
    """The body of /server_info."""
    engine = profile.engine
    return {
        "model_path": profile.model,
        "served_model_name": model,
        "context_length": engine.context,
        "max_running_requests": engine.max_running,
        "max_queued_requests": engine.max_queued,
        "chunked_prefill_size": engine.prefill_batch_tokens,
        "max_total_num_tokens": engine.kv_tokens,
        "max_req_input_len": min(engine.context, engine.kv_tokens) - 1,
        "schedule_policy": "fcfs",
        "disable_radix_cache": not prefix_cache,
        "enable_metrics": True,
        "internal_states": [{"effective_max_running_requests_per_dp": engine.max_running, "num_running_reqs": load.running}],
        "version": VERSION,
        "emulated": True,
    }


def loads(load: Load, figures: Mapping[str, Any], now: float, *, core: bool) -> dict[str, Any]:
    """The body of /v1/loads; `core` leaves out the sections. `now` is seconds of the wall's clock."""
    kv = load.kv_tokens or 1
    entry: dict[str, Any] = {
        "timestamp": now,
        "dp_rank": 0,
        "num_running_reqs": load.running,
        "num_waiting_reqs": load.waiting,
        "num_waiting_uncached_tokens": figures["waiting_tokens"],
        "num_used_tokens": load.used_tokens,
        "num_total_tokens": load.used_tokens + figures["waiting_tokens"],
        "num_active_tokens": load.used_tokens + figures["waiting_tokens"],
        "num_prealloc_ready_tokens": 0,
        "max_total_num_tokens": load.kv_tokens,
        "max_running_requests": load.max_running,
        "token_usage": round(load.used_tokens / kv, 4),
        "gen_throughput": round(figures["throughput"], 1),
        "cache_hit_rate": 0.0,
        "utilization": round(load.running / (load.max_running or 1), 4),
        "total_prefill_uncached_tokens": figures["prefill_tokens"],
        "total_prefill_busy_us": int(figures["prefill_s"] * 1e6),
        "decode_moments": figures["moments"],
    }
    if not core:
        entry |= _sections(load)
    stamp = datetime.fromtimestamp(now, UTC).isoformat()
    return {"timestamp": stamp, "version": VERSION, "accelerator": None, "num_accelerators": 1, "loads": [entry]}


def _sections(load: Load) -> dict[str, Any]:
    queues = ("prefill_bootstrap_queue_reqs", "prefill_inflight_queue_reqs", "decode_prealloc_queue_reqs", "decode_transfer_queue_reqs")
    return {
        "memory": {"weight_gb": 0.0, "kv_cache_gb": 0.0, "graph_gb": 0.0, "token_capacity": load.kv_tokens},
        "disaggregation": {
            "mode": "null",
            **dict.fromkeys((*queues, "decode_retracted_queue_reqs"), 0),
            "kv_transfer_speed_gb_s": 0.0,
            "kv_transfer_latency_ms": 0.0,
        },
        "queues": {"waiting": load.waiting, "grammar": 0, "paused": 0, "retracted": 0, "prealloc_ready": 0},
    }


_GAUGES = {
    "num_running_reqs": "The number of running requests.",
    "num_queue_reqs": "The number of requests in the waiting queue.",
    "num_used_tokens": "The number of used tokens.",
    "token_usage": "The token usage.",
    "max_total_num_tokens": "Maximum total number of tokens in the KV cache pool.",
    "gen_throughput": "The generation throughput (token/s).",
    "cache_hit_rate": "The prefix cache hit rate.",
}

_COUNTERS = {
    "prompt_tokens_total": "Number of prefill tokens processed.",
    "generation_tokens_total": "Number of generation tokens processed.",
    "num_requests_total": "Number of requests processed.",
    "num_aborted_requests_total": "Number of requests aborted.",
}


def metrics(model: str, load: Load, throughput: float, totals: Mapping[bool, Mapping[str, int]]) -> str:
    """The body of /metrics. `totals` is by whether the answers were streamed."""
    values = {
        "num_running_reqs": load.running,
        "num_queue_reqs": load.waiting,
        "num_used_tokens": load.used_tokens,
        "token_usage": load.used_tokens / (load.kv_tokens or 1),
        "max_total_num_tokens": load.kv_tokens or 0,
        "gen_throughput": throughput,
        "cache_hit_rate": 0.0,
    }
    name = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    ranks = f'{{engine_type="unified",model_name="{name}",moe_ep_rank="0",pp_rank="0",tp_rank="0"}}'
    lines: list[str] = []
    for key, text in _GAUGES.items():
        lines += [f"# HELP sglang:{key} {text}", f"# TYPE sglang:{key} gauge", f"sglang:{key}{ranks} {float(values[key])}"]
    for key, text in _COUNTERS.items():
        lines += [f"# HELP sglang:{key} {text}", f"# TYPE sglang:{key} counter"]
        lines += [
            f'sglang:{key}{{engine_type="unified",is_streaming="{str(stream).lower()}",model_name="{name}"}} {float(total[key])}'
            for stream, total in totals.items()
        ]
    return "\n".join(lines) + "\n"
