"""Points → the constants of an engine, with their errors. Pure; needs scipy (the extra `profile`).

Each kind of time is linear in the constants that it has not been explained by before, so there are three small fits, one after the
other: the step from Steps; overhead, fixed and per-token prefill from Lone and Stall together (only Lone has the overhead, so the two
tell them apart); the remembered token's share from Remembered. Each is a least-squares fit of relative errors, with constants of at
least 0, and with `soft_l1` so that a stretch in which the machine did something else counts little.

An error is the larger of two: how much the constants move when the runs are drawn again (bootstrap, within each key), and when the
points of one key at a time are left out (jackknife). The first sees noise; the second also sees that the engine is not quite as
linear as the formulas.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .points import Lone, Points, Remembered, Stall, Steps

__all__ = ["FITTED", "Constants", "Estimate", "constants", "estimate"]

Floats = NDArray[np.float64]

FITTED = (
    "prefill_tokens_per_s",
    "prefill_fixed_s",
    "overhead_s",
    "step_fixed_s",
    "step_per_seq_s",
    "step_per_kv_token_s",
    "prefill_cached_cost",
)


@dataclass(frozen=True, slots=True)
class Constants:
    """What is fitted. Seconds; seconds a token; a share."""

    step_fixed_s: float
    step_per_seq_s: float
    step_per_kv_token_s: float
    overhead_s: float
    prefill_fixed_s: float
    prefill_token_s: float  # of one uncached token
    prefill_cached_cost: float | None = None  # None: nothing was measured of it

    def step_s(self, n: float, context: float) -> float:
        return self.step_fixed_s + n * self.step_per_seq_s + context * self.step_per_kv_token_s

    def named(self) -> dict[str, float]:
        """By the names that they have in a profile."""
        values = {name: getattr(self, name) for name in FITTED if name != "prefill_tokens_per_s"}
        values |= {"prefill_tokens_per_s": 1 / max(self.prefill_token_s, 1e-12), "step_fixed_s": max(self.step_fixed_s, 1e-6)}
        return {name: values[name] for name in FITTED if values[name] is not None}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A constant, and its relative error, one sigma; None where the constant is 0."""

    value: float
    error: float | None

    @property
    def interval(self) -> tuple[float, float]:
        """Where it is in 95 of 100 cases, if errors are normal."""
        away = 1.96 * self.value * (self.error or 0.0)
        return max(self.value - away, 0.0), self.value + away


def constants(points: Points, batch_tokens: int) -> Constants:
    """Fit once."""
    step = _fit([(1.0, p.n, p.context) for p in points.steps], [0.0] * len(points.steps), [p.seconds for p in points.steps])
    found = Constants(*map(float, step), *map(float, _prefill(points, batch_tokens)))
    return replace(found, prefill_cached_cost=_share(points.remembered, found)) if points.remembered else found


def estimate(points: Points, batch_tokens: int, *, draws: int = 60, jackknife: bool = True, seed: int = 0) -> dict[str, Estimate]:
    """Fit, and fit again without this and that: each constant with its error."""
    best = constants(points, batch_tokens).named()
    drawn = _spread([constants(drawn, batch_tokens).named() for drawn in _redrawn(points, draws, seed)], best, 1.0)
    keys = sorted({p.key for p in _all(points)})
    parts = [part for key in keys if jackknife and _is_enough(part := _without(points, key))]
    left = _spread([constants(part, batch_tokens).named() for part in parts], best, math.sqrt(max(len(parts) - 1, 0)))
    return {name: Estimate(value, max(drawn[name], left[name]) / value if value else None) for name, value in best.items()}


