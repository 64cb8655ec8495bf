"""What answers are worth, from what callers said of them: the profile's table, moved as far as scores speak against it.

Facts
    A score says of one answer how good it was, between 0 and 1; of its task only probabilities are known. Most answers have no score, and
    who gives one is not drawn at random: a table of means would take chance and habit for truth.

Plan
    A Bayesian linear regression for each backend. What a score was expected to be is the profile's quality over the task's probabilities,
    times what a cut or brief answer keeps. Beside it stand corrections with normal priors about nothing: of the backend as a whole,
    of each task, and of what is kept. Where nothing was said, the profile stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bestserve.policy.facts import TASKS, Floats
from bestserve.profiles.schema import Profile

from .logged import DONE, Logged

WHOLE_SIGMA, TASK_SIGMA, KEPT_SIGMA, KEPT_TASK_SIGMA = 0.12, 0.06, 0.10, 0.05
"""How far a profile may be off: at all tasks together, at each beside that, and the same for shares that are kept."""

LEAST_VARIANCE = 0.05
"""Of a single score about what was expected of it."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Of one backend, (T,) each: quality, and what cut and concise answers keep; with one-sigma errors, and how many scores there were."""

    quality: Floats
    cut: Floats
    concise: Floats
    quality_error: Floats
    scores: int


def worth(log: Logged, weight: Floats, backend: int, profile: Profile) -> Worth | None:
    """The table of one backend. `weight` (N,) is what each score counts for. None where nobody said anything."""
    some = (log.backend == backend) & (log.ending == DONE) & np.isfinite(log.score) & (weight > 0)
    if not some.any():
        return None
    quality, cut, concise = (_over(table) for table in _tables(profile))
    p, score, w = log.task[some].astype(np.float64), np.clip(log.score[some].astype(np.float64), 0.0, 1.0), weight[some]
    was_cut, was_told = log.cut[some], log.told[some]
    kept = np.where(was_cut[:, None], cut, 1.0) * np.where(was_told[:, None], concise, 1.0)  # (M, T)
    expected = (p * kept * quality).sum(axis=1)
    x = np.concatenate(
        [
            _split(p * kept),
            _split(p * quality * np.where(was_told[:, None], concise, 1.0) * was_cut[:, None]),
            _split(p * quality * np.where(was_cut[:, None], cut, 1.0) * was_told[:, None]),
        ],
        axis=1,
    )
    n = len(TASKS)
    sigma = np.array([WHOLE_SIGMA, *[TASK_SIGMA] * n, *[KEPT_SIGMA, *[KEPT_TASK_SIGMA] * n] * 2])
    off = score - expected
    variance = max(float(np.average(off**2, weights=w)), LEAST_VARIANCE)
    precision = (x.T * w) @ x / variance + np.diag(1.0 / sigma**2)
    covariance = np.linalg.inv(precision)
    found = covariance @ (x.T @ (w * off)) / variance
    change = [found[i * (n + 1)] + found[i * (n + 1) + 1 : (i + 1) * (n + 1)] for i in range(3)]
    parts = covariance[: n + 1, : n + 1]
    error = np.sqrt(np.maximum(parts[0, 0] + 2 * parts[0, 1:] + np.diag(parts)[1:], 0.0))
    return Worth(
        quality=np.clip(quality + change[0], 0.0, 1.0),
        cut=np.clip(cut + change[1], 0.0, 1.0),
        concise=np.clip(concise + change[2], 0.0, 1.0),
        quality_error=error,
        scores=len(score),
    )


def _tables(profile: Profile) -> tuple[Mapping[str, float], Mapping[str, float], Mapping[str, float]]:
    effect = profile.budget_effect
    return profile.quality, effect.kept_when_cut, effect.kept_when_concise


def _over(table: Mapping[str, float]) -> Floats:
    return np.array([table[task] for task in TASKS])


def _split(x: Floats) -> Floats:
    """(M, T) -> (M, 1 + T): what all tasks share, and each."""
    return np.concatenate((x.sum(axis=1, keepdims=True), x), axis=1)
