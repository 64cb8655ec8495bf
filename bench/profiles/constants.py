"""The engine's constants of one model on one kind of GPU: the formula's curves as the straight lines that a profile holds."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bestserve.profiles import Engine
from measured import Row
from roofline import Roofline
from shapes import Gpu, Model

GIB = 2**30
MIB = 2**20
ENGINE = "sglang"

SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (128, 256, 512, 1024, 2048, 4096, 8192)
PROMPT = 1024  # tokens: a batch is made of prompts no longer than this, which attention's arithmetic depends on
CUDA_CONTEXT = 1 * GIB  # assumed: what CUDA holds before the weights are loaded
LEAST_CONTEXT = 2048  # tokens for which a model must have room to be worth a profile


def engine_of(roofline: Roofline, model: Model, gpu: Gpu, n_gpus: int, *, slower: float = 1.0) -> Engine | None:
    """The constants, or None where the model leaves no room for context. `slower` is measured / predicted of its steps."""
    held = kv_bytes(model, gpu, n_gpus) // model.kv_bytes
    if held < LEAST_CONTEXT:
        return None
    places = min(gpu.max_running, held // 64)
    step_fixed, step_per_seq = line(
        [n for n in SEQUENCES if n <= gpu.max_running],
        [slower * roofline.step(model, gpu, n_gpus, ENGINE, n, 0) for n in SEQUENCES if n <= gpu.max_running],
    )
    bare, full = (roofline.step(model, gpu, n_gpus, ENGINE, 1, context) for context in (0, 1e6))
    prefill_fixed, per_token = line(
        TOKENS, [roofline.prefill(model, gpu, n_gpus, ENGINE, tokens / min(tokens, PROMPT), min(tokens, PROMPT)) for tokens in TOKENS]
    )
    return Engine(
        prefill_tokens_per_s=1 / per_token,
        prefill_fixed_s=prefill_fixed,
        step_fixed_s=step_fixed,
        step_per_seq_s=step_per_seq,
        step_per_kv_token_s=slower * (full - bare) / 1e6,
        max_running=places,
        kv_tokens=held,
        context=min(model.context, held),
        prefill_batch_tokens=gpu.prefill_batch_tokens,
    )


def line(at: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """The line that is nearest to the points in relative terms, through none below 0: (seconds at 0, seconds for each)."""
    x, y = np.array(at, dtype=np.float64), np.array(seconds)
    columns: NDArray[np.float64] = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    fixed, each = np.linalg.lstsq(columns, np.ones_like(y), rcond=None)[0]
    if fixed < 0:
        return 0.0, float(np.exp(np.mean(np.log(y / x))))
    return float(fixed), float(each)


def kv_bytes(model: Model, gpu: Gpu, n_gpus: int) -> int:
    """Memory for context. SGLang reserves some for activations and graphs; the rest, as a share of what is free before loading,
    holds the weights and the context. On L4 the share is set to 0.85, for with SGLang's own 0.70 an 8B model does not load."""
    reserved = 512 + 1.5 * gpu.prefill_batch_tokens + n_gpus / 8 * 1024 + 2 * gpu.max_running
    share = round((gpu.memory_mib - max(reserved, 10 * 1024)) / gpu.memory_mib, 3) if gpu.memory_mib > 60 * 1024 else 0.85
    return int(share * n_gpus * (gpu.memory_mib * MIB - CUDA_CONTEXT) - model.weight_bytes)


def slower_than_predicted(roofline: Roofline, model: Model, gpu: Gpu, rows: Sequence[Row]) -> float | None:
    """Measured / predicted, geometric mean, of this model's steps under SGLang on one such GPU; None where there are none."""
    own = [row for row in rows if (row.model, row.gpu, row.engine, row.kind) == (model.hub, gpu.name, ENGINE, "step")]
    if not own:
        return None
    return math.exp(sum(math.log(row.seconds / roofline.seconds(row)) for row in own) / len(own))
