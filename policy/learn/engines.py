"""From what answers took to the constants of the engines that gave them.

Facts
    An engine takes its steps one after another, so that the time in which an answer was written is a sum that is linear in what is sought:

        steps * (fixed + others beside it * per_seq + tokens held * per_kv) + prompts read meanwhile / rate + their number * fixed

    and so is the time to its first token, while nobody waits for a place: overhead, the prompts ahead and its own, half a step. How
    many ran beside it is known afterwards: the log holds when each began, brought its first token and ended.

Plan
    A robust linear regression in multiples of the profile's constants, drawn toward 1: the constants of a step together (a GPU that is half
    as fast is so in all of them), each by itself less. Intervals are of fits to resampled blocks of time.

What is not handled
    Load that others bring to the same backend counts as it was seen when each request was decided. Limits (places, memory) are
    reported by backends and not fitted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Floats, Ints
from bestserve.profiles.schema import Engine

from .logged import DONE, Logged, some

CONSTANTS = ("step_fixed_s", "step_per_seq_s", "step_per_kv_token_s", "prefill_tokens_per_s", "prefill_fixed_s", "overhead_s")
"""The columns of the regression. That of `prefill_tokens_per_s` stands for its inverse."""

TOGETHER, ALONE = 1.0, 0.3
"""How far constants may be off (one sigma): those of a step, or of a prompt, together; and each beside its group."""

MOST_ROWS = 20_000
"""Answers of a backend that are fitted, at most, evenly over its log."""

LEAST_ROWS = 30
"""With fewer, a profile stays what it is."""

CROWDED = 0.8
"""Of a backend's places: above it a first token waits for others to end, and says nothing of prompts."""

ROUNDS, RESAMPLED, BLOCK_S = 8, 24, 60.0
LOW, HIGH = 0.05, 20.0
"""Multiples that are believed."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Of one backend: constants as multiples of the profile's, with 95 % intervals, (6,) each in the order of CONSTANTS."""

    multiple: Floats
    low: Floats
    high: Floats
    answers: int

    def engine(self, profile: Engine) -> dict[str, float]:
        """The constants themselves."""
        found = dict(zip(CONSTANTS, self.multiple.tolist(), strict=True))
        found["prefill_tokens_per_s"] = 1.0 / found["prefill_tokens_per_s"]
        return {name: getattr(profile, name) * times for name, times in found.items()}


