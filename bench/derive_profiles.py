"""Derive the six Qwen3-on-H100 profiles from published figures, and check them against published runs.

    python bench/derive_profiles.py --data DIR            print the table of predicted against published
    python bench/derive_profiles.py --data DIR --write    also write profiles/qwen3-*-h100.toml

DIR holds `latency/` and `quality/` with five CSV files that are not in this repository. Each row of theirs was copied from

    latency/qwen_speed_benchmark_bs1.csv     QwenLM/Qwen3@c7f51a1 docs/source/getting_started/speed_benchmark.md
    latency/gpustack_serving_bench.csv       gpustack/gpustack@47277d79 docs/performance-lab
    latency/vidur_linear_ops_summary.csv     microsoft/vidur@7d47513 data/profiling/compute, operators summed per layer
    quality/ladder_qwen3_nonthinking.csv     QwenLM/Qwen3@7a2f61f Qwen3_Technical_Report.pdf, tables 14, 16, 18 and 20
    (its Vectara row)                        vectara/hallucination-leaderboard@318453a README.md

Facts · every matrix of a model is read once a step; its keys and values once a step for each token of context. H100 SXM:
3.35 TB/s and 989 TFLOP/s dense BF16, 81,559 MiB. The sizes of the models are those of their published configurations.

Plan · a decode step is layers x LAUNCH + bytes / (share of bandwidth) + sequences + context; a prefill batch is tokens x
2 x parameters / (share of peak) + a fixed part. The shares come from operator timings on H100 (vidur), LAUNCH from one
published SGLang run on H100 SXM, the cost of context from the table of lengths on H20. Then a small replay of continuous
batching predicts the published runs, most of which no fit has seen.

What is not handled · attention inside prefill (quadratic), CUDA graphs that end at 256 sequences, HTTP and tokenising
(part of any measured first token), speculative decoding, quantised weights.
"""

import argparse
import csv
import itertools
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bestserve.profiles import TASKS, Engine

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
MIB = 2**20

QWEN_SPEED = "QwenLM/Qwen3/docs/source/getting_started/speed_benchmark.md@c7f51a1"
GPUSTACK = "gpustack/gpustack/docs/performance-lab/{}@47277d79"
VIDUR = "microsoft/vidur/data/profiling/compute@7d47513"
REPORT = "QwenLM/Qwen3/Qwen3_Technical_Report.pdf@7a2f61f, table {}, non-thinking"
LEADERBOARD = "vectara/hallucination-leaderboard/README.md@318453a"
CONFIG = "Qwen/{}/config.json of the published weights"
SGLANG = "sglang 0.5.23, sglang/srt/arg_groups/memory_hook.py"


