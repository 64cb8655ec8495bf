"""Stretches of a log as traces to play again: the real arrivals, sizes, beliefs and deadlines; what nobody saw is drawn.

Of an answer that ended by itself the length is known, and is what it would have been for a model that talks as was foreseen. Of one
that was cut, was asked to be short, or never came, it is drawn from what was foreseen, corrected by the log, beyond where it was cut. A
request's task is drawn from its probabilities (`sharpen`).
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.random import Generator
from scipy.special import ndtr, ndtri

from bestserve.policy.facts import Floats, Ints
from bestserve.policy.simulate import Trace

from .logged import DONE, Logged

LONGEST = 30_000.0
"""Tokens of an answer that is drawn, at most."""


def begun(log: Logged) -> Ints:
    """Places of the first attempt of each request, in the order of arrival."""
    first = np.flatnonzero(log.attempt == 0)
    placed: Ints = first[np.argsort((log.wall - log.took)[first], kind="stable")]
    return placed


def trace_of(requests: Logged, task: Floats, factors: Mapping[int, float], dice: Generator, *, sigma: float = 1.0) -> Trace:
    """A trace of requests in their order. `task` (N, T) are their probabilities; `factors` say how many times as long as foreseen the
    answers of each backend are, `sigma` how far they spread about it, beside what was foreseen."""
    at = requests.wall - requests.took
    n = len(at)
    return Trace(
        at=np.ascontiguousarray(at - (at[0] if n else 0.0)),
        prompt=np.maximum(np.round(requests.prompt), 1.0).astype(np.int64),
        tokens=np.round(_tokens(requests, factors, sigma, dice)).astype(np.int64),
        task=_drawn(task, dice),
        told=np.ascontiguousarray(requests.task),
        mu=requests.mu.copy(),
        sigma=requests.sigma.copy(),
        ceiling=requests.ceiling.copy(),
        ttft_s=requests.ttft_slo.copy(),
        tpot_s=requests.tpot_slo.copy(),
        e2e_s=requests.e2e_slo.copy(),
        hard=requests.hard.copy(),
        weight=requests.weight.copy(),
        session=np.full(n, -1, dtype=np.int64),
        shared=np.zeros(n, dtype=np.int64),
    )


def _tokens(log: Logged, factors: Mapping[int, float], sigma: float, dice: Generator) -> Floats:
    factor = np.array([factors.get(b, 1.0) for b in log.backend.tolist()])
    seen = np.nan_to_num(log.tokens) / np.maximum(log.n, 1.0) / factor
    answered = (log.ending == DONE) & (log.tokens > 0) & ~log.told
    known = answered & log.stopped
    z = np.where(answered & ~known, (np.log(np.maximum(seen, 1.0)) - log.mu) / (sigma * log.sigma), -np.inf)
    below = ndtr(z)
    drawn = log.mu + sigma * log.sigma * ndtri(np.clip(below + (1.0 - below) * dice.uniform(size=len(z)), 1e-9, 1.0 - 1e-9))
    tokens: Floats = np.where(known, np.maximum(seen, 1.0), np.clip(np.exp(np.minimum(drawn, math.log(LONGEST))), 1.0, LONGEST))
    return tokens


def _drawn(p: Floats, dice: Generator) -> Ints:
    edges = np.cumsum(p, axis=1)
    drawn: Ints = np.minimum((dice.uniform(size=(len(p), 1)) * edges[:, -1:] > edges).sum(axis=1), p.shape[1] - 1).astype(np.int64)
    return drawn
