"""How much longer than foreseen a backend's answers are, by task: a censored fit, drawn toward its other tasks and what was believed.

An answer that was cut tells only that it would have been longer. Leaving those out would make what remains too short, so their lengths
are expected from the fit itself, in turns (EM). Answers that were asked to be short say nothing here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from bestserve.policy.calibration import LONGEST
from bestserve.policy.drift import TRUST
from bestserve.policy.estimate import Z
from bestserve.policy.facts import TASKS, Floats, Mask

from .logged import DONE, Logged

ROUNDS = 60
LEAST_SIGMA = 0.05


@dataclass(frozen=True, slots=True)
class Longer:
    """Of one backend at one task: log of a factor on what was predicted, with its 95 % interval."""

    value: float
    low: float
    high: float
    answers: int
    sigma: float  # spread of log tokens about what was predicted


NOTHING = Longer(0.0, -Z, Z, 0, 1.0)


def longer(log: Logged, backend: int, believed: Mapping[str, float]) -> dict[str, Longer]:
    """Of each task of which answers were seen. A request counts for its likeliest task. `believed` is by task, nothing where it is not."""
    some = (log.backend == backend) & (log.ending == DONE) & ~log.told & (log.n == 1) & (log.tokens > 0)
    off, whole = np.log(np.maximum(log.tokens[some], 1.0)).astype(np.float64) - log.mu[some], log.stopped[some]
    if not whole.any():
        return {}
    task = log.task[some].argmax(axis=1)
    before = np.array([believed.get(name, 0.0) for name in TASKS])
    together = fitted(off - before[task], whole, 0.0).value
    return {name: fitted(off[task == t], whole[task == t], before[t] + together) for t, name in enumerate(TASKS) if (task == t).any()}


def fitted(off: Floats, whole: Mask, believed: float) -> Longer:
    """Mean and spread of values, of which those that are not whole are only known to be larger; TRUST answers speak for `believed`."""
    n, sigma = len(off), max(float(off.std()), LEAST_SIGMA)
    mean = believed
    for _ in range(ROUNDS):
        z = (off[~whole] - mean) / sigma
        hazard = np.exp(-0.5 * z * z - 0.5 * math.log(2 * math.pi) - log_ndtr(-z))
        first = np.where(whole, off, 0.0)
        first[~whole] = mean + sigma * hazard
        second = float(((off[whole] - mean) ** 2).sum()) + float((sigma**2 * (1.0 + z * hazard)).sum())
        new = (float(first.sum()) + TRUST * believed) / (n + TRUST)
        sigma = max(math.sqrt(max(second, 0.0) / n), LEAST_SIGMA)
        mean, moved = new, abs(new - mean)
        if moved < 1e-6:
            break
    mean = float(np.clip(mean, -LONGEST, LONGEST))
    reach = Z * sigma / math.sqrt(float(whole.sum()) + TRUST)
    return Longer(mean, mean - reach, mean + reach, n, sigma)