@dataclass(frozen=True, slots=True)
class Model:
    """The published shape of a Qwen3 dense model."""

    size: str  # as in its name, e.g. "8B"
    params_b: float  # as its model card says
    layers: int
    hidden: int
    heads: int
    ffn: int
    tied: bool  # embedding and output matrix are one
    table: str  # of the technical report

    kv_heads = 8
    head_dim = 128
    vocab = 151936

    @property
    def name(self) -> str:
        return f"Qwen3-{self.size}"

    @property
    def in_layers(self) -> int:
        """Parameters of the matrices in the layers: q, o; k, v; gate, up, down."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.ffn)

    @property
    def read_bytes(self) -> int:
        """Bytes read in each decode step: the layers and the output matrix, BF16. Of the embedding only rows are read."""
        return 2 * (self.in_layers + self.vocab * self.hidden)

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weights fill, BF16."""
        return 2 * (self.in_layers + self.vocab * self.hidden * (1 if self.tied else 2))

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token of context: a key and a value per layer and key-value head, BF16."""
        return self.layers * 2 * self.kv_heads * self.head_dim * 2


MODELS = (
    Model("0.6B", 0.6, 28, 1024, 16, 3072, True, "20"),
    Model("1.7B", 1.7, 28, 2048, 16, 6144, True, "20"),
    Model("4B", 4.0, 36, 2560, 32, 9728, True, "18"),
    Model("8B", 8.2, 36, 4096, 32, 12288, False, "18"),
    Model("14B", 14.8, 40, 5120, 40, 17408, False, "16"),
    Model("32B", 32.8, 64, 5120, 64, 25600, False, "14"),
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """Published peaks of a GPU."""

    name: str
    bytes_per_s: float
    flops: float  # dense BF16
    memory_mib: int  # as nvidia-smi reports


H100 = Gpu("H100", 3.35e12, 989e12, 81559)
H100_PCIE = Gpu("H100 PCIe", 2.04e12, 756e12, 81559)
A100 = Gpu("A100", 2.04e12, 312e12, 81920)
H20 = Gpu("H20", 4.0e12, 148e12, 97871)

# vidur's models: layers, parameters of the matrices in the layers
VIDUR_MODELS = {
    "microsoft/phi-2": (32, 32 * (4 * 2560**2 + 2 * 2560 * 10240)),
    "meta-llama/Llama-2-7b-hf": (32, 32 * (4 * 4096**2 + 3 * 4096 * 11008)),
    "internlm/internlm-20b": (60, 60 * (4 * 5120**2 + 3 * 5120 * 13824)),
    "codellama/CodeLlama-34b-Instruct-hf": (48, 48 * (2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 22016)),
    "meta-llama/Llama-2-70b-hf": (80, 80 * (2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28672)),
    "Qwen/Qwen-72B": (80, 80 * (4 * 8192**2 + 3 * 8192 * 24576)),
}

MAX_RUNNING = 256
CHUNK = 8192
MAX_POSITION = 40960
RESERVED_MIB = 512 + 1.5 * CHUNK + 2 * 256 + 1024 / 8  # SGLang 0.5.23: activations, graphs to 256, one GPU
RESERVED_MIB_THEN = 1.5 * CHUNK + 2 * 256  # SGLang 0.5.5, which made the published runs
MAX_RUNNING_THEN = 2048  # its own limit; the published runs set none
CUDA_CONTEXT = 1 * GIB  # assumed: what CUDA holds before the weights are loaded

Rows = list[dict[str, str]]


# The constants of the machine, each from one table


@dataclass(frozen=True, slots=True)
class Fit:
    """What the published tables say about one kind of GPU, in shares of its peaks where they carry over."""

    weight_share: float  # of peak bandwidth when reading weights
    weight_error: float
    kv_share: float  # of peak bandwidth when reading keys and values
    kv_error: float
    prefill_share: float  # of peak FLOP/s
    prefill_error: float
    seq_per_layer_s: float  # a sequence more, per layer
    seq_per_param_s: float  # a sequence more, per parameter
    seq_error: float
    launch_s: float  # per layer and decode step
    prefill_launch_s: float  # per prefill batch, and see prefill_read
    prefill_read: float  # share of one reading of the weights that a prefill batch adds


def relative_fit(columns: NDArray[np.float64], wanted: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Least squares on relative residuals; the coefficients and the root mean square of the residuals."""
    rows = columns / wanted[:, None]  # (n, columns)
    found = np.asarray(np.linalg.lstsq(rows, np.ones(len(wanted)), rcond=None)[0], dtype=np.float64)
    return found, float(np.sqrt(np.mean((rows @ found - 1) ** 2)))


def fit_context(rows: Rows) -> tuple[float, float, list[float]]:
    """Share of bandwidth for keys and values, from batch 1 and four prompt lengths of all six sizes on H20.

    total = 2048 x fixed(size) + 2048 x (prompt + 1024) x kv bytes / (share x bandwidth) + prompt's FLOP / (share x peak).
    Six fixed times and two shares against 24 totals: the sizes differ in bytes of context per FLOP, which tells the two
    apart. The fixed times come back for print only: see `h20_weight_share`.
    """
    wanted, columns = [], []
    for at, model in enumerate(MODELS):
        for row in rows:
            right = row["model"] == model.name and row["framework"].startswith("SGLang") and row["quant"] == "BF16"
            prompt = int(row["input_len"])
            if not right or prompt > 32768:
                continue
            column = [0.0] * (len(MODELS) + 2)
            column[at] = 2048.0
            column[-2] = 2048 * (prompt + 1024) * model.kv_bytes / H20.bytes_per_s
            quadratic = 2 * model.layers * model.heads * model.head_dim * prompt**2
            column[-1] = (2 * model.in_layers * prompt + quadratic) / H20.flops
            columns.append(column)
            wanted.append(float(row["total_s"]))
    found, error = relative_fit(np.array(columns), np.array(wanted))
    return 1 / float(found[-2]), error, [float(seconds) for seconds in found[:-2]]


