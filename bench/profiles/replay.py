"""Published serving runs, replayed through the engine's arithmetic with the constants of a profile.

gpustack's performance lab sent 1,000 (or 100) ShareGPT requests to SGLang 0.5.5 and published medians. Their lengths are not published,
so log-normal ones with the published means stand in. None of the runs of 1,000 is a row of `measured`.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from bestserve.policy.engine import Job, State, Step, step, submit
from bestserve.profiles import Engine
from constants import engine_of
from measured import Table, read
from roofline import Roofline
from shapes import A100, H100, H100_PCIE, MODELS, Gpu

ANY = 1 << 30
MAX_RUNNING_THEN = 2048  # SGLang's own limit; the published runs set none
COLUMNS = {"out tok/s": "out_tok_s", "TTFT p50 ms": "ttft_p50_ms", "TPOT p50 ms": "tpot_p50_ms", "ITL p50 ms": "itl_p50_ms"}
HEAD = f"| | SGLang, ShareGPT | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|---|"


@dataclass(frozen=True, slots=True)
class Run:
    gpu: Gpu
    size: str
    doc: str
    in_flight: int


RUNS = (
    Run(H100, "8B", "qwen3-8b/h100-latency.md", 4),
    Run(H100, "14B", "qwen3-14b/h100.md", 1000),
    Run(H100, "32B", "qwen3-32b/h100.md", 1000),
    Run(A100, "14B", "qwen3-14b/a100.md", 1000),
    Run(A100, "32B", "qwen3-32b/a100.md", 1000),
    Run(H100_PCIE, "14B", "qwen3-14b/h100.md", 1000),  # the two H100 pages again, as if the card were the slower kind
    Run(H100_PCIE, "32B", "qwen3-32b/h100.md", 1000),
)


def table(roofline: Roofline, data: Path) -> Iterator[str]:
    """Predicted / published (error) for every run, as Markdown."""
    published = read(data / "latency" / "gpustack_serving_bench.csv")
    yield HEAD
    for run in RUNS:
        row = _row(published, run)
        ours = _seen(roofline, run, row)
        cells = (f"{ours[name]:,.4g} / {float(row[key]):,.4g} ({ours[name] / float(row[key]) - 1:+.0%})" for name, key in COLUMNS.items())
        yield f"| {run.size}, {run.gpu.label} | {run.in_flight} at once | " + " | ".join(cells) + " |"


def overhead_s(roofline: Roofline, data: Path) -> float:
    """What a first token takes beside the engine's own time, under light load: published - predicted, of the run with four at once."""
    run = RUNS[0]
    row = _row(read(data / "latency" / "gpustack_serving_bench.csv"), run)
    return (float(row["ttft_p50_ms"]) - _seen(roofline, run, row)["TTFT p50 ms"]) / 1e3


def _row(published: Table, run: Run) -> dict[str, str]:
    command = f"python3 -m sglang.launch_server --model-path Qwen/Qwen3-{run.size}"
    return next(row for row in published if row["doc"] == run.doc and row["serve_cmd"] == command)


def _seen(roofline: Roofline, run: Run, row: dict[str, str]) -> dict[str, float]:
    engine = engine_of(roofline, MODELS[f"Qwen/Qwen3-{run.size}"], run.gpu, 1)
    assert engine is not None
    n = int(row["n_ok"])
    prompts, answers = (lengths(int(row[key]) / n, n, seed=seed) for key, seed in (("in_tok", 1), ("out_tok", 2)))
    return replay(replace(engine, max_running=MAX_RUNNING_THEN), prompts, answers, in_flight=run.in_flight)


def lengths(mean: float, n: int, *, seed: int) -> list[int]:
    """n lengths with the given mean: evenly spaced quantiles of a log-normal with spread 1, at most 1,024, shuffled."""
    normal = statistics.NormalDist()
    shape = np.exp([normal.inv_cdf((i + 0.5) / n) for i in range(n)])
    low, high = 0.0, 10 * mean
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(middle * shape, 1024).mean() < mean else (low, middle)
    found = np.maximum(1, np.minimum(high * shape, 1024)).round().astype(int)
    np.random.default_rng(seed).shuffle(found)
    return [int(x) for x in found]


def replay(engine: Engine, prompts: list[int], answers: list[int], *, in_flight: int) -> dict[str, float]:
    """What a client would publish that keeps `in_flight` requests open until all are answered. Keys as COLUMNS."""
    state, now = State(engine), 0.0
    waiting = iter([Job(str(i), prompt, (answer,)) for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))])
    began: dict[str, float] = {}
    first: dict[str, float] = {}
    per_request: list[float] = []  # seconds a token after the first, of those that are answered
    gaps: list[tuple[float, int]] = []

    def open_more() -> None:
        while len(began) - len(per_request) < in_flight and (job := next(waiting, None)) is not None:
            began[job.id] = now
            submit(state, job)

    open_more()
    while (did := step(state, now, ANY)) is not None:
        now = did.ends_at
        first |= dict.fromkeys(did.first_tokens, now)
        if did.decode_steps:
            gaps.append(_gap(did))
        per_request += [(now - first[id]) / max(answers[int(id)] - 1, 1) for id in did.finished]  # noqa: A001
        open_more()
    return {
        "out tok/s": sum(answers) / now,
        "TTFT p50 ms": 1e3 * statistics.median(first[id] - began[id] for id in first),  # noqa: A001
        "TPOT p50 ms": 1e3 * statistics.median(per_request),
        "ITL p50 ms": 1e3 * _weighted_median(gaps),
    }


def _gap(did: Step) -> tuple[float, int]:
    """Seconds between two tokens, and how many tokens waited that long."""
    return did.duration_s / did.decode_steps, did.tokens


def _weighted_median(gaps: list[tuple[float, int]]) -> float:
    gaps.sort()
    half = sum(n for _, n in gaps) / 2
    return next(gap for (gap, _), total in zip(gaps, accumulate(n for _, n in gaps), strict=True) if total >= half)
