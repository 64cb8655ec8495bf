"""`bestserve profiles`: which profiles ship, what they say, and where each number comes from."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import click
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from bestserve.profiles import Engine, Profile, load, names
from bestserve.profiles.schema import HOWS, TASKS

CONTEXT = 500  # tokens of each sequence in the steps that are shown
WIDTH = 160  # columns, where no terminal says


def run(*, as_json: bool) -> None:
    """Print one line for each profile that ships: ladder by ladder, from the smallest model up."""
    profiles = sorted(map(load, names()), key=lambda p: (p.name.partition("-")[0], p.gpu, p.params_b))
    lines = [summary(profile) for profile in profiles]
    if as_json:
        _print_json(lines)
        return
    table = Table(box=box.SIMPLE)
    for column in ("profile", "model", "GPU"):
        table.add_column(column, no_wrap=True)
    for column in ("prefill tok/s", "step of 1", "step of 64", "context", "quality", *(how[0] for how in HOWS)):
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*_cells(line))
    console = _console()
    console.print(table)
    console.print(f"Steps in ms, each sequence with {CONTEXT} tokens of context; quality is the mean over the tasks.", highlight=False)
    console.print(f"How many numbers are {', '.join(f'{how[0]} {how}' for how in HOWS)}; `bestserve profiles show NAME` tells each.")


def show(name: str, *, as_json: bool) -> None:
    """Print every number of one profile with its source. Raises BadProfile."""
    profile = load(name)
    numbers = dict(_numbers(profile))
    if as_json:
        _print_json({**summary(profile), "numbers": numbers})
        return
    title = f"{profile.name}: {profile.model} on {_gpus(profile.n_gpus, profile.gpu)}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in ("number", "value", "how", "error", "source"):
        table.add_column(column, overflow="fold")
    for path, number in numbers.items():
        error = "" if number["error"] is None else f"{number['error']:.0%}"
        table.add_row(path, _said(number["value"]), number["how"] or "", error, number["source"] or "")
    _console().print(table)


def summary(profile: Profile) -> dict[str, Any]:
    """What a list says of one profile. Times in seconds."""
    engine, counted = profile.engine, Counter(source.how for source in profile.sources.values())
    return {
        "name": profile.name,
        "model": profile.model,
        "gpu": profile.gpu,
        "n_gpus": profile.n_gpus,
        "usd_per_hour": profile.usd_per_hour,
        "prefill_tokens_per_s": engine.prefill_tokens_per_s,
        "step_1_s": engine.step_s(1, CONTEXT),
        "step_64_s": engine.step_s(64, 64 * CONTEXT),
        "context": engine.context,
        "quality": sum(profile.quality.values()) / len(TASKS),
        "sources": {how: counted[how] for how in HOWS},
    }


def _cells(line: dict[str, Any]) -> Iterator[str]:
    yield from (line["name"], line["model"].rpartition("/")[2], _gpus(line["n_gpus"], line["gpu"]))
    yield f"{line['prefill_tokens_per_s']:,.0f}"
    yield from (f"{line[key] * 1e3:.1f}" for key in ("step_1_s", "step_64_s"))
    yield from (f"{line['context']:,}", f"{line['quality']:.2f}")
    yield from (str(count or "") for count in line["sources"].values())


def _numbers(profile: Profile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number by its dotted path, with its source."""
    for path, value in _values(profile):
        source = profile.sources.get(path)
        yield path, {"value": value, **(asdict(source) if source else {"source": None, "how": None, "error": None})}


def _values(profile: Profile) -> Iterator[tuple[str, Any]]:
    yield from (("params_b", profile.params_b), ("n_gpus", profile.n_gpus), ("usd_per_hour", profile.usd_per_hour))
    yield from ((f"engine.{f.name}", getattr(profile.engine, f.name)) for f in fields(Engine))
    for table in ("quality", "quality_thinking"):
        yield from ((f"{table}.{task}", value) for task, value in getattr(profile, table).items())
    for table in ("lengths", "lengths_thinking"):
        yield from ((f"{table}.{task}", asdict(value)) for task, value in getattr(profile, table).items())
    for table, shares in asdict(profile.budget_effect).items():
        yield from ((f"budget_effect.{table}.{task}", share) for task, share in shares.items())


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:g}" for name, number in value.items())
    return "–" if value is None else f"{value:,.10g}"


def _gpus(n: int, gpu: str) -> str:
    return gpu if n == 1 else f"{n} × {gpu}"


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _print_json(said: Any) -> None:
    click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