def h20_weight_share(fixed_s: list[float]) -> float:
    """Share of the H20's bandwidth that its fixed times imply. It is 0.36, where operators on H100 reach 0.85; so the H20's
    decode times, scaled by bandwidth, are no estimate of an H100's."""
    columns = np.array([[model.layers, model.read_bytes / H20.bytes_per_s] for model in MODELS])
    found, _ = relative_fit(columns, np.array(fixed_s))
    return 1 / float(found[1])


def vidur(rows: Rows, gpu: str, keep: Callable[[int], bool]) -> Iterable[tuple[int, int, int, float]]:
    """(layers, parameters, tokens, seconds) of the linear operators of all layers, one GPU."""
    for row in rows:
        tokens = int(row["num_tokens"])
        if row["gpu"] == gpu and row["tp"] == "1" and row["model"] in VIDUR_MODELS and keep(tokens):
            layers, params = VIDUR_MODELS[row["model"]]
            yield layers, params, tokens, float(row["linear_ms_all_layers_excl_attention_allreduce"]) / 1e3


def fit_weights(rows: Rows) -> tuple[float, float]:
    """Share of bandwidth for weights: seconds at one token = layers x a + bytes / (share x bandwidth), six models."""
    points = list(vidur(rows, "h100", lambda tokens: tokens == 1))
    columns = np.array([[layers, 2 * params / H100.bytes_per_s] for layers, params, _, _ in points])
    found, error = relative_fit(columns, np.array([seconds for *_, seconds in points]))
    return 1 / float(found[1]), error


def fit_sequences(rows: Rows) -> tuple[float, float, float]:
    """What one more token costs a step, from 1 to 256 tokens: layers x a + parameters x b, six models."""
    one = {(layers, params): seconds for layers, params, _, seconds in vidur(rows, "h100", lambda n: n == 1)}
    many = {(layers, params): seconds for layers, params, _, seconds in vidur(rows, "h100", lambda n: n == 256)}
    slopes = np.array([(many[key] - one[key]) / 255 for key in one])
    found, error = relative_fit(np.array([list(map(float, key)) for key in one]), slopes)
    return float(found[0]), float(found[1]), error


def fit_prefill(rows: Rows, ttft_row: dict[str, str]) -> tuple[float, float]:
    """Share of peak FLOP/s in prefill: the geometric mean of a ceiling and a floor, the error half their log distance.

    Ceiling: linear operators alone at 1,024 tokens and more. Floor: Qwen3-14B under SGLang with 1,000 prompts at once,
    whose median first token came after about half of all prompt tokens, HTTP and the client's own work included.
    """
    shares = [2 * p * n / (s * H100.flops) for _, p, n, s in vidur(rows, "h100", lambda tokens: tokens >= 1024)]
    ceiling = statistics.median(shares)
    half = int(ttft_row["in_tok"]) / 2
    floor = 2 * model("14B").in_layers * half / (float(ttft_row["ttft_p50_ms"]) / 1e3) / H100.flops
    return math.sqrt(ceiling * floor), math.log(ceiling / floor) / 2


def fit_prefill_read(rows: Rows) -> float:
    """A prefill batch reads the weights too, mostly hidden behind its arithmetic: the intercept of seconds over tokens
    (512 to 4,096), as a share of the seconds at one token; the median of six models."""
    shares = []
    for layers, params in VIDUR_MODELS.values():
        points = [(n, s) for la, p, n, s in vidur(rows, "h100", lambda n: n >= 512) if (la, p) == (layers, params)]
        columns = np.array([[1.0, n] for n, _ in points])
        found, _ = relative_fit(columns, np.array([s for _, s in points]))
        alone = next(s for la, p, _, s in vidur(rows, "h100", lambda n: n == 1) if (la, p) == (layers, params))
        shares.append(max(0.0, float(found[0]) / alone))
    return statistics.median(shares)


