"""Step times of Qwen3 shapes on a GPU, in one command. **It has never run on a GPU**: only its parts were tried, on a CPU.

    python bench/gpu_profile.py --out DIR                     every model that fits: 0.6B, 1.7B, 8B, 32B
    python bench/gpu_profile.py --out DIR --models 8B         one of them
    python bench/gpu_profile.py --fit DIR/steps.csv --base qwen3-8b-h100 --model Qwen/Qwen3-8B --write my-8b.toml

Timing needs no trained weights, only their shapes. There are two ways, and every row of the CSV says which it is from:

    sglang   where SGLang and this package can be imported: SGLang itself with `--load-format dummy` on a config.json that is written
             here, and `bestserve profile` before it. What serves is what is measured. DIR/MODEL.toml and its .raw.jsonl are the result.
    torch    else, or with `--way torch`: one decode step and one prefill in plain torch on random bf16 weights of the same shapes
             (gpu_torch.py), at batches of 1 to 256 and contexts of 128 to 8,192. No scheduler, no HTTP, no fused kernels: the curve, not
             what a server makes of it. It needs torch and nothing else.

`--fit` makes constants of the torch rows with the same arithmetic that `bestserve profile` uses, and a profile of them; it needs this
package with its extra `profile`, and no GPU.
"""

import argparse
import csv
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "profiles")]

from shapes import MODELS, Model  # noqa: E402

SIZES = ("0.6B", "1.7B", "8B", "32B")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (128, 512, 1024, 2048, 4096, 8192)
SPARE_BYTES = 3 * 2**30  # for activations and what CUDA keeps for itself


@dataclass(frozen=True, slots=True)
class Row:
    """One time, as it was taken."""

    way: str  # "sglang …" or "torch …", with version
    gpu: str
    model: str  # its name on the hub
    kind: str  # step: a decode step; prefill: a prompt, the engine alone; lone: a prompt as a client sees it
    n: int  # sequences
    context: float  # of step: tokens over all of them; else tokens of the prompt
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for steps.csv and the profiles")
    parser.add_argument("--models", default=",".join(SIZES), help=f"sizes, of {', '.join(SIZES)} (default all)")
    parser.add_argument("--way", choices=("sglang", "torch"), help="default: sglang where it can be imported")
    parser.add_argument("--minutes", type=float, default=6.0, help="of `bestserve profile` for each model (default 6)")
    parser.add_argument("--launch", default=f"{sys.executable} -m sglang.launch_server", help="what starts SGLang")
    parser.add_argument("--options", default="", help="more options for SGLang, e.g. '--attention-backend triton'")
    parser.add_argument("--fit", type=Path, help="a steps.csv to make a profile of, instead of measuring")
    parser.add_argument("--model", help="with --fit: whose rows")
    parser.add_argument("--base", help="with --fit: the profile that the rest is taken from")
    parser.add_argument("--write", type=Path, help="with --fit: the profile to write")
    args = parser.parse_args()
    if args.fit is not None:
        print(fitted(read(args.fit), args.model, args.base, args.write))
        return
    if args.out is None:
        parser.error("--out: say where the figures go")
    args.out.mkdir(parents=True, exist_ok=True)
    way = args.way or ("sglang" if find_spec("sglang") and find_spec("bestserve") else "torch")
    print(f"# measuring with {way}; see the head of {Path(__file__).name} for what that means", flush=True)
    for model in wanted(args.models):
        measured = with_sglang(model, args) if way == "sglang" else with_torch(model)
        add(args.out / "steps.csv", measured)


def wanted(sizes: str) -> list[Model]:
    """The shapes of some sizes. Raises SystemExit for one that there is none of."""
    names = {size: f"Qwen/Qwen3-{size}" for size in SIZES}
    if unknown := set(sizes.split(",")) - set(names):
        raise SystemExit(f"--models: {', '.join(sorted(unknown))} is none of {', '.join(SIZES)}")
    return [MODELS[names[size]] for size in sizes.split(",")]


def grid(model: Model, free_bytes: float) -> tuple[list[tuple[int, int]], list[int]]:
    """(sequences, context of each) of the steps, and tokens of the prefills, that fit beside the weights."""
    room = int((free_bytes - model.weight_bytes - SPARE_BYTES) / model.kv_bytes)
    steps = [(n, context) for context in CONTEXTS for n in BATCHES if n * context <= room and context <= model.context]
    return steps, [context for context in CONTEXTS if context <= min(room, model.context)]


