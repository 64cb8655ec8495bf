"""Time a real SGLang on this machine's CPU and fit the constants of a profile.

    .venv/bin/python tests/real/measure.py                    starts a server of its own, measures, about five minutes
    .venv/bin/python tests/real/measure.py --url URL          measures the one that runs there
    .venv/bin/python tests/real/measure.py --runs 7           the best of more runs; the default is 5

Every measurement is printed as it is made; at the end comes the `[engine]` table for `profiles/smollm2-135m-cpu.toml`.
Run on a machine at rest where there is one. Of several runs the fastest counts, since what else the machine does only
ever adds. `error` is the root mean square of the fit's relative residuals, not the spread between runs.

Prompts are random token ids, and answers run on past the end token to the length asked for. A prefill is a lone request
for one token, from the first byte sent to the last received, with a prompt that no cache has seen. A decode step is the
median gap between two tokens of a stream while all the streams of its batch are running; there the prompts are the same
in each run, so that only the first has to read them.
"""

import argparse
import asyncio
import datetime
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))

import backend

PROMPTS = (16, 64, 128, 256, 512, 1024, 2048)
BATCHES = (1, 4, 8, 16)
CONTEXTS = (32, 256, 768)
MOST_HELD = 5000  # tokens of a batch together; above, a run takes a minute and says no more
STEPS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="a running server; default: start one")
    parser.add_argument("--runs", type=int, default=5, help="the fastest of so many counts (default 5)")
    args = parser.parse_args()
    with server(args.url) as url:
        asyncio.run(measure(url, args.runs))


@contextmanager
def server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with backend.sglang(backend.free_port()) as started:
        yield started.url


async def measure(url: str, runs: int) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        told = (await client.get("/server_info")).json()
        await prefill_s(client, 512)  # the first of each kind is slower
        await step_s(client, 4, 32)
        prefills = []
        for tokens in PROMPTS:
            best = min([await prefill_s(client, tokens) for _ in range(runs)])
            print(f"# prefill of {tokens:5d} tokens: {best * 1e3:8.1f} ms", flush=True)
            prefills.append((tokens, best))
        steps = []
        for context in CONTEXTS:
            for batch in BATCHES:
                if batch * context > MOST_HELD:
                    continue
                best = min([await step_s(client, batch, context) for _ in range(runs)])
                print(f"# step of {batch:2d} with {context:4d} tokens each: {best * 1e3:8.1f} ms", flush=True)
                steps.append((batch, batch * (context + STEPS // 2), best))
    print(table(prefills, steps, told))


async def prefill_s(client: httpx.AsyncClient, tokens: int) -> float:
    began = time.perf_counter()
    reply = await client.post("/generate", json=request(tokens, 1, seed=time.time_ns()))
    reply.raise_for_status()
    return time.perf_counter() - began


async def step_s(client: httpx.AsyncClient, batch: int, context: int) -> float:
    """The median gap between tokens in the stretch when every stream of the batch was decoding."""
    streams = await asyncio.gather(*(arrivals(client, context, seed) for seed in range(batch)))
    first, last = max(s[0] for s in streams), min(s[-1] for s in streams)
    gaps = [b - a for s in streams for a, b in pairwise(s) if a >= first and b <= last]
    return statistics.median(gaps)


async def arrivals(client: httpx.AsyncClient, context: int, seed: int) -> list[float]:
    """When each token of a stream came. The last to start sets the batch, so the others are given more to say."""
    body = {**request(context, 2 * STEPS, seed), "stream": True}
    async with client.stream("POST", "/generate", json=body) as reply:
        reply.raise_for_status()
        return [time.perf_counter() async for line in reply.aiter_lines() if line.startswith("data: {")]


def request(tokens: int, answer: int, seed: int) -> dict[str, Any]:
    ids = random.Random(seed).choices(range(1000, 40000), k=tokens)
    return {"input_ids": ids, "sampling_params": {"temperature": 0, "max_new_tokens": answer, "ignore_eos": True}}


def fit(rows: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Coefficients of at least 0 with the least relative error, and that error. A negative one is left out as 0."""
    kept = list(range(rows.shape[1]))
    weighted = rows / times[:, None]  # (n, K)
    while True:
        found = np.linalg.lstsq(weighted[:, kept], np.ones(len(times)), rcond=None)[0]
        if (found >= 0).all():
            break
        kept.pop(int(found.argmin()))
    coefficients = np.zeros(rows.shape[1])
    coefficients[kept] = found
    return coefficients, float(np.sqrt(np.mean((weighted @ coefficients - 1) ** 2)))


def table(prefills: list[tuple[int, float]], steps: list[tuple[int, int, float]], told: dict[str, Any]) -> str:
    """The `[engine]` table: what was fitted, and what the server says of itself."""
    seen = np.array(prefills)
    (fixed, per_token), prefill_error = fit(np.column_stack([np.ones(len(seen)), seen[:, 0]]), seen[:, 1])
    seen = np.array(steps)
    (step, per_seq, per_kv), step_error = fit(np.column_stack([np.ones(len(seen)), seen[:, :2]]), seen[:, 2])
    source = f"measured {datetime.date.today()} with tests/real/measure.py, SGLang {told['version']}, one thread"
    numbers = {
        "prefill_tokens_per_s": (1 / per_token, prefill_error),
        "prefill_fixed_s": (fixed, prefill_error),
        "step_fixed_s": (step, step_error),
        "step_per_seq_s": (per_seq, step_error),
        "step_per_kv_token_s": (per_kv, step_error),
    }
    lines = ["[engine]"]
    for name, (value, error) in numbers.items():
        lines.append(f'{name} = {{ value = {value:.3g}, source = "{source}", how = "measured", error = {error:.2f} }}')
    lines += [
        f"max_running = {told['max_running_requests']}",
        f"kv_tokens = {told['max_total_num_tokens']}",
        f"context = {told['max_req_input_len'] + 6}  # SGLang keeps six tokens back",
        f"prefill_batch_tokens = {told['chunked_prefill_size']}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