def fit_all(speed: Rows, gpustack: Rows, ops: Rows) -> Fit:
    weight_share, weight_error = fit_weights(ops)
    kv_share, kv_error, _ = fit_context(speed)
    prefill_share, prefill_error = fit_prefill(ops, sglang_row(gpustack, "14B", "qwen3-14b/h100.md"))
    seq_layer, seq_param, seq_error = fit_sequences(ops)
    fit = Fit(
        weight_share=weight_share,
        weight_error=weight_error,
        kv_share=kv_share,
        kv_error=kv_error,
        prefill_share=prefill_share,
        prefill_error=prefill_error,
        seq_per_layer_s=seq_layer,
        seq_per_param_s=seq_param,
        seq_error=seq_error,
        launch_s=0.0,
        prefill_launch_s=0.0,
        prefill_read=fit_prefill_read(ops),
    )
    return fit_anchor(fit, sglang_row(gpustack, "8B", "qwen3-8b/h100-latency.md"))


def fit_anchor(fit: Fit, row: dict[str, str]) -> Fit:
    """The two launch costs, from Qwen3-8B under SGLang on one H100 SXM with four requests in flight.

    Per layer and step: what the median gap between tokens leaves after weights, sequences and context.
    Per prefill batch: an answer of n tokens is stalled by about three other prefills, so a stall is
    (mean time per token - median gap) x n / 3, less the prompt's own arithmetic.
    """
    eight = model("8B")
    prompt, answer = int(row["in_tok"]) / int(row["n_ok"]), int(row["out_tok"]) / int(row["n_ok"])
    bare = engine_of(eight, fit, H100)
    gap = float(row["itl_p50_ms"]) / 1e3
    launch = (gap - bare.step_s(4, 4 * (prompt + answer / 2))) / eight.layers
    stall = (float(row["tpot_mean_ms"]) / 1e3 - gap) * answer / 3
    return replace(fit, launch_s=launch, prefill_launch_s=max(0.0, stall - bare.prefill_s(prompt)))


def model(size: str) -> Model:
    return next(m for m in MODELS if m.size == size)


def sglang_row(rows: Rows, size: str, doc: str) -> dict[str, str]:
    """The run of plain BF16 SGLang in one page of the performance lab."""
    command = f"python3 -m sglang.launch_server --model-path Qwen/Qwen3-{size}"
    return next(row for row in rows if row["doc"] == doc and row["serve_cmd"] == command)


# The constants of a backend


def engine_of(model: Model, fit: Fit, gpu: Gpu) -> Engine:
    """Apply the fit to one model on one GPU."""
    read_s = model.read_bytes / (fit.weight_share * gpu.bytes_per_s)
    kv_tokens = kv_bytes(model, gpu, RESERVED_MIB) // model.kv_bytes
    slower = H100.flops / gpu.flops  # arithmetic per sequence was timed on H100
    return Engine(
        prefill_tokens_per_s=fit.prefill_share * gpu.flops / (2 * model.in_layers),
        prefill_fixed_s=fit.prefill_launch_s + fit.prefill_read * read_s,
        step_fixed_s=model.layers * fit.launch_s + read_s,
        step_per_seq_s=model.layers * fit.seq_per_layer_s + model.read_bytes / 2 * fit.seq_per_param_s * slower,
        step_per_kv_token_s=model.kv_bytes / (fit.kv_share * gpu.bytes_per_s),
        max_running=MAX_RUNNING,
        kv_tokens=kv_tokens,
        context=min(MAX_POSITION, kv_tokens),
        prefill_batch_tokens=CHUNK,
    )


def kv_bytes(model: Model, gpu: Gpu, reserved_mib: float) -> int:
    """Memory for context: SGLang reserves some for activations and graphs; the rest, as a share of what is free before
    loading, holds the weights and the context."""
    share = round((gpu.memory_mib - reserved_mib) / gpu.memory_mib, 3)
    return int(share * (gpu.memory_mib * MIB - CUDA_CONTEXT) - model.weight_bytes)


