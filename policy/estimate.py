"""From what was seen to what is believed: shares with intervals, a prior that measurements move, lengths of which some were cut short.

Facts
    A score lies in [0, 1]. Wilson's interval (1927) of a share holds its level where counts are small and the share is near 0 or 1; a
    mean of scores between 0 and 1 varies at most as much as a share of hits with that mean, so for graded scores the interval is too wide,
    never too narrow.
    A prior is a mean and a strength: the number of answers that it weighs as much as (the sum of a Beta's two parameters). A relative
    error e of a mean m says what that number is, for a Beta's variance is m (1 - m) / (strength + 1).
    An answer that was cut tells only that it would have been longer: lengths are fitted with those censored (Cohen, 1959; by EM).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959964
"""Standard deviations to either side of a 95 % interval."""

LEAST, MOST = 1.0, 200.0
"""What a prior's strength may be, in answers: no error is so large that it says nothing, none so small that it cannot be moved."""

SIGMA = (0.05, 3.0)
"""The spread of log(tokens) that a fit may give."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its 95 % interval, and how many answers it rests on."""

    value: float
    low: float
    high: float
    n: float


@dataclass(frozen=True, slots=True)
class Prior:
    """What was believed before, and the number of answers that it weighs as much as."""

    mean: float
    strength: float


def wilson(mean: float, n: float) -> Estimate:
    """The mean of n scores in [0, 1], with Wilson's interval; of none, everything is possible."""
    if n <= 0:
        return Estimate(mean, 0.0, 1.0, 0.0)
    centre = (mean + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(mean * (1 - mean) / n + Z * Z / (4 * n * n))
    return Estimate(mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)), n)


def share(scores: Sequence[float]) -> Estimate:
    """The mean of scores in [0, 1]."""
    return wilson(sum(scores) / len(scores) if scores else 0.0, len(scores))


def kept(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """Of the quality that answers have when whole (second of each pair), what share the other ones kept (first of each pair).

    Each unit of whole quality is a trial, so prompts that were answered wrongly anyway count for nothing. Above 1 is cut to 1: that an
    answer gets better by being shorter is not something to rely on.
    """
    whole = math.fsum(pair[1] for pair in pairs)
    return wilson(min(1.0, math.fsum(pair[0] for pair in pairs) / whole) if whole > 0 else 0.0, whole)


def strength(mean: float, error: float) -> float:
    """How many answers a mean with this relative one-sigma error weighs as much as, from LEAST to MOST."""
    variance = (error * mean) ** 2
    inner = min(max(mean, 0.01), 0.99)  # a mean of 0 or 1 is not certainty
    return min(MOST, max(LEAST, inner * (1 - inner) / variance - 1)) if variance > 0 else MOST


def shrink(prior: Prior, seen: Estimate) -> Estimate:
    """The posterior mean, weighed by the answers on either side; its interval is Wilson's at all of them."""
    n = prior.strength + seen.n
    return wilson((prior.strength * prior.mean + seen.n * seen.value) / n, n)


def error(estimate: Estimate) -> float:
    """The relative one-sigma error that an interval comes to, at most 1."""
    return min(1.0, (estimate.high - estimate.low) / (2 * Z) / estimate.value) if estimate.value > 0 else 1.0


# --- lengths ---


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Lengths in tokens: log-normal, with a 95 % interval of the median."""

    median: float
    sigma: float
    low: float
    high: float
    n: int  # answers that ended by themselves


def lengths(tokens: Sequence[float], cut: Sequence[bool]) -> LogNormal | None:
    """The lengths that answers would have had. None when fewer than three ended by themselves: the rest would be invention."""
    n = len(tokens) - sum(cut)
    if n < 3:
        return None
    logs = np.log(np.maximum(np.asarray(tokens, dtype=np.float64), 1.0))  # (N,)
    mean, sigma = _censored(logs, np.asarray(cut, dtype=np.bool_))
    reach = Z * sigma / math.sqrt(n)
    return LogNormal(math.exp(mean), sigma, math.exp(mean - reach), math.exp(mean + reach), n)


def ratio(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The typical ratio of first to second in pairs of lengths: geometric mean, standard error of its logarithm. None below three."""
    if len(pairs) < 3:
        return None
    logs = np.array([math.log(max(a, 1.0) / max(b, 1.0)) for a, b in pairs])
    return math.exp(float(logs.mean())), float(logs.std(ddof=1)) / math.sqrt(len(pairs))


def _censored(logs: NDArray[np.float64], cut: NDArray[np.bool_], rounds: int = 200) -> tuple[float, float]:
    """Mean and deviation of normal values, of which those marked are only known to be larger: expectation and maximisation in turn."""
    whole = logs[~cut]
    mean, sigma = float(whole.mean()), _within(float(whole.std()))
    if not cut.any():
        return mean, _within(float(whole.std(ddof=1)))
    for _ in range(rounds):
        over = (logs[cut] - mean) / sigma  # (C,)
        hazard = np.array([_hazard(x) for x in over.tolist()])
        first = mean + sigma * hazard  # E[x | x > limit]
        second = mean**2 + sigma**2 + sigma * (logs[cut] + mean) * hazard  # E[x^2 | x > limit]
        new = (float(whole.sum()) + float(first.sum())) / len(logs)
        square = (float((whole**2).sum()) + float(second.sum())) / len(logs)
        moved = abs(new - mean)
        mean, sigma = new, _within(math.sqrt(max(square - new * new, 0.0)))
        if moved < 1e-6:
            break
    return mean, sigma


def _hazard(x: float) -> float:
    """The standard normal's density over its upper tail; beyond 8, its asymptote."""
    if x > 8:
        return x + 1 / x
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi) / (0.5 * math.erfc(x / math.sqrt(2)))


def _within(sigma: float) -> float:
    return min(max(sigma, SIGMA[0]), SIGMA[1])
