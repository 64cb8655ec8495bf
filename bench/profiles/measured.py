"""What others measured and published: one Row for each time that the formula can predict.

DIR/latency holds five CSV files that are not in this repository. Each row of theirs was copied from

    qwen_speed_benchmark_bs1.csv     QwenLM/Qwen3@c7f51a1 docs/source/getting_started/speed_benchmark.md (Qwen3, SGLang on H20) and
                                     QwenLM/Qwen3@a912d23 docs/source/benchmark/speed_benchmark.rst (Qwen2.5, vLLM on A100)
    gpustack_serving_bench.csv       gpustack/gpustack@47277d79 docs/performance-lab
    inference_bench_summary.csv      ree2raz/inference-bench@6219100 results/summary.jsonl (L4)
    splitwise_perf_summary.csv       Mutinifni/splitwise-sim@8f99e7d data/perf_model.csv, medians of repetitions
    vidur_linear_ops_summary.csv     microsoft/vidur@7d47513 data/profiling/compute, operators summed over the layers

A Row is one of

    operators   the matrices in all layers over `n` tokens: no attention, no communication, no scheduler
    step        a decode step of `n` sequences with `context` tokens each
    prefill     `n` prompts of `context` tokens each
    run         one prompt of `context` tokens and `answer` tokens after it, alone

What is not taken · quantised models, mixtures of experts, prompts beyond 40,000 tokens; Splitwise's `pcap` rows (the H100 rows again,
with a factor); its 64 prompts of 512 tokens on two GPUs, which the file says took an eighth of 32 of them; rows of the L4 file whose
steps are shorter than the card can read the weights in (they are from other cards, its README says).
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

QWEN_SPEED = "QwenLM/Qwen3/docs/source/getting_started/speed_benchmark.md@c7f51a1"
QWEN25_SPEED = "QwenLM/Qwen3/docs/source/benchmark/speed_benchmark.rst@a912d23"
GPUSTACK = "gpustack/gpustack/docs/performance-lab@47277d79"
INFERENCE_BENCH = "ree2raz/inference-bench/results/summary.jsonl@6219100"
SPLITWISE = "Mutinifni/splitwise-sim/data/perf_model.csv@8f99e7d"
VIDUR = "microsoft/vidur/data/profiling/compute@7d47513"

LONGEST = 40_000

Table = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Row:
    kind: str  # operators, step, prefill or run
    model: str  # its name on the hub
    gpu: str  # a key of GPUS
    n_gpus: int
    engine: str  # a key of roofline.ENGINES
    n: int
    context: float
    answer: int
    seconds: float
    source: str


def read(path: Path) -> Table:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows(data: Path) -> list[Row]:
    """Every Row of the folder, in a fixed order."""
    latency = data / "latency"
    return [
        *_qwen(read(latency / "qwen_speed_benchmark_bs1.csv")),
        *_gpustack(read(latency / "gpustack_serving_bench.csv")),
        *_inference_bench(read(latency / "inference_bench_summary.csv")),
        *_splitwise(read(latency / "splitwise_perf_summary.csv")),
        *_vidur(read(latency / "vidur_linear_ops_summary.csv")),
    ]


def _qwen(table: Table) -> Iterator[Row]:
    engines = {"vLLM 0.6.3": "vllm-0.6", "SGLang 0.4.6.post1": "sglang"}
    for row in table:
        engine, prompt = engines.get(row["framework"]), int(row["input_len"])
        if engine and row["quant"] == "BF16" and prompt <= LONGEST and "-A" not in row["model"].removesuffix("-Instruct"):
            gpu, source = ("a100", QWEN25_SPEED) if row["gpu"].startswith("A100") else ("h20", QWEN_SPEED)
            yield Row("run", f"Qwen/{row['model']}", gpu, int(row["n_gpu"]), engine, 1, prompt, 2048, float(row["total_s"]), source)


LONE = {"qwen3-32b/h100.md": "h100", "qwen3-32b/a100.md": "a100"}


def _gpustack(table: Table) -> Iterator[Row]:
    """Four (or one) at once with 233 tokens of prompt and 221 of answer; and 32,000 tokens that leave room for no other."""
    for row in table:
        seconds, n_ok = float(row["itl_p50_ms"]) / 1e3, int(row["n_ok"])
        command = row["serve_cmd"]
        if row["doc"] == "qwen3-8b/h100-latency.md" and command.endswith("Qwen/Qwen3-8B") and not command.startswith("trtllm"):
            engine = "sglang" if "sglang" in command else "vllm"
            n = 1 if row["section"].startswith("Other") else 4
            half_way = (int(row["in_tok"]) + int(row["out_tok"]) / 2) / n_ok
            yield Row("step", "Qwen/Qwen3-8B", "h100", 1, engine, n, half_way, 0, seconds, GPUSTACK)
        if row["doc"] in LONE and command == "vllm serve Qwen/Qwen3-32B" and row["in_tok"] == "3200000":
            yield Row("step", "Qwen/Qwen3-32B", LONE[row["doc"]], 1, "vllm", 1, 32_050, 0, seconds, GPUSTACK)


PROMPT = {"short": 200, "long": 1800, "reasoning": 200}  # tokens, as the README of the benchmark says
ON_L4 = {
    "sglang": ("Qwen/Qwen2.5-7B-Instruct", "sglang"),
    "vllm": ("Qwen/Qwen2.5-7B-Instruct", "vllm"),
    "qwen3_sglang": ("Qwen/Qwen3-8B", "sglang"),
    "qwen3_vllm": ("Qwen/Qwen3-8B", "vllm"),
}


def _inference_bench(table: Table) -> Iterator[Row]:
    """Steps by concurrency; and of single long prompts the slowest first tokens, for the others' prefixes were remembered."""
    for row in table:
        if row["engine"] not in ON_L4 or float(row["tpot_p50"]) < 0.04:
            continue
        model, engine = ON_L4[row["engine"]]
        n, prompt = int(row["concurrency"]), PROMPT[row["regime"]]
        half_way = prompt + float(row["output_tokens_mean"]) / 2
        if row["regime"] != "reasoning" or n <= 4:  # 16 of them do not fit at once
            yield Row("step", model, "l4", 1, engine, n, half_way, 0, float(row["tpot_p50"]), INFERENCE_BENCH)
        if row["regime"] == "long" and n == 1:
            yield Row("prefill", model, "l4", 1, engine, 1, prompt, 0, float(row["ttft_p95"]), INFERENCE_BENCH)