# The replay of published runs


@dataclass(slots=True)
class Sequence:
    prompt: int
    answer: int
    done: int = 0
    first_s: float = 0.0
    last_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run shows."""

    out_tok_s: float
    ttft_p50_s: float
    tpot_p50_s: float
    itl_p50_s: float


def lengths(mean: float, n: int, *, seed: int) -> list[int]:
    """n lengths with the given mean: evenly spaced quantiles of a log-normal with spread 1, at most 1,024, shuffled.
    The benchmark's own lengths are not published; its loader drops longer ones."""
    normal = statistics.NormalDist()
    shape = np.exp([normal.inv_cdf((i + 0.5) / n) for i in range(n)])
    low, high = 0.0, 10 * mean
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(middle * shape, 1024).mean() < mean else (low, middle)
    found = np.maximum(1, np.minimum(high * shape, 1024)).round().astype(int)
    np.random.default_rng(seed).shuffle(found)
    return [int(x) for x in found]


def replay(engine: Engine, prompts: list[int], answers: list[int], *, in_flight: int) -> Seen:
    """Continuous batching, prefill first, by the engine's constants; `in_flight` requests are open at any time.

    A prompt enters when its tokens and half of what the open answers may still need fit in memory."""
    waiting = [Sequence(p, a) for p, a in zip(prompts, answers, strict=True)]
    waiting.reverse()
    began: dict[int, float] = {}
    running: list[Sequence] = []
    ended: list[tuple[float, Sequence]] = []
    gaps: list[tuple[float, int]] = []
    now = 0.0
    opened = min(in_flight, len(waiting))
    for sequence in waiting[-opened:]:
        began[id(sequence)] = 0.0
    while waiting or running:
        batch = admit(engine, waiting, running, began)
        if batch:
            now += engine.prefill_s(sum(s.prompt for s in batch))
            for sequence in batch:
                sequence.done, sequence.first_s, sequence.last_s = 1, now, now
            running += batch
        else:
            spent = engine.step_s(len(running), sum(s.prompt + s.done for s in running))
            now += spent
            gaps.append((spent, len(running)))
            for sequence in running:
                sequence.done, sequence.last_s = sequence.done + 1, now
        for sequence in [s for s in running if s.done >= s.answer]:
            ended.append((began[id(sequence)], sequence))
            unopened = [s for s in waiting if id(s) not in began]
            if unopened:
                began[id(unopened[-1])] = now
        running = [s for s in running if s.done < s.answer]
    gaps.sort()
    half = sum(n for _, n in gaps) / 2
    reached = itertools.accumulate(n for _, n in gaps)
    return Seen(
        out_tok_s=sum(answers) / now,
        ttft_p50_s=statistics.median(s.first_s - start for start, s in ended),
        tpot_p50_s=statistics.median((s.last_s - s.first_s) / (s.answer - 1) for _, s in ended if s.answer > 1),
        itl_p50_s=next(gap for (gap, _), total in zip(gaps, reached, strict=True) if total >= half),
    )


def admit(engine: Engine, waiting: list[Sequence], running: list[Sequence], began: dict[int, float]) -> list[Sequence]:
    batch: list[Sequence] = []
    taken = sum(s.prompt + s.done + (s.answer - s.done) / 2 for s in running)
    tokens = 0
    while waiting and id(waiting[-1]) in began and len(running) + len(batch) < engine.max_running:
        head = waiting[-1]
        full = taken + head.prompt + head.answer / 2 > engine.kv_tokens or tokens + head.prompt > CHUNK
        if full and (running or batch):
            break
        taken, tokens = taken + head.prompt + head.answer / 2, tokens + head.prompt
        batch.append(waiting.pop())
    return batch


# The check


@dataclass(frozen=True, slots=True)
class Check:
    gpu: Gpu
    size: str
    doc: str
    in_flight: int
    used: str  # what of this row went into the fit