def _prefill(points: Points, batch_tokens: int) -> Floats:
    """(overhead, fixed, per token)."""

    def batches(tokens: int) -> int:
        return -(-tokens // batch_tokens)

    rows: list[tuple[float, ...]] = [(1.0, batches(p.tokens), p.tokens) for p in points.lone]
    rows += [(0.0, batches(p.tokens), p.tokens) for p in points.stalls]
    known = [0.0] * len(points.lone) + [p.steps * p.step_s for p in points.stalls]
    return _fit(rows, known, [p.seconds for p in points.lone] + [p.seconds for p in points.stalls])


def _share(remembered: Sequence[Remembered], found: Constants) -> float:
    known = [found.overhead_s + found.prefill_fixed_s + p.tokens * found.prefill_token_s for p in remembered]
    rows = [(p.remembered * found.prefill_token_s,) for p in remembered]
    return float(min(_fit(rows, known, [p.seconds for p in remembered])[0], 1.0))


def _fit(rows: Sequence[tuple[float, ...]], known: Sequence[float], seconds: Sequence[float]) -> Floats:
    """x >= 0 so that rows @ x + known is about seconds, in relative terms, (K,).

    Twice: first against what was measured, then against what that predicts, since short times that are short by chance must not count
    for more than long ones that are long by chance.
    """
    from scipy.optimize import nnls  # an extra: serving goes without

    a, b, y = np.asarray(rows, dtype=np.float64), np.asarray(known), np.asarray(seconds)
    scale = np.abs(a / y[:, None]).mean(axis=0)  # (K,): in these units every constant is about 1
    found = np.zeros(len(scale))
    shown = scale > 0  # a constant that no row has is 0
    if not shown.any():
        return found  # and nnls of no columns at all ends the process (scipy 1.17.1)
    a = a[:, shown] / scale[shown]
    begin = nnls(a / y[:, None], np.maximum(1 - b / y, 0.0))[0]
    first = _robust(a, b, y, y, begin)
    last = _robust(a, b, y, np.maximum(a @ first + b, 1e-3 * y), first)
    found[shown] = np.where(last > 1e-5, last, 0.0) / scale[shown]  # what is left at the bound is nothing
    return found


def _robust(a: Floats, b: Floats, y: Floats, unit: Floats, begin: Floats) -> Floats:
    """x >= 0 with the least (a @ x + b - y) / unit, of which large ones count little."""
    from scipy.optimize import least_squares

    rows = a / unit[:, None]

    def off(x: Floats) -> Floats:
        result: Floats = rows @ x + (b - y) / unit
        return result

    spread = max(1.5 * float(np.median(np.abs(off(begin)))), 0.01)
    found: Floats = least_squares(off, begin + 1e-3, jac=lambda _: rows, bounds=(0.0, np.inf), loss="soft_l1", f_scale=spread).x
    return found


Point = Lone | Stall | Steps | Remembered


def _all(points: Points) -> tuple[Point, ...]:
    return (*points.lone, *points.stalls, *points.steps, *points.remembered)


def _kept(points: Points, keep: Callable[[Sequence[Any]], Iterable[Any]]) -> Points:
    kinds = (points.lone, points.stalls, points.steps, points.remembered)
    return Points(*(tuple(keep(kind)) for kind in kinds))


def _without(points: Points, key: str) -> Points:
    return _kept(points, lambda kind: [p for p in kind if p.key != key])


def _is_enough(points: Points) -> bool:
    """Whether there is anything left to tell the constants apart."""
    lengths = {p.tokens for p in points.lone} | {p.tokens for p in points.stalls}
    return len(lengths) > 1 and len({p.n for p in points.steps}) > 1 and len({p.key for p in points.steps}) > 2


def _redrawn(points: Points, draws: int, seed: int) -> Iterable[Points]:
    """The same keys with as many runs each, drawn with replacement; a run brings all its points."""
    dice, runs = random.Random(seed), defaultdict[str, set[int]](set)  # noqa: S311
    for p in _all(points):
        runs[p.key].add(p.run)
    for _ in range(draws):
        times = {key: _counts(dice.choices(sorted(of), k=len(of))) for key, of in runs.items()}
        yield _kept(points, lambda kind, times=times: [p for p in kind for _ in range(times[p.key].get(p.run, 0))])  # type: ignore[misc]


def _counts(drawn: list[int]) -> dict[int, int]:
    return {run: drawn.count(run) for run in drawn}


def _spread(others: Sequence[dict[str, float]], best: dict[str, float], factor: float) -> dict[str, float]:
    """Root mean square distance from the best fit, times a factor, by constant."""
    return {
        name: factor * math.sqrt(sum((other.get(name, value) - value) ** 2 for other in others) / max(len(others), 1))
        for name, value in best.items()
    }
