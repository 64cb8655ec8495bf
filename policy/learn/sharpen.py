"""What a request's task was, told with hindsight: by its class probabilities, its prompt's size and the length foreseen of its answer.

Facts
    Whoever decides sends requests by all that it sees, the foreseen length and the prompt's size among it. Both tell of the task beyond
    what the classifier's probabilities do: a backend that gets what is foreseen to be short gets other tasks than those say. Scores of its
    answers, put down to the probabilities alone, would count that as its merit (confounding by indication).

Plan
    A mixture: each task has its own normal distribution of the logs of both sizes, learnt over all requests whoever answered them, with the
    probabilities as each request's own prior (expectation and maximisation in turn).
"""

import numpy as np

from bestserve.policy.facts import Floats

from .logged import Logged

ROUNDS = 20
MOST = 60_000
"""Requests that distributions are learnt from, evenly over the log."""

PRIOR = 50.0
"""Requests' worth of the distribution over all tasks, that each task's own begins with."""


def sharpened(log: Logged) -> Floats:
    """Probabilities of each task (N, T), given sizes as well."""
    n = len(log.mu)
    if n == 0:
        return log.task
    sizes = np.stack((log.mu, np.log(np.maximum(log.prompt, 1.0))), axis=1).astype(np.float64)  # (N, 2)
    some = np.unique(np.linspace(0, n - 1, min(n, MOST)).astype(np.int64))
    mean, variance = _learnt(log.task[some].astype(np.float64), sizes[some])
    made = np.empty_like(log.task)
    for begin in range(0, n, MOST):  # in pieces, for its memory
        here = slice(begin, begin + MOST)
        made[here] = _posterior(log.task[here].astype(np.float64), sizes[here], mean, variance)
    return made


def _learnt(p: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Means and variances (T, 2)."""
    usual, spread = sizes.mean(axis=0), np.maximum(sizes.var(axis=0), 1e-3)
    mean, variance, chance = np.tile(usual, (p.shape[1], 1)), np.tile(spread, (p.shape[1], 1)), p
    for _ in range(ROUNDS):
        weight = chance.sum(axis=0)[:, None] + PRIOR
        mean = (chance.T @ sizes + PRIOR * usual) / weight
        second = (chance.T @ sizes**2 + PRIOR * (usual**2 + spread)) / weight
        variance = np.maximum(second - mean**2, 1e-3)
        chance = _posterior(p, sizes, mean, variance)
    return mean, variance


def _posterior(p: Floats, sizes: Floats, mean: Floats, variance: Floats) -> Floats:
    score = np.log(np.maximum(p, 1e-12))
    for j in range(sizes.shape[1]):
        score = score - 0.5 * (sizes[:, j : j + 1] - mean[:, j]) ** 2 / variance[:, j] - 0.5 * np.log(variance[:, j])
    chance = np.exp(score - score.max(axis=1, keepdims=True))
    posterior: Floats = chance / chance.sum(axis=1, keepdims=True)
    return posterior