CHECKS = (
    Check(H100, "8B", "qwen3-8b/h100-latency.md", 4, "launch costs"),
    Check(H100, "14B", "qwen3-14b/h100.md", 1000, "floor of prefill"),
    Check(H100, "32B", "qwen3-32b/h100.md", 1000, "nothing"),
    Check(A100, "14B", "qwen3-14b/a100.md", 1000, "nothing"),
    Check(A100, "32B", "qwen3-32b/a100.md", 1000, "nothing"),
)

LONE = (  # 32,000 tokens of prompt, one sequence at a time, for that is all that fits: the time of one step
    (H100, "qwen3-32b/h100.md", "vllm serve Qwen/Qwen3-32B"),
    (A100, "qwen3-32b/a100.md", "trtllm-serve Qwen/Qwen3-32B --max_seq_len=40960 --enable_chunked_prefill"),
)


@dataclass(frozen=True, slots=True)
class Compared:
    what: str
    size: str
    gpu: Gpu
    used: str
    errors: dict[str, float]  # quantity -> predicted / published - 1
    line: str


def compare(fit: Fit, gpustack: Rows) -> list[Compared]:
    """Every check, in order; the H100 pages of 14B and 32B a second time as if the card were the PCIe kind."""
    found = [run_check(fit, gpustack, check, check.gpu) for check in CHECKS]
    found += [lone(fit, gpustack, *each) for each in LONE]
    found += [run_check(fit, gpustack, check, H100_PCIE) for check in CHECKS[1:3]]
    found.append(lone(fit, gpustack, H100_PCIE, *LONE[0][1:]))
    return found


def run_check(fit: Fit, gpustack: Rows, check: Check, gpu: Gpu) -> Compared:
    row = sglang_row(gpustack, check.size, check.doc)
    n = int(row["n_ok"])
    kv_tokens = kv_bytes(model(check.size), gpu, RESERVED_MIB_THEN) // model(check.size).kv_bytes
    engine = replace(engine_of(model(check.size), fit, gpu), max_running=MAX_RUNNING_THEN, kv_tokens=kv_tokens)
    prompts = lengths(int(row["in_tok"]) / n, n, seed=1)
    answers = lengths(int(row["out_tok"]) / n, n, seed=2)
    seen = replay(engine, prompts, answers, in_flight=check.in_flight)
    pairs = {
        "out tok/s": (seen.out_tok_s, float(row["out_tok_s"])),
        "TTFT p50 ms": (seen.ttft_p50_s * 1e3, float(row["ttft_p50_ms"])),
        "TPOT p50 ms": (seen.tpot_p50_s * 1e3, float(row["tpot_p50_ms"])),
        "ITL p50 ms": (seen.itl_p50_s * 1e3, float(row["itl_p50_ms"])),
    }
    return compared(f"SGLang ShareGPT, {check.in_flight} at once", check.size, gpu, check.used, pairs)


def lone(fit: Fit, gpustack: Rows, gpu: Gpu, doc: str, command: str) -> Compared:
    row = next(r for r in gpustack if r["doc"] == doc and r["serve_cmd"] == command and r["in_tok"] == "3200000")
    engine = engine_of(model("32B"), fit, gpu)
    pairs = {"ITL p50 ms": (engine.step_s(1, 32050) * 1e3, float(row["itl_p50_ms"]))}
    return compared("one sequence of 32,000 tokens", "32B", gpu, "nothing", pairs)


def compared(what: str, size: str, gpu: Gpu, used: str, pairs: dict[str, tuple[float, float]]) -> Compared:
    cells = []
    for name in ("out tok/s", "TTFT p50 ms", "TPOT p50 ms", "ITL p50 ms"):
        if name in pairs:
            ours, theirs = pairs[name]
            cells.append(f"{ours:,.4g} / {theirs:,.4g} ({ours / theirs - 1:+.0%})")
        else:
            cells.append("")
    line = f"| {size}, {gpu.name} | {what} | {used} | " + " | ".join(cells) + " |"
    return Compared(what, size, gpu, used, {name: a / b - 1 for name, (a, b) in pairs.items()}, line)


