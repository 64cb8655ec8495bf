"""Which profiles ship, and the TOML of one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from bestserve.profiles import Engine
from constants import GIB, engine_of, kv_bytes
from lengths import Sourced
from measured import GPUSTACK, INFERENCE_BENCH, QWEN25_SPEED, QWEN_SPEED, SPLITWISE, VIDUR
from quality import Score
from roofline import Roofline
from shapes import A100, H100, H200, L4, LADDERS, Gpu, Model

FAMILIES = {
    A100: ("qwen3", "qwen2.5", "llama3", "opt"),
    H100: ("qwen3", "qwen2.5", "llama3"),
    H200: ("qwen3",),
    L4: ("qwen3", "qwen2.5", "llama3"),
}
ROOMY = 16_384  # tokens of context that must fit before a model is put on so few GPUs
SGLANG = "sglang 0.5.23, sglang/srt/arg_groups/memory_hook.py"
STEPS, LENGTHS = "steps", "lengths"  # names in a profile's table of references
SEEN = {  # chip -> what was measured on it
    "a100": (QWEN25_SPEED, GPUSTACK, SPLITWISE, VIDUR),
    "h100": (GPUSTACK, SPLITWISE, VIDUR),
    "l4": (INFERENCE_BENCH,),
}


@dataclass(frozen=True, slots=True)
class Believed:
    """What the formula says of one backend, and how far to trust it."""

    model: Model
    gpu: Gpu
    n_gpus: int
    engine: Engine
    measured: bool  # whether steps of this model on this GPU under SGLang are among the rows
    step_error: float
    prefill_error: float

    @property
    def name(self) -> str:
        return f"{self.model.family}-{self.model.size}-{self.gpu.name}" + (f"-tp{self.n_gpus}" if self.n_gpus > 1 else "")

    @property
    def seen(self) -> str:
        return "; ".join((*SEEN[self.gpu.chip], f"SGLang's own part: {QWEN_SPEED}"))


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors, root mean square over rows."""

    fitted: Mapping[str, float]  # "model on gpu" -> of its own steps, where they were in the fit
    step: Mapping[str, float]  # GPU -> of steps left out by model; for a GPU that nobody measured, by GPU
    prefill: float  # of prefills left out by model


def believe(constants: Mapping[str, float], slower: Mapping[str, float], errors: Errors, overhead_s: float) -> Iterator[Believed]:
    """Every backend that ships: each family's models on each GPU, on the fewest GPUs that leave room for context."""
    roofline = Roofline(constants)
    for gpu, families in FAMILIES.items():
        for model in LADDERS:
            if model.family in families and (found := smallest(roofline, model, gpu, slower)) is not None:
                n_gpus, engine = found
                key = f"{model.hub} on {gpu.name}"
                measured = key in slower and n_gpus == 1
                error = errors.fitted[key] if measured else max(errors.fitted.get(key, 0.0), errors.step[gpu.name])
                yield Believed(model, gpu, n_gpus, replace(engine, overhead_s=overhead_s), measured, error, errors.prefill)


def smallest(roofline: Roofline, model: Model, gpu: Gpu, slower: Mapping[str, float]) -> tuple[int, Engine] | None:
    for n_gpus in (1, 2, 4) if gpu.link_bytes_per_s else (1,):
        factor = slower.get(f"{model.hub} on {gpu.name}", 1.0) if n_gpus == 1 else 1.0
        engine = engine_of(roofline, model, gpu, n_gpus, slower=factor)
        if engine is not None and engine.kv_tokens >= min(ROOMY, model.context):
            return n_gpus, engine
    return None


def toml(
    believed: Believed,
    quality: Mapping[str, Score],
    lengths: Mapping[str, Sourced],
    thinking: Mapping[str, Score],
    lengths_thinking: Mapping[str, Sourced],
) -> str:
    usual = lengths["code"].source  # of all tasks but summaries
    sections = [
        [*head(believed)],
        ["[references]", f'{STEPS} = "{believed.seen}"', f'{LENGTHS} = "{usual}"'],
        ["[engine]", *engine_lines(believed)],
        ["[quality]", *score_lines(quality)],
        ["[lengths]", *length_lines(lengths, usual)],
        ["[quality_thinking]", *score_lines(thinking)],
        ["[lengths_thinking]", *length_lines(lengths_thinking, usual)],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if len(lines) > 1) + "\n"


