"""`bestserve simulate`: one policy on one workload in virtual time, and what came of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from bestserve.policy.simulate import Results, Setting, Trace
from bestserve.policy.summary import Summary, summary
from bestserve.policy.workload import Demand, Teller

from .config import environment
from .entrants import BadPolicy, Entrant, entrant
from .fleet_file import BadConfig, Fleet, read
from .mishaps import BadMishap, mishaps_of
from .weights import confusion
from .workloads import BadWorkload, Course, drawn, with_mix, workload_of

LONGEST = Demand().longest


@dataclass(frozen=True, slots=True)
class Kept:
    """A log to be written."""

    folder: Path
    feedback: float  # share of answers that are scored


def run(
    *,
    path: Path,
    workload: str,
    policy: str,
    task_mix: str | None,
    teller: Teller,
    seed: int,
    log: Path | None,
    feedback: float,
    explore: float,
    wrong: float,
    troubles: Sequence[str],
    as_json: bool,
    **course: Any,
) -> int:
    """Simulate, and print what came of it. Returns the exit code."""
    kept = None if log is None else Kept(log, feedback)
    try:
        one = Course(workload, **course)
        said = simulated(
            path, one, policy, seed, task_mix=task_mix, teller=teller, wrong=wrong, troubles=troubles, explore=explore, kept=kept
        )
    except (BadConfig, BadWorkload, BadPolicy, BadMishap) as error:
        click.echo(str(error), err=True)
        return 1
    if as_json:
        click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(said)
    return 0


def simulated(
    path: Path,
    course: Course,
    policy: str,
    seed: int,
    *,
    task_mix: str | None = None,
    teller: Teller = "modelled",
    explore: float = 0.0,
    kept: Kept | None = None,
    wrong: float = 1.0,
    troubles: Sequence[str] = (),
) -> dict[str, Any]:
    """What is printed. Raises BadConfig, BadWorkload, BadPolicy, BadMishap."""
    needs_train("simulating")
    from bestserve.policy.learn.run import run as play

    fleet = read(environment(), path)
    places = mishaps_of(wrong, troubles, fleet.places).befall(fleet.places, seed)
    who, demand = entrant(policy, places), demand_of(fleet, task_mix, teller)
    workload = workload_of(course)
    skipped = told_of_skipped(workload.skipped)
    trace = drawn(workload, course, demand, seed)
    setting = Setting(explore=explore)
    with bar() as progress:
        task = progress.add_task("compiling, the first time", total=len(trace.at))
        if kept is None:
            results = play(who.places, trace, who.mind, seed=seed, setting=setting, told=_advance(progress, task))
        else:
            results = _logged(who, trace, seed, setting, kept, _advance(progress, task))
    figures: Summary = summary(results, trace, places, who.actions)
    seconds = float(trace.at[-1])
    return {
        "workload": course.workload,
        "policy": policy,
        "seed": seed,
        "seconds": seconds,
        "rate": len(trace.at) / max(seconds, 1e-9),
        "skipped_rows": skipped,
        **figures.plain(),
    }


def _logged(who: Entrant, trace: Trace, seed: int, setting: Setting, kept: Kept, told: Callable[[int], None]) -> Results:
    """Play, and write what a proxy would have logged, as if it had ended now."""
    from bestserve.policy.learn.recording import recorded

    from .simulated_log import write

    played = recorded(who.places, trace, who.mind, seed=seed, setting=setting)
    begun = time.time() - float(trace.at[-1]) - LASTS_S
    write(kept.folder, played, wall=begun, policy=who.name, name=f"s{seed}", feedback=kept.feedback, dice=np.random.default_rng(seed))
    told(len(trace.at))
    return played.results


LASTS_S = 120.0
"""So long after the last arrival, every answer has ended."""


def demand_of(fleet: Fleet, task_mix: str | None = None, teller: Teller = "modelled") -> Demand:
    """Requests that the fleet can take: neither prompt nor answer is longer than half of the longest context. Raises BadWorkload."""
    context = max(backend.profile.engine.context for backend in fleet.places.backends)
    known = confusion() if teller in ("classified", "hard") else None
    demand = Demand(slos=((1.0, fleet.slo),), longest=min(LONGEST, context // 2), teller=teller, confusion=known)
    return with_mix(demand, task_mix)


def needs_train(what: str) -> None:
    """Raise ClickException where the compiler of simulations is not installed."""
    if find_spec("numba") is None:
        raise click.ClickException(f"{what} needs numba, which is not installed: pip install 'bestserve[train]'")


def told_of_skipped(skipped: list[str]) -> int:
    """Say which rows were left out. Returns how many."""
    for why in skipped[:10]:
        click.echo(f"left out: {why}", err=True)
    if len(skipped) > 10:
        click.echo(f"left out: {len(skipped) - 10} more", err=True)
    return len(skipped)


def bar() -> Progress:
    """A progress bar on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _advance(progress: Progress, task: Any) -> Callable[[int], None]:
    return lambda n: progress.update(task, completed=n, description="requests")


ROWS: tuple[tuple[str, str, str], ...] = (
    ("requests", "requests", "{:,.0f}"),
    ("requests a second", "rate", "{:,.2f}"),
    ("reward, mean", "reward", "{:.4f}"),
    ("quality served on time, mean", "quality", "{:.4f}"),
    ("on time", "on_time", "{:.2%}"),
    ("shed", "shed", "{:.2%}"),
    ("10 s windows at 96 % of peak", "windows_96", "{:.1%}"),
    ("10 s windows at 98 % of peak", "windows_98", "{:.1%}"),
    ("first token, median, s", "ttft_p50_s", "{:.3f}"),
    ("first token, 99 %, s", "ttft_p99_s", "{:.3f}"),
    ("whole answer, median, s", "latency_p50_s", "{:.2f}"),
    ("whole answer, 99 %, s", "latency_p99_s", "{:.2f}"),
)


def _show(said: dict[str, Any]) -> None:
    table = Table(box=box.SIMPLE, title=f"{said['policy']} on {said['workload']}, seed {said['seed']}", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for label, key, form in ROWS:
        table.add_row(label, form.format(said[key]))
    table.add_section()
    for action, share in sorted(said["actions"].items(), key=lambda item: -item[1]):
        table.add_row(action, f"{share:.1%}")
    Console(emoji=False).print(table)