HEAD = """| | run | used in the fit | out tok/s | TTFT p50 ms | TPOT p50 ms | ITL p50 ms |
|---|---|---|---|---|---|---|"""


# The qualities


@dataclass(frozen=True, slots=True)
class Judged:
    """Which published scores stand for a task: (benchmark, full marks), averaged."""

    scores: tuple[tuple[str, float], ...]
    how: str
    why: str = ""


VECTARA = "Vectara summarisation factual consistency (README 2025-06)"
QUALITY = {
    "code": Judged((("LiveCodeBench v5", 100),), "published"),
    "math": Judged((("MATH-500", 100),), "published"),
    "qa": Judged((("MMLU-Redux", 100), ("GPQA-Diamond", 100)), "published"),
    "extract": Judged((("BFCL v3", 100),), "assumed", "no extraction score for six sizes; arguments found in a text"),
    "summ": Judged(((VECTARA, 100), ("IFEval strict prompt", 100)), "assumed", "consistency alone is the same for all sizes"),
    "rewrite": Judged((("IFEval strict prompt", 100),), "published"),
    "translate": Judged((("INCLUDE", 100), ("MMMLU 14 languages", 100)), "assumed", "no translation score for six sizes; languages known"),
    "write": Judged((("Creative Writing v3", 100), ("WritingBench", 10)), "published"),
    "classify": Judged((("MMLU-Redux", 100),), "assumed", "no classification score for six sizes; choice among labels"),
    "chat": Judged((("Arena-Hard", 100), ("AlignBench v1.1", 10)), "published"),
}


def quality_lines(model: Model, ladder: Rows) -> Iterable[str]:
    table = {row["benchmark"]: float(row[model.name]) for row in ladder}
    for task in TASKS:
        judged = QUALITY[task]
        value = statistics.fmean(table[name] / full for name, full in judged.scores)
        named = " and ".join(name for name, _ in judged.scores if name != VECTARA)
        source = REPORT.format(model.table) + f", {named}"
        if any(name == VECTARA for name, _ in judged.scores):
            source += f"; {LEADERBOARD}, factual consistency"
        source += f" ({judged.why})" if judged.why else ""
        yield number(task, round(value, 4), source, judged.how)


# The files


def number(key: str, value: float, source: str, how: str, error: float | None = None) -> str:
    shown = str(value) if isinstance(value, int) else f"{float(f'{value:.4g}')!r}"
    tail = "" if error is None else f", error = {error:.2f}"
    return f'{key} = {{ value = {shown}, source = "{source}", how = "{how}"{tail} }}'


def step_error(size: str, checks: list[Compared], gpustack: Rows) -> float:
    """How far a predicted step may be off.

    1. 8B was fitted, so its residual says nothing: how far apart three engines' median gaps are on the same page.
    2. A size with published H100 steps: the largest error of them.
    3. A size without: the root mean square of all H100 steps.
    """
    if size == "8B":
        page = [r for r in gpustack if r["doc"] == CHECKS[0].doc and r["section"].startswith("1.")]
        gaps = [float(r["itl_p50_ms"]) for r in page]
        return max(gaps) / min(gaps) - 1
    steps = [(c.size, c.errors["ITL p50 ms"]) for c in checks if c.gpu is H100]
    own = [abs(error) for of, error in steps if of == size]
    return max(own) if own else math.sqrt(statistics.fmean(error**2 for _, error in steps))