def fitted(log: Logged, backend: int, profile: Engine, dice: Generator) -> Fit | None:
    """The constants of one backend (its place in the log's names). None where too few answers were streamed."""
    here = log.backend == backend
    rows, took, kind, at = _rows(some(log, here), profile)
    if (kind == 0).sum() < LEAST_ROWS:
        return None
    scaled = rows * _constants(profile)
    multiple = _regressed(scaled, took, kind)
    block = (at // BLOCK_S).astype(np.int64)
    again = np.array([_regressed(scaled[i], took[i], kind[i], multiple) for i in _resampled(block, dice)])
    low, high = np.quantile(again, (0.025, 0.975), axis=0)
    return Fit(multiple, np.minimum(low, multiple), np.maximum(high, multiple), int((kind == 0).sum()))


def _constants(profile: Engine) -> Floats:
    values = np.array([getattr(profile, name) for name in CONSTANTS])
    values[3] = 1.0 / values[3]
    return np.asarray(np.maximum(values, 1e-12))


def _rows(log: Logged, profile: Engine) -> tuple[Floats, Floats, Ints, Floats]:
    """(rows (R, 6), seconds (R,), kind (R,): 0 the writing of an answer, 1 a first token, when (R,))."""
    origin = float(log.wall.min()) if len(log.wall) else 0.0
    end = log.wall - origin
    begin = end - log.took
    whole = (log.ending == DONE) & np.isfinite(log.ttft) & (log.tokens > 0) & log.stream & (log.n == 1)
    first = np.where(np.isfinite(log.ttft), begin + log.ttft, np.inf)
    ran = np.isfinite(first)
    new = np.maximum(log.prompt - log.cached * (1.0 - profile.prefill_cached_cost), 1.0)
    held = log.prompt + 0.5 * np.nan_to_num(log.tokens)
    beside = _Sum(first[ran], end[ran], np.ones(int(ran.sum())) / log.odds[ran])
    context = _Sum(first[ran], end[ran], held[ran] / log.odds[ran])
    read, reads = _Steps(first[ran], new[ran] / log.odds[ran]), _Steps(first[ran], 1.0 / log.odds[ran])
    open_ = _Steps(begin, 1.0 / log.odds).at(begin) - _Steps(end, 1.0 / log.odds).at(begin)
    foreign = np.maximum(log.in_flight - np.maximum(open_ - 1.0 / log.odds, 0.0) - 1.0, 0.0)

    sure = _evenly(np.flatnonzero(whole & (log.tokens > 4)))
    f, e, steps = first[sure], end[sure], log.tokens[sure] - 1.0
    n = beside.mean(f, e) + foreign[sure]
    writing = np.stack((steps, steps * n, steps * context.mean(f, e), read.between(f, e), reads.between(f, e), np.zeros(len(sure))), 1)

    calm = _evenly(np.flatnonzero(whole & (log.in_flight < CROWDED * log.places)))
    b = begin[calm]
    running, tokens = beside.now(b) + foreign[calm], context.now(b)
    half = 0.5 * (running > 0.5)
    ones = np.ones(len(calm))
    opening = np.stack((half, half * running, half * tokens, log.prefill[calm] + new[calm], ones, ones), 1)
    kind = np.repeat([0, 1], [len(sure), len(calm)])
    return np.concatenate((writing, opening)), np.concatenate((e - f, log.ttft[calm])), kind, np.concatenate((f, b))


class _Steps:
    """The sum of values whose instants have passed."""

    def __init__(self, at: Floats, values: Floats) -> None:
        order = np.argsort(at, kind="stable")
        self._at, self._sum = at[order], np.concatenate(([0.0], np.cumsum(values[order])))

    def at(self, t: Floats) -> Floats:
        """Up to and with an instant."""
        found: Floats = self._sum[np.searchsorted(self._at, t, side="right")]
        return found

    def between(self, a: Floats, b: Floats) -> Floats:
        """After a, up to b."""
        return self.at(b) - self.at(a)


class _Sum:
    """Values that hold from one instant to another, and their mean over time."""

    def __init__(self, begin: Floats, end: Floats, values: Floats) -> None:
        self._on, self._off = _Steps(begin, values), _Steps(end, values)
        self._on_at, self._off_at = _Steps(begin, values * begin), _Steps(end, values * end)

    def now(self, t: Floats) -> Floats:
        """The sum just before an instant."""
        return np.maximum(self._on.at(t - 1e-9) - self._off.at(t - 1e-9), 0.0)

    def _integral(self, t: Floats) -> Floats:
        return (self._on.at(t) - self._off.at(t)) * t - self._on_at.at(t) + self._off_at.at(t)

    def mean(self, a: Floats, b: Floats) -> Floats:
        """Over a stretch of time."""
        return (self._integral(b) - self._integral(a)) / np.maximum(b - a, 1e-9)


def _evenly(which: Ints) -> Ints:
    return which if len(which) <= MOST_ROWS else which[np.linspace(0, len(which) - 1, MOST_ROWS).astype(np.int64)]


def _regressed(x: Floats, took: Floats, kind: Ints, begin: Floats | None = None) -> Floats:
    """Multiples that explain the times: least squares of relative errors, reweighted (Huber), with the prior as further rows."""
    prior = _prior()
    multiple = np.ones(x.shape[1]) if begin is None else begin
    for _ in range(ROUNDS if begin is None else 2):
        said = np.maximum(x @ multiple, 1e-9)
        off = (took - said) / said
        scale = np.array([max(1.4826 * float(np.median(np.abs(off[kind == k]))), 0.01) if (kind == k).any() else 1.0 for k in (0, 1)])[kind]
        weight = np.minimum(1.0, 1.5 * scale / np.maximum(np.abs(off), 1e-9)) / (said * scale) ** 2
        normal = x.T @ (weight[:, None] * x) + prior
        multiple = np.clip(np.linalg.solve(normal, x.T @ (weight * took) + prior.sum(axis=1)), LOW, HIGH)
    return multiple


def _prior() -> Floats:
    """The inverse of the covariance of the multiples: a step's three together, a prompt's two together, the overhead alone."""
    covariance = np.diag([ALONE**2] * 5 + [TOGETHER**2])
    covariance[:3, :3] += TOGETHER**2
    covariance[3:5, 3:5] += TOGETHER**2
    return np.asarray(np.linalg.inv(covariance))


def _resampled(block: Ints, dice: Generator) -> list[Ints]:
    """Places of rows, blocks of time drawn with replacement."""
    order = np.argsort(block, kind="stable")
    names, starts = np.unique(block[order], return_index=True)
    parts = np.split(order, starts[1:])
    return [np.concatenate([parts[i] for i in dice.integers(0, len(names), len(names))]) for _ in range(RESAMPLED)]
