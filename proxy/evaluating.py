"""`bestserve evaluate`: policies on workloads over seeds, beside what no policy can beat; as a table, as JSON, as a page."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from bestserve.policy.workload import Demand, Teller

from .config import environment
from .contest import Match, Played, contest, together
from .entrants import BadPolicy, Tuned, entrant, static_all
from .fleet_file import BadConfig, Fleet, read
from .mishaps import BadMishap, mishaps_of
from .simulating import bar, demand_of, needs_train, told_of_skipped
from .workloads import BadWorkload, Course, drawn, workload_of

WIDTH = 160
FIRST_SEED = 1000
"""Of an evaluation; tuning and training begin at 0."""


class BadTuned(ValueError):
    """A file of tuned parameters that cannot be used."""


def run(*, as_json: bool, report: Path | None, **asked: Any) -> int:
    """Play, and print what came of it. Returns the exit code."""
    try:
        played = evaluated(report=report, **asked)
    except (BadConfig, BadWorkload, BadPolicy, BadTuned, BadMishap) as error:
        click.echo(str(error), err=True)
        return 1
    said = together(played)
    if report is not None:
        from .report import write

        write(report, said, played, f"{asked['path'].name}: {asked['seeds']} seeds")
    if as_json:
        click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(said)
    return 0


def evaluated(
    *,
    path: Path,
    workloads: Sequence[str],
    policies: Sequence[str],
    task_mix: str | None,
    teller: Teller,
    seeds: int,
    first_seed: int,
    jobs: int | None,
    tuned: Path | None,
    wrong: float = 1.0,
    troubles: Sequence[str] = (),
    report: Path | None = None,
    **course: Any,
) -> list[Played]:
    """Every match, played. Raises BadConfig, BadWorkload, BadPolicy, BadTuned, BadMishap."""
    needs_train("evaluating")
    if report is not None and find_spec("matplotlib") is None:
        raise click.ClickException("--report needs matplotlib, which is not installed: pip install 'bestserve[report]'")
    fleet, found = read(environment(), path), read_tuned(tuned)
    names = named(policies, fleet)
    for name in names:
        entrant(name, fleet.places, found)
    runs = tuple(range(first_seed, first_seed + seeds))
    demand = demand_of(fleet, task_mix, teller)
    courses, mishaps = courses_of(demand, workloads, course), mishaps_of(wrong, troubles, fleet.places)
    matches = [
        Match(fleet, demand, each, seed, name, found.get(name or ""), mishaps)
        for each in courses
        for seed in runs
        for name in (None, *names)
    ]
    return played_under_bar(matches, jobs)


def courses_of(demand: Demand, workloads: Sequence[str], course: dict[str, Any]) -> list[Course]:
    """Each workload, tried before anything is played. Raises BadWorkload."""
    courses = [Course(name, **course) for name in dict.fromkeys(workloads)]
    for each in courses:
        workload = workload_of(each)
        told_of_skipped(workload.skipped)
        drawn(workload, each, demand, 0)
    return courses


def played_under_bar(matches: Sequence[Match], jobs: int | None) -> list[Played]:
    """Play them with as many processes as there are cores, unless told."""
    with bar() as progress:
        task = progress.add_task("matches", total=len(matches))
        return contest(matches, jobs or os.cpu_count() or 1, lambda: progress.advance(task))


def named(policies: Sequence[str], fleet: Fleet) -> list[str]:
    """The policies asked for; `static-all` alone is every way of static serving."""
    every = [name for policy in policies for name in (static_all(fleet.places) if policy == "static-all" else [policy])]
    return list(dict.fromkeys(every))


def read_tuned(path: Path | None) -> Tuned:
    """What `bestserve tune` wrote. Raises BadTuned."""
    if path is None:
        return {}
    try:
        found = orjson.loads(path.read_bytes())
        return {str(name): tuple(float(value) for value in one["parameters"]) for name, one in found["policies"].items()}
    except OSError as error:
        raise BadTuned(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadTuned(f"{path}: is not what `bestserve tune --out` writes") from error


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("reward", "reward", "{:.4f}"),
    ("of bound", "of_bound", "{:.1%}"),
    ("quality", "quality", "{:.4f}"),
    ("on time", "on_time", "{:.1%}"),
    ("shed", "shed", "{:.1%}"),
    ("≥ 96 %", "windows_96", "{:.0%}"),
    ("≥ 98 %", "windows_98", "{:.0%}"),
    ("ttft p50", "ttft_p50_s", "{:.2f}"),
    ("p99", "ttft_p99_s", "{:.2f}"),
    ("latency p50", "latency_p50_s", "{:.1f}"),
    ("p99", "latency_p99_s", "{:.1f}"),
)


def _show(said: dict[str, Any]) -> None:
    console = Console(emoji=False, markup=False, width=None if sys.stdout.isatty() else WIDTH)
    for workload in said["workloads"]:
        bounds = workload["bounds"]
        title = (
            f"{workload['workload']}: {workload['rate']:.1f} requests/s; bounds {bounds['clairvoyant']:.4f}, fluid {bounds['fluid']:.4f}"
        )
        table = Table(box=box.SIMPLE, title=title, title_justify="left")
        table.add_column("policy", no_wrap=True)
        for label, _, _ in COLUMNS:
            table.add_column(label, justify="right", no_wrap=True)
        for line in sorted(
            (line for line in said["results"] if line["workload"] == workload["workload"]), key=lambda line: -line["reward"]
        ):
            table.add_row(line["policy"], *(_cell(line, key, form) for _, key, form in COLUMNS))
        console.print(table)
    console.print(
        "Means over seeds, ± half of the 95 % interval; windows of 10 s by share of peak quality; times in seconds.", highlight=False
    )


def _cell(line: dict[str, Any], key: str, form: str) -> str:
    """A mean; the two that policies are compared by with their intervals."""
    interval = line["interval95"][key] if key in ("reward", "quality") else None
    return form.format(line[key]) + (f" ±{(interval[1] - interval[0]) / 2:.4f}" if interval else "")