def head(b: Believed) -> Iterator[str]:
    yield "# Written by bench/profiles/derive.py from published measurements; docs/profiles.md tells how. Not measured by us."
    yield "schema = 1"
    yield f'name = "{b.name}"'
    yield f'model = "{b.model.hub}"'
    yield number("params_b", b.model.params_b, f"model card of {b.model.hub}", "published")
    yield f'gpu = "{b.gpu.label}"'
    yield number("n_gpus", b.n_gpus, "the fewest on which it leaves room for context", "assumed")
    price = b.gpu.usd_per_hour * b.n_gpus
    yield number("usd_per_hour", price, f"a round figure for {b.n_gpus} rented; set your own", "assumed")
    yield f"capabilities = {['json'] if b.model.family == 'opt' else ['tools', 'json']}".replace("'", '"')


def engine_lines(b: Believed) -> Iterator[str]:
    e, config = b.engine, f"{b.model.hub}/config.json of the published weights"
    how = "fitted" if b.measured else "interpolated"
    memory = GIB * b.n_gpus / kv_bytes(b.model, b.gpu, b.n_gpus)
    yield number("prefill_tokens_per_s", e.prefill_tokens_per_s, STEPS, "interpolated", b.prefill_error)
    yield number("prefill_fixed_s", e.prefill_fixed_s, STEPS, "interpolated", 1.0)
    yield number("step_fixed_s", e.step_fixed_s, STEPS, how, b.step_error)
    yield number("step_per_seq_s", e.step_per_seq_s, STEPS, "interpolated", max(0.5, b.step_error))
    yield number("step_per_kv_token_s", e.step_per_kv_token_s, STEPS, how, b.step_error)
    yield number("max_running", e.max_running, f"start with --max-running-requests {e.max_running}: {SGLANG}", "assumed")
    share = "; start with --mem-fraction-static 0.85" if b.gpu is L4 else ""
    yield number("kv_tokens", e.kv_tokens, f"{SGLANG}, and {config}{share}", "interpolated", memory)
    if e.context == b.model.context:
        yield number("context", e.context, f"{config}, max_position_embeddings", "published")
    else:
        yield number("context", e.context, f"{config}, max_position_embeddings; memory", "interpolated", memory)
    yield number("prefill_batch_tokens", e.prefill_batch_tokens, f"{SGLANG}, chunked_prefill_size by memory", "published")
    light = f"{GPUSTACK}, qwen3-8b/h100-latency.md, SGLang: first tokens with four at once"
    yield number("overhead_s", e.overhead_s, light, "fitted" if b.name == "qwen3-8b-h100" else "interpolated", 0.5)
    yield number("prefill_cached_cost", 0, "its keys and values are there; what is left is a search in a tree", "assumed")


def score_lines(scores: Mapping[str, Score]) -> Iterable[str]:
    return (number(task, round(s.value, 4), s.source, s.how, s.error) for task, s in scores.items())


def length_lines(lengths: Mapping[str, Sourced], usual: str) -> Iterator[str]:
    for task, each in lengths.items():
        source = LENGTHS if each.source == usual else each.source
        shown = f"median = {short(each.answers.median, 3)}, sigma = {short(each.answers.sigma, 3)}"
        yield f'{task} = {{ {shown}, source = "{source}", how = "{each.how}" }}'


def number(key: str, value: float, source: str, how: str, error: float | None = None) -> str:
    shown = str(value) if isinstance(value, int) else short(value, 4)
    tail = "" if error is None else f", error = {error:.2f}"
    return f'{key} = {{ value = {shown}, source = "{source}", how = "{how}"{tail} }}'


def short(value: float, digits: int) -> str:
    return repr(float(f"{value:.{digits}g}"))
