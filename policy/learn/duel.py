"""Incumbent against challenger in the calibrated simulator, on the log's own arrivals: the same requests, draws and lengths for both.

A simulator that does not give what the log gives has no say: where the incumbent earns otherwise in it than it did, by more than a
twentieth, it abstains.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from bestserve.policy.facts import TASKS, Backend, Floats
from bestserve.policy.policies import Mind

from .ground import Ground, believing, of_log
from .run import played

CLOSE = 0.05
"""The simulator's reward may differ from the log's by this share."""


class Side(NamedTuple):
    """Who decides, and what is believed."""

    mind: Mind
    backends: tuple[Backend, ...]


class Rounds(NamedTuple):
    """How long it goes on."""

    seed: int
    times: int  # stretches
    requests: int  # of each


class Round(NamedTuple):
    """What came of one seed, by incumbent and challenger."""

    reward: Floats  # (2,) mean
    missed: Floats  # (2,) share that was not answered on time
    tasks: Floats  # (2, T) mean reward by likeliest task; nan


@dataclass(frozen=True, slots=True)
class Duel:
    """What came of all of them. Gains are shares of the incumbent's reward."""

    gain: float
    low: float  # 95 %
    high: float
    seeds: int
    log_reward: float  # of the incumbent, as the log has it
    reward: float  # and as the simulator has it
    missed: float  # by how much the challenger misses more, in shares of requests
    worst_task: str
    worst: float  # reward lost there
    worst_sure: float  # and at least lost, with 95 %

    @property
    def abstains(self) -> bool:
        """Whether the simulator gives something else than the log did."""
        return not abs(self.reward - self.log_reward) <= CLOSE * abs(self.log_reward)


def duel(
    ground: Ground,
    incumbent: Side,
    challenger: Side,
    log_reward: float,
    how: Rounds,
    pool: Executor,
    told: Callable[[int], None],
) -> Duel:
    """Play both on some stretches. `log_reward` is the mean of what the log's requests earned, by what is believed now."""
    numbers = [int(each) for each in np.random.SeedSequence([how.seed, 77]).generate_state(how.times)]
    rounds = list[Round]()
    for each in pool.map(partial(_round, ground, (incumbent, challenger), how.requests), numbers):
        rounds.append(each)
        told(len(rounds))
    return _together(rounds, log_reward)


def _round(ground: Ground, sides: Sequence[Side], n: int, seed: int) -> Round:
    found = [_side(ground, side, n, seed) for side in sides]
    return Round(*(np.array([getattr(each, name) for each in found]) for name in Round._fields))


def _side(ground: Ground, side: Side, n: int, seed: int) -> Round:
    places = believing(ground, side.backends)
    scene = of_log(ground, places, side.mind, np.random.default_rng(seed), n)
    found = played(scene, places)
    reward, on_time = np.asarray(found.reward), np.asarray(found.on_time, dtype=float)
    likeliest = scene.trace.told.argmax(axis=1)
    tasks = np.array([reward[likeliest == k].mean() if (likeliest == k).sum() >= 20 else math.nan for k in range(len(TASKS))])
    return Round(np.array(reward.mean()), np.array(1.0 - on_time.mean()), tasks)


def _together(rounds: Sequence[Round], log_reward: float) -> Duel:
    reward, missed, tasks = (np.array([getattr(each, name) for each in rounds]) for name in Round._fields)
    base = max(abs(float(reward[:, 0].mean())), 1e-9)
    mean, half = _interval((reward[:, 1] - reward[:, 0]) / base)
    lost = [(_interval(column[np.isfinite(column)]), TASKS[k]) for k, column in enumerate((tasks[:, 0] - tasks[:, 1]).T)]
    (worst, reach), name = max(lost, key=lambda each: each[0][0], default=((0.0, 0.0), ""))
    return Duel(
        gain=mean,
        low=mean - half,
        high=mean + half,
        seeds=len(rounds),
        log_reward=log_reward,
        reward=float(reward[:, 0].mean()),
        missed=float((missed[:, 1] - missed[:, 0]).mean()),
        worst_task=name,
        worst=worst,
        worst_sure=worst - reach,
    )


def _interval(values: Floats) -> tuple[float, float]:
    """Mean, and half of its 95 % interval."""
    if len(values) < 2:
        return (float(values.mean()) if len(values) else -math.inf), math.inf
    return float(values.mean()), float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values)))