ON_SPLITWISE = {"llama2-70b": "meta-llama/Llama-2-70b", "bloom-176b": "bigscience/bloom"}


def _splitwise(table: Table) -> Iterator[Row]:
    """Prompts, and steps while 128 tokens were written after them."""
    for row in table:
        n, prompt, n_gpus = int(row["batch_size"]), int(row["prompt_size"]), int(row["tp"])
        if row["hardware"].endswith("pcap") or (n == 64 and n_gpus == 2):
            continue
        model, gpu = ON_SPLITWISE[row["model"]], row["hardware"].removesuffix("-80gb")
        step, prefill = float(row["token_time_ms_median"]) / 1e3, float(row["prompt_time_ms_median"]) / 1e3
        yield Row("step", model, gpu, n_gpus, "splitwise", n, prompt + 64, 0, step, SPLITWISE)
        yield Row("prefill", model, gpu, n_gpus, "splitwise", n, prompt, 0, prefill, SPLITWISE)


ON_VIDUR = {
    "microsoft/phi-2": "microsoft/phi-2",
    "meta-llama/Llama-2-7b-hf": "meta-llama/Llama-2-7b",
    "internlm/internlm-20b": "internlm/internlm-20b",
    "codellama/CodeLlama-34b-Instruct-hf": "codellama/CodeLlama-34b",
    "meta-llama/Llama-2-70b-hf": "meta-llama/Llama-2-70b",
    "Qwen/Qwen-72B": "Qwen/Qwen-72B",
    "meta-llama/Meta-Llama-3-8B": "meta-llama/Llama-3.1-8B-Instruct",  # the same shape
    "meta-llama/Meta-Llama-3-70B": "meta-llama/Llama-3.1-70B-Instruct",
}


COUNTS = (1, 8, 64, 256, 1024, 4096)  # of its 22 counts of tokens


def _vidur(table: Table) -> Iterator[Row]:
    for row in table:
        if int(row["num_tokens"]) not in COUNTS:
            continue
        seconds = float(row["linear_ms_all_layers_excl_attention_allreduce"]) / 1e3
        yield Row("operators", ON_VIDUR[row["model"]], row["gpu"], int(row["tp"]), "none", int(row["num_tokens"]), 0, 0, seconds, VIDUR)
