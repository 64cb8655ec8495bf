"""`bestserve tune`: the parameters of each reference policy that earn most on some workloads, by a grid and finer ones around its best.

The result is a file that `bestserve evaluate --tuned` reads. Tune on other seeds than are evaluated: by default they are.
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from bestserve.policy.heuristics import RULES
from bestserve.policy.workload import Demand, Teller

from .config import environment
from .config_words import near
from .contest import Match
from .entrants import BadPolicy
from .evaluating import WIDTH, courses_of, played_under_bar
from .fleet_file import BadConfig, Fleet, read
from .mishaps import BadMishap, Mishaps, mishaps_of
from .simulating import demand_of, needs_train
from .workloads import BadWorkload, Course

Point = tuple[float, ...]

GRIDS: Mapping[str, tuple[Point, ...]] = {
    "deadline-greedy": ((0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95),),
    "weighted-score": ((0.6,), (0.05, 0.15, 0.3, 0.6, 1.2), (0.0, 0.1, 0.3)),
    "bid-price": ((0.02, 0.05, 0.1, 0.2), (0.5, 1.0, 1.5, 2.5, 4.0)),
}
"""Values of each parameter that are tried first. Only the ratios of weighted-score's weights matter, so its first one stands."""

CLOSER = 0.5
"""Each round looks so much closer around the best."""


def run(
    *,
    path: Path,
    workloads: Sequence[str],
    policies: Sequence[str],
    task_mix: str | None,
    teller: Teller,
    seeds: int,
    first_seed: int,
    rounds: int,
    jobs: int | None,
    out: Path | None,
    wrong: float,
    troubles: Sequence[str],
    as_json: bool,
    **course: Any,
) -> int:
    """Tune, and write what was found. Returns the exit code."""
    needs_train("tuning")
    try:
        wanted = _wanted(policies)
        fleet = read(environment(), path)
        demand = demand_of(fleet, task_mix, teller)
        courses = courses_of(demand, workloads, course)
        mishaps = mishaps_of(wrong, troubles, fleet.places)
        arena = Arena(fleet, demand, courses, range(first_seed, first_seed + seeds), jobs, mishaps)
        found = {policy: tuned(policy, arena, rounds) for policy in wanted}
    except (BadConfig, BadWorkload, BadPolicy, BadMishap) as error:
        click.echo(str(error), err=True)
        return 1
    said = {"fleet": path.name, "workloads": list(workloads), "seeds": [first_seed, first_seed + seeds - 1], "policies": found}
    text = orjson.dumps(said, option=orjson.OPT_INDENT_2).decode()
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
    else:
        _show(found)
    return 0


class Arena:
    """Where parameters are tried."""

    def __init__(
        self, fleet: Fleet, demand: Demand, courses: Sequence[Course], seeds: Sequence[int], jobs: int | None, mishaps: Mishaps
    ) -> None:
        self.fleet, self.demand, self.courses, self.seeds, self.jobs, self.mishaps = fleet, demand, courses, seeds, jobs, mishaps

    def rewards(self, policy: str, points: Sequence[Point]) -> list[float]:
        """The mean reward of each point over workloads and seeds, each weighing the same."""
        pairs = list(product(self.courses, self.seeds))
        matches = [Match(self.fleet, self.demand, course, seed, policy, point, self.mishaps) for point in points for course, seed in pairs]
        played = [each.summary.reward for each in played_under_bar(matches, self.jobs) if each.summary is not None]
        return [fmean(played[i : i + len(pairs)]) for i in range(0, len(played), len(pairs))]


def tuned(policy: str, arena: Any, rounds: int) -> dict[str, Any]:
    """The best parameters, their reward, and that of the usual ones."""
    grid = GRIDS[policy]
    usual = tuple(map(float, RULES[policy].parameters))
    seen = dict[Point, float]()
    points = [usual, *product(*grid)]
    for turn in range(rounds + 1):
        new = [point for point in dict.fromkeys(points) if point not in seen]
        seen |= dict(zip(new, arena.rewards(policy, new), strict=True)) if new else {}
        points = _around(max(seen, key=lambda point: seen[point]), grid, CLOSER ** (turn + 1))
    best = max(seen, key=lambda point: seen[point])
    return {"parameters": list(best), "reward": seen[best], "usual": list(usual), "usual_reward": seen[usual], "tried": len(seen)}


def _around(best: Point, grid: tuple[Point, ...], closeness: float) -> list[Point]:
    """Points beside the best one, one parameter at a time: a share `closeness` of the grid's mean step away, and never below 0."""
    found = []
    for i, values in enumerate(grid):
        step = (values[-1] - values[0]) / max(len(values) - 1, 1) * closeness
        for moved in (best[i] - step, best[i] + step):
            top = 1.0 if (values[-1] < 1.0) else float("inf")
            found.append((*best[:i], round(min(max(moved, 0.0), top), 6), *best[i + 1 :]))
    return found


def _wanted(policies: Sequence[str]) -> list[str]:
    for policy in policies:
        if policy not in GRIDS:
            raise BadPolicy(f"{policy!r} has nothing to tune; these have: {', '.join(GRIDS)}{near(policy, GRIDS)}")
    return list(dict.fromkeys(policies)) or list(GRIDS)


def _show(found: Mapping[str, Any]) -> None:
    table = Table(box=box.SIMPLE)
    table.add_column("policy", no_wrap=True)
    for column in ("parameters", "reward", "usual parameters", "usual reward", "tried"):
        table.add_column(column, justify="right")
    for policy, one in found.items():
        words = (", ".join(f"{value:g}" for value in one[key]) for key in ("parameters", "usual"))
        best, usual = words
        table.add_row(policy, best, f"{one['reward']:.4f}", usual, f"{one['usual_reward']:.4f}", str(one["tried"]))
    Console(emoji=False, width=None if sys.stdout.isatty() else WIDTH).print(table)
