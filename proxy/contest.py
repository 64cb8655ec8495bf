"""Policies x workloads x seeds, each match in a process of its own, and what came of them together.

Every policy meets the same requests: a workload and a seed make one trace. Its bound is worked out beside them, as one more match.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, fields
from functools import cache
from multiprocessing import get_context
from statistics import fmean, stdev
from typing import Any

import numpy as np

from bestserve.policy.facts import Floats
from bestserve.policy.scene import Places
from bestserve.policy.simulate import DONE, Results, Trace
from bestserve.policy.summary import WINDOW_S, Summary, name_of, peak_quality, summary, window_quality
from bestserve.policy.workload import Demand, poisson

from .entrants import Entrant, entrant
from .fleet_file import Fleet
from .mishaps import Mishaps
from .workloads import Course, Workload, drawn, workload_of

POINTS = 400
"""Requests of one match whose predicted and measured times are kept."""


@dataclass(frozen=True, slots=True)
class Match:
    """One policy on one trace; with no policy, its bounds."""

    fleet: Fleet
    demand: Demand
    course: Course
    seed: int
    policy: str | None
    parameters: tuple[float, ...] | None = None
    mishaps: Mishaps = field(default_factory=Mishaps)


@dataclass(frozen=True, slots=True)
class Curves:
    """What is drawn of one match."""

    windows: Floats  # quality served / peak, by window
    actions: dict[str, Floats]  # requests a second that took each action, by window
    ttft: Floats  # (n, 2): predicted and measured, s
    tpot: Floats


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a match."""

    match: Match
    rate: float  # requests a second
    summary: Summary | None = None
    curves: Curves | None = None
    bounds: dict[str, float] = field(default_factory=dict)


def contest(matches: Sequence[Match], jobs: int, told: Callable[[], None]) -> list[Played]:
    """Play them all, `jobs` at a time. `told` hears of each that is over. In the order of `matches`."""
    if jobs == 1 or len(matches) == 1:
        return list(_told(map(play, matches), told))
    compile_once(matches[0])
    played = list[Played | None]([None] * len(matches))
    with ProcessPoolExecutor(min(jobs, len(matches)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(play, match): i for i, match in enumerate(matches)}
        try:
            for future in as_completed(futures):
                played[futures[future]] = future.result()
                told()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [each for each in played if each is not None]


def compile_once(match: Match) -> None:
    """So that the processes find the compiled functions on the disk, and do not all compile them."""
    from bestserve.policy.learn.run import run

    who = entrant("random", match.fleet.places)
    run(who.places, drawn(Workload("one", poisson(1.0)), Course("one", 10.0), match.demand, 0), who.mind)


def play(match: Match) -> Played:
    """One match, here."""
    trace = _trace(match.course, match.demand, match.seed)
    rate, places = len(trace.at) / max(float(trace.at[-1]), 1e-9), match.mishaps.befall(match.fleet.places, match.seed)
    if match.policy is None:
        from bestserve.policy.learn.bounds import bounds

        found = bounds(places, trace)
        return Played(match, rate, bounds={"fluid": found.fluid, "clairvoyant": found.clairvoyant})
    from bestserve.policy.learn.run import run

    who = entrant(match.policy, places, {match.policy: match.parameters} if match.parameters else None)
    results = run(who.places, trace, who.mind, seed=match.seed)
    return Played(match, rate, summary(results, trace, places, who.actions), _curves(places, who, trace, results))


@cache
def _workload(course: Course) -> Workload:
    return workload_of(course)


@cache
def _trace(course: Course, demand: Demand, seed: int) -> Trace:
    return drawn(_workload(course), course, demand, seed)


def _curves(places: Places, who: Entrant, trace: Trace, results: Results) -> Curves:
    served = np.where(results.on_time, results.quality, 0.0)
    window, action = (np.asarray(trace.at) // WINDOW_S).astype(np.int64), np.asarray(results.action)
    n = int(window[-1]) + 1
    used = {a: np.bincount(window[action == a], minlength=n) / WINDOW_S for a in np.unique(action)}
    done = np.flatnonzero((np.asarray(results.ending) == DONE) & (np.asarray(results.tokens) > 1))
    some = done[np.linspace(0, len(done) - 1, min(len(done), POINTS)).astype(np.int64)] if len(done) else done
    ttft, total, tokens = (np.asarray(column)[some] for column in (results.ttft_s, results.total_s, results.tokens))
    return Curves(
        windows=window_quality(trace, served, peak_quality(trace, places)),
        actions={name_of(who.actions[a]): share for a, share in used.items()},
        ttft=np.stack((np.asarray(results.predicted_ttft)[some], ttft), axis=1),
        tpot=np.stack((np.asarray(results.predicted_tpot)[some], (total - ttft) / (tokens - 1)), axis=1),
    )


def _told(played: Iterable[Played], told: Callable[[], None]) -> Iterator[Played]:
    for each in played:
        told()
        yield each


# --- together ---------------------------------------------------------------------------------------------------------

FIGURES = tuple(f.name for f in fields(Summary) if f.name not in ("requests", "actions"))


def mean_of(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The mean, and its 95 % interval by Student's t; None for a single value. Values that are not there (nan) are left out."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return math.nan, None
    mean = fmean(there)
    if len(there) < 2:
        return mean, None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(there) - 1)) * stdev(there) / math.sqrt(len(there))
    return mean, (mean - half, mean + half)


def together(played: Sequence[Played]) -> dict[str, Any]:
    """For JSON: `workloads` with their bounds, and `results` for each workload and policy: means over seeds, and intervals."""
    names = dict.fromkeys(each.match.course.workload for each in played)
    return {"workloads": [_workload_line(name, played) for name in names], "results": list(_lines(played))}


def _workload_line(name: str, played: Sequence[Played]) -> dict[str, Any]:
    mine = [each for each in played if each.match.course.workload == name]
    bound = {kind: mean_of([each.bounds[kind] for each in mine if each.bounds]) for kind in ("fluid", "clairvoyant")}
    return {
        "workload": name,
        "rate": fmean(each.rate for each in mine),
        "bounds": {kind: mean for kind, (mean, _) in bound.items()},
        "interval95": {kind: interval for kind, (_, interval) in bound.items()},
    }


def _lines(played: Sequence[Played]) -> Iterator[dict[str, Any]]:
    bound = {(each.match.course.workload, each.match.seed): each.bounds["clairvoyant"] for each in played if each.bounds}
    groups = dict[tuple[str, str], list[tuple[Summary, float]]]()
    for each in played:
        if each.summary is not None and each.match.policy is not None:
            key = each.match.course.workload, each.match.seed
            groups.setdefault((key[0], each.match.policy), []).append((each.summary, each.summary.reward / bound[key]))
    for (workload, policy), found in groups.items():
        columns = {name: [getattr(one, name) for one, _ in found] for name in FIGURES} | {"of_bound": [share for _, share in found]}
        figures = {name: mean_of(values) for name, values in columns.items()}
        actions = dict.fromkeys(action for one, _ in found for action in one.actions)
        yield {
            "workload": workload,
            "policy": policy,
            "seeds": len(found),
            "requests": sum(one.requests for one, _ in found),
            **{name: mean for name, (mean, _) in figures.items()},
            "actions": {action: fmean(one.actions.get(action, 0.0) for one, _ in found) for action in actions},
            "interval95": {name: interval for name, (_, interval) in figures.items()},
        }