def with_torch(model: Model) -> Iterator[Row]:
    """Everything of one model that fits, as it is timed."""
    import gpu_torch

    way, gpu = gpu_torch.told()
    steps, prefills = grid(model, gpu_torch.free_bytes())
    if not steps:
        print(f"# {model.hub} does not fit on {gpu}", flush=True)
        return
    decoder = gpu_torch.Decoder(model)
    for n, context in steps:
        for seconds in decoder.steps_s(n, context):
            yield Row(way, gpu, model.hub, "step", n, n * context, seconds)
    for tokens in prefills:
        for seconds in decoder.prefills_s(tokens):
            yield Row(way, gpu, model.hub, "prefill", 1, tokens, seconds)


def with_sglang(model: Model, args: argparse.Namespace) -> Iterator[Row]:
    """SGLang with dummy weights of one model, profiled: its profile into the folder, and the points that it was fitted to."""
    from gpu_sglang import profiled

    from bestserve.proxy.profiling.points import gather
    from bestserve.proxy.profiling.runs import Raw

    profile = args.out / f"qwen3-{model.size}.toml"
    profiled(model, profile, minutes=args.minutes, launch=args.launch.split(), options=args.options.split())
    said = tomllib.loads(profile.read_text())
    header, runs = Raw(profile.with_suffix(".raw.jsonl")).read()
    way, gpu, points = f"sglang {header.told['version']}, dummy weights", said["gpu"], gather(runs)
    yield from (Row(way, gpu, model.hub, "step", p.n, p.context, p.seconds) for p in points.steps)
    yield from (Row(way, gpu, model.hub, "lone", 1, p.tokens, p.seconds) for p in points.lone)


def add(path: Path, rows: Iterable[Row]) -> None:
    """Append to a CSV as they come; so an interruption loses nothing that was measured."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if is_new:
            writer.writeheader()
        for row in rows:
            writer.writerow({**asdict(row), "seconds": f"{row.seconds:.7f}"})
            file.flush()


def read(path: Path) -> list[Row]:
    """The rows of a CSV that `add` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(one["way"], one["gpu"], one["model"], one["kind"], int(one["n"]), float(one["context"]), float(one["seconds"]))
            for one in csv.DictReader(file)
        ]


def fitted(rows: list[Row], model: str | None, base: str | None, write: Path | None) -> str:
    """The constants of one model's rows, a line each; and with a base and a path, the profile. Raises SystemExit when there are none."""
    from bestserve.profiles import Source, find, load
    from bestserve.proxy.profiling import fit
    from bestserve.proxy.profiling.points import Points, Stall, Steps
    from bestserve.proxy.profiling.write import Facts, Given, text

    mine = [row for row in rows if row.model == model]
    if not mine:
        raise SystemExit(f"--model: {model!r} has no rows; there are {', '.join(sorted({row.model for row in rows}))}")
    points = Points(
        stalls=tuple(
            Stall(i, f"prefill {r.context:.0f}", r.seconds, int(r.context), 0, 0.0) for i, r in enumerate(mine) if r.kind == "prefill"
        ),
        steps=tuple(Steps(i, f"step {r.n}x{r.context:.0f}", r.seconds, r.n, r.context) for i, r in enumerate(mine) if r.kind == "step"),
    )
    estimates = fit.estimate(points, max(CONTEXTS))
    shown = {name: e for name, e in estimates.items() if name != "overhead_s"}  # nothing passes beside a bare engine
    if base is not None and write is not None:
        source = f"bench/gpu_profile.py, {mine[0].way}"
        known = {name: (getattr(load(base).engine, name), load(base).sources[f"engine.{name}"]) for name in _LIMITS}
        found = {name: (e.value, Source(source, "measured", e.error)) for name, e in shown.items()}
        write.write_text(text(Facts(Given(write.stem, mine[0].model, gpu=mine[0].gpu), {**found, **known}, source), find(base)))
    return "\n".join(f"{name} = {e.value:.4g}   # {e.error or 0:.1%}" for name, e in shown.items())


_LIMITS = ("max_running", "kv_tokens", "context", "prefill_batch_tokens")

if __name__ == "__main__":
    main()
