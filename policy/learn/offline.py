"""What another policy would have earned, from the log alone: one step at a time (doubly robust), and along the log (fitted Q).

Facts
    Of a decision that another policy would have made otherwise, the log does not hold what came of it. What is predicted does, and what
    came of the decisions on which both agree corrects the prediction (Dudik et al. 2011). Its noise is that of the weights pi / p: where
    the log's policy was nearly certain, a rare other choice weighs hundreds. SWITCH-DR (Wang et al. 2017) leaves those to the prediction;
    SNIPS uses weights alone. All three stand side by side.
    One step is not all: a decision lengthens queues. Prices of backend time stand for that in the first, and the sum of later rewards,
    discounted by their distance in time, in the second (fitted Q evaluation, linear, in closed form; a head for each resampling).

    Decisions close in time share their fortune, so intervals come from resampled blocks of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Floats, Ints

SWITCH = 20.0
"""A weight above this is not believed: the prediction stands alone."""

BLOCK_S = 30.0
RESAMPLED = 400
HEADS = 5
TAU_S = 8.0
"""A reward so much later counts e times less."""

RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Gain:
    """Challenger over incumbent, as a share of the incumbent's reward; with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OneStep:
    """What the log alone says of one decision at a time."""

    switch: Gain  # SWITCH-DR, which is judged by
    doubly_robust: Gain
    snips: Gain
    effective: float  # share of the decisions that the believed weights are worth
    effective_all: float  # and all weights
    changed: float  # mean probability that the challenger decides otherwise
    blocks: int


@dataclass(frozen=True, slots=True)
class Past:
    """P decisions of a log in the order of time, and what two policies make of them. A actions."""

    at: Floats  # (P,) seconds
    taken: Ints  # (P,)
    chance: Floats  # (P,) with which it was taken
    then: Floats  # (P, A) the incumbent's probabilities, as logged
    now: Floats  # (P, A) the challenger's
    predicted: Floats  # (P, A) what each action is expected to earn, less its price
    earned: Floats  # (P,) what came of it, less its price
    inputs: Floats  # (P, A, F) of the fitted Q


def one_step(past: Past, dice: Generator) -> OneStep:
    """Of every decision by itself."""
    i = np.arange(len(past.taken))
    weight = past.now[i, past.taken] / np.maximum(past.chance, 1e-9)
    believed = np.where(weight <= SWITCH, weight, 0.0)
    rest = past.earned - past.predicted[i, past.taken]
    before = (past.then * past.predicted).sum(axis=1) + rest
    after = (past.now * past.predicted).sum(axis=1)
    block = _blocks(past.at)
    scale = max(abs(float(before.mean())), 1e-9)
    return OneStep(
        switch=_mean_gain(after + believed * rest - before, block, scale, dice),
        doubly_robust=_mean_gain(after + weight * rest - before, block, scale, dice),
        snips=_ratio_gain(weight, past.earned, block, scale, dice),
        effective=_effective(np.minimum(weight, SWITCH)),
        effective_all=_effective(weight),
        changed=float(0.5 * np.abs(past.now - past.then).sum(axis=1).mean()),
        blocks=len(np.unique(block)),
    )


def _effective(weight: Floats) -> float:
    return float(weight.sum() ** 2 / max(float((weight**2).sum()), 1e-12) / max(len(weight), 1))


def _blocks(at: Floats) -> Ints:
    _, number = np.unique((at // BLOCK_S).astype(np.int64), return_inverse=True)
    return np.asarray(number, dtype=np.int64)


def _mean_gain(difference: Floats, block: Ints, scale: float, dice: Generator) -> Gain:
    n = int(block.max()) + 1
    sums, counts = np.bincount(block, difference, n), np.bincount(block, minlength=n)
    drawn = dice.integers(0, n, (RESAMPLED, n))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) / scale
    low, high = np.quantile(means, (0.025, 0.975))
    return Gain(float(difference.mean()) / scale, float(low), float(high))


def _ratio_gain(weight: Floats, earned: Floats, block: Ints, scale: float, dice: Generator) -> Gain:
    n = int(block.max()) + 1
    columns = [np.bincount(block, values, n) for values in (weight * earned, weight, earned, np.ones(len(earned)))]
    drawn = dice.integers(0, n, (RESAMPLED, n))

    def gain(sums: list[Floats]) -> Floats:
        over: Floats = (sums[0] / np.maximum(sums[1], 1e-12) - sums[2] / sums[3]) / scale
        return over

    low, high = np.quantile(gain([column[drawn].sum(axis=1) for column in columns]), (0.025, 0.975))
    return Gain(float(gain([np.array(column.sum()) for column in columns])), float(low), float(high))


def fitted_q(past: Past, dice: Generator) -> Floats:
    """Gains (HEADS,), as shares of the incumbent's reward: of each head, the difference of what follows under either policy."""
    block = _blocks(past.at)
    n, last = int(block.max()) + 1, len(past.at) - 1
    follows = (np.diff(past.at, append=past.at[-1]) < BLOCK_S) & (np.arange(len(past.at)) < last)
    fade = np.where(follows, np.exp(-np.diff(past.at, append=past.at[-1]) / TAU_S), 0.0)
    here = past.inputs[np.arange(len(past.taken)), past.taken]
    means = [np.einsum("pa,paf->pf", policy, past.inputs) for policy in (past.now, past.then)]
    centred = past.earned - past.earned.mean()
    gains = np.zeros(HEADS)
    for head in range(HEADS):
        times = np.bincount(dice.integers(0, n, n), minlength=n)[block].astype(float)
        values = [_value(here, after, fade, centred, times) for after in means]
        rate = float(np.average(1.0 - fade, weights=times))
        gains[head] = rate * (values[0] - values[1]) / max(abs(float(past.earned.mean())), 1e-9)
    return gains


def _value(here: Floats, after: Floats, fade: Floats, earned: Floats, times: Floats) -> float:
    following = np.roll(after, -1, axis=0) * fade[:, None]
    left = (here * times[:, None]).T @ (here - following)
    scale = np.trace(here.T @ (here * times[:, None])) / here.shape[1]
    theta = np.linalg.solve(left + RIDGE * scale * np.eye(here.shape[1]), here.T @ (times * earned))
    return float(np.average(after @ theta, weights=times))