def profile(model: Model, fit: Fit, error: float, ladder: Rows) -> str:
    """The TOML of one model; `error` is that of its step."""
    e = engine_of(model, fit, H100)
    anchor = GPUSTACK.format("qwen3-8b/h100-latency.md") + ", SGLang Qwen3-8B, 4 at once"
    read = VIDUR + ", H100, 1 token"
    free = kv_bytes(model, H100, RESERVED_MIB)
    lines = [
        "# Written by bench/derive_profiles.py, which tells each formula. Not yet measured on a GPU of ours.",
        "schema = 1",
        f'name = "{profile_name(model)}"',
        f'model = "Qwen/{model.name}"',
        number("params_b", model.params_b, f"model card of Qwen/{model.name}", "published"),
        'gpu = "H100-80GB"',
        number("n_gpus", 1, "what this profile is about", "assumed"),
        number("usd_per_hour", 2.5, "a round figure for one rented H100; set your own", "assumed"),
        'capabilities = ["tools", "json"]',
        "",
        "[engine]",
        number(
            "prefill_tokens_per_s",
            e.prefill_tokens_per_s,
            f"{VIDUR}, H100, >= 1024 tokens, and {GPUSTACK.format('qwen3-14b/h100.md')}, SGLang TTFT",
            "fitted" if model.size == "14B" else "interpolated",
            fit.prefill_error if model.params_b > 2.5 else 0.5,  # no smaller model was timed
        ),
        number(
            "prefill_fixed_s",
            e.prefill_fixed_s,
            f"{anchor}; {VIDUR}, H100, 512 to 4096 tokens",
            "fitted" if model.size == "8B" else "interpolated",
            1.0,
        ),
        number(
            "step_fixed_s",
            e.step_fixed_s,
            f"{read}; {anchor}",
            "fitted" if model.size == "8B" else "interpolated",
            error,
        ),
        number("step_per_seq_s", e.step_per_seq_s, f"{VIDUR}, H100, 1 to 256 tokens", "interpolated", fit.seq_error),
        number(
            "step_per_kv_token_s",
            e.step_per_kv_token_s,
            f"{QWEN_SPEED}, SGLang BF16 on H20, scaled by bandwidth",
            "fitted",
            max(fit.kv_error, math.log(fit.weight_share / fit.kv_share)),
        ),
        number("max_running", e.max_running, f"start with --max-running-requests {MAX_RUNNING}: {SGLANG}", "assumed"),
        number("kv_tokens", e.kv_tokens, f"{SGLANG}, and {CONFIG.format(model.name)}", "interpolated", GIB / free),
        number(
            "context",
            e.context,
            CONFIG.format(model.name) + ", max_position_embeddings" + ("" if e.context == MAX_POSITION else "; memory"),
            "published" if e.context == MAX_POSITION else "interpolated",
            None if e.context == MAX_POSITION else GIB / free,
        ),
        number("prefill_batch_tokens", CHUNK, f"{SGLANG}, chunked_prefill_size below 90 GiB", "published"),
        "",
        "[quality]",
        *quality_lines(model, ladder),
    ]
    return "\n".join(lines) + "\n"


def profile_name(model: Model) -> str:
    return f"{model.name.lower()}-h100"


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description="Derive profiles/qwen3-*-h100.toml from published figures.")
    parser.add_argument("--data", type=Path, required=True, help="folder with latency/ and quality/")
    parser.add_argument("--out", type=Path, default=ROOT / "profiles", help="where --write writes")
    parser.add_argument("--write", action="store_true", help="write the profiles")
    args = parser.parse_args()
    gpustack = read(args.data / "latency" / "gpustack_serving_bench.csv")
    speed = read(args.data / "latency" / "qwen_speed_benchmark_bs1.csv")
    fit = fit_all(
        speed,
        gpustack,
        read(args.data / "latency" / "vidur_linear_ops_summary.csv"),
    )
    checks = compare(fit, gpustack)
    print(*(f"{item.name} = {getattr(fit, item.name):.4g}" for item in fields(fit)), sep="\n")
    *_, fixed_s = fit_context(speed)
    print("fixed ms on H20:", *(f"{seconds * 1e3:.3g}" for seconds in fixed_s))
    print(f"share of the H20's bandwidth in them: {h20_weight_share(fixed_s):.2f}")
    print(HEAD, *(check.line for check in checks), sep="\n")
    ladder = read(args.data / "quality" / "ladder_qwen3_nonthinking.csv")
    for each in MODELS:
        text = profile(each, fit, step_error(each.size, checks, gpustack), ladder)
        if args.write:
            (args.out / f"{profile_name(each)}.toml").write_text(text, encoding="utf-8")
        e = engine_of(each, fit, H100)
        print(profile_name(each), {name: float(f"{getattr(e, name):.4g}") for name in Engine.__slots__[:-1]})


if __name__ == "__main__":
    main()
