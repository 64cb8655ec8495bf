"""What arrives: times, sizes, tasks and what is known of them, drawn from a generator that the caller gives or taken from a trace.

Times are a renewal process or a rate that changes; answers are log-normal by task; what the classifier and the length predictor say of
a request is drawn as well, so that what it says is right as often as it claims (see `opinions` and `foreseen`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from .confusion import Confusion
from .encode import limits
from .facts import SLO, TASKS, Floats, Ints, Mask
from .simulate import Trace

Teller = Literal["modelled", "true", "classified", "hard", "none"]
EVEN = (1.0 / len(TASKS),) * len(TASKS)


@dataclass(frozen=True, slots=True)
class Demand:
    """What requests are like. Vectors are over TASKS."""

    mix: tuple[float, ...] = EVEN  # probability of each task
    later_mix: tuple[float, ...] | None = None  # what the mix has become at the end; None: it stays
    prompt_median: tuple[float, ...] = (700.0, 180.0, 150.0, 1100.0, 2200.0, 600.0, 350.0, 150.0, 500.0, 900.0)  # tokens
    prompt_sigma: float = 0.8
    answer_median: tuple[float, ...] = (220.0, 240.0, 110.0, 40.0, 110.0, 120.0, 80.0, 330.0, 12.0, 130.0)  # tokens
    answer_sigma: float = 0.93
    foresight: float = 0.35  # R^2 of the predicted log length within a task
    insight: float = 4.0  # of the classifier, see `opinions`
    teller: Teller = "modelled"  # who says what a request's task is, see `told_by`
    confusion: Confusion | None = None  # of the classifier, where that is the teller
    misjudged: float = 1.0  # lengths are predicted so many times too long
    slos: tuple[tuple[float, SLO], ...] = ((1.0, SLO()),)  # (share, SLO)
    weights: tuple[tuple[float, float], ...] = ((1.0, 1.0),)  # (share, weight) of service tiers
    follow: float = 0.0  # probability that a request goes on with a conversation
    longest: float = 30_000.0  # tokens of prompt and of answer, at most


Arrivals = Callable[[Generator, float], Floats]
"""(dice, seconds) -> times of arrival, sorted."""


def poisson(rate: float) -> Arrivals:
    """Independent arrivals at a rate per second."""

    def times(dice: Generator, seconds: float) -> Floats:
        return np.sort(dice.uniform(0.0, seconds, dice.poisson(rate * seconds)))

    return times


def renewal(rate: float, cv: float, family: str = "gamma") -> Arrivals:
    """Arrivals whose gaps have a coefficient of variation: bursts above 1. Families: gamma, weibull."""

    def times(dice: Generator, seconds: float) -> Floats:
        gaps = _gaps(dice, family, cv, int(rate * seconds * 1.2) + 1000) / rate
        at = np.cumsum(gaps)
        while at[-1] < seconds:
            at = np.concatenate((at, at[-1] + np.cumsum(_gaps(dice, family, cv, len(gaps)) / rate)))
        kept: Floats = at[at < seconds]
        return kept

    return times


def _gaps(dice: Generator, family: str, cv: float, n: int) -> Floats:
    """`n` gaps of mean 1 and this coefficient of variation."""
    if family == "gamma":
        return dice.gamma(1.0 / cv**2, cv**2, n)
    shape = _weibull_shape(cv)
    return dice.weibull(shape, n) / math.gamma(1.0 + 1.0 / shape)


def _weibull_shape(cv: float) -> float:
    """The shape whose coefficient of variation is `cv`, by bisection: it falls with the shape."""
    low, high = 0.1, 20.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        second = math.gamma(1.0 + 2.0 / middle) / math.gamma(1.0 + 1.0 / middle) ** 2 - 1.0
        low, high = (middle, high) if math.sqrt(max(second, 0.0)) > cv else (low, middle)
    return math.sqrt(low * high)


def changing(rates: Callable[[Generator, float], tuple[Floats, Floats]]) -> Arrivals:
    """Poisson arrivals at a rate that is constant between instants: `rates` gives (starts, rates) for so many seconds."""

    def times(dice: Generator, seconds: float) -> Floats:
        starts, rate = rates(dice, seconds)
        ends = np.append(starts[1:], seconds)
        pieces = [np.sort(dice.uniform(a, b, dice.poisson(r * (b - a)))) for a, b, r in zip(starts, ends, rate, strict=True)]
        return np.concatenate(pieces) if pieces else np.zeros(0)

    return times


def unpredictable(low: float, high: float, dwell_s: float = 20.0) -> Arrivals:
    """A rate that jumps to another, log-uniform between two, after exponential times: the paper's unpredictable workload."""

    def rates(dice: Generator, seconds: float) -> tuple[Floats, Floats]:
        starts = np.concatenate(([0.0], np.cumsum(dice.exponential(dwell_s, int(3 * seconds / dwell_s) + 20))))
        starts = starts[starts < seconds]
        return starts, np.exp(dice.uniform(math.log(low), math.log(high), len(starts)))

    return changing(rates)


def diurnal(low: float, high: float, period_s: float) -> Arrivals:
    """A rate that swings between two like the hours of a day."""

    def rates(dice: Generator, seconds: float) -> tuple[Floats, Floats]:
        starts = np.arange(0.0, seconds, period_s / 96)
        swing = 0.5 - 0.5 * np.cos(2 * math.pi * starts / period_s)
        return starts, low + (high - low) * swing

    return changing(rates)


def draw_trace(dice: Generator, arrivals: Arrivals, seconds: float, demand: Demand) -> Trace:
    """Requests of `seconds`."""
    at = arrivals(dice, seconds)
    task = _tasks(dice, at / seconds, demand)
    prompt = np.exp(np.log(np.array(demand.prompt_median))[task] + demand.prompt_sigma * dice.standard_normal(len(at)))
    deviation = demand.answer_sigma * dice.standard_normal(len(at))
    tokens = np.exp(np.log(np.array(demand.answer_median))[task] + deviation)
    return trace_of(dice, at, prompt, tokens, task, demand)


def trace_of(dice: Generator, at: Floats, prompt: Floats, tokens: Floats, task: Ints, demand: Demand) -> Trace:
    """A trace of given times and sizes; tasks are numbers of TASKS. What is said of them is drawn."""
    n = len(at)
    prompt = np.clip(prompt, 1.0, demand.longest)
    tokens = np.clip(tokens, 1.0, demand.longest)
    told = told_by(dice, task, demand)
    mu, sigma = foreseen(dice, np.log(tokens), np.log(np.array(demand.answer_median))[task], demand)
    ttft, tpot, e2e, hard = _deadlines(dice, n, demand)
    session, shared, prompt = _conversations(dice, prompt, tokens, demand)
    return Trace(
        at=np.ascontiguousarray(at, dtype=np.float64),
        prompt=np.round(prompt).astype(np.int64),
        tokens=np.round(tokens).astype(np.int64),
        task=np.asarray(task, dtype=np.int64),
        told=told,
        mu=mu + math.log(demand.misjudged),
        sigma=sigma,
        ceiling=np.full(n, math.inf),
        ttft_s=ttft,
        tpot_s=tpot,
        e2e_s=e2e,
        hard=hard,
        weight=_pick(dice, n, demand.weights),
        session=session,
        shared=shared,
    )


def told_by(dice: Generator, task: Ints, demand: Demand) -> Floats:
    """What is said of requests of these tasks, (N, T). Whoever tells, as much is drawn: all else of a trace is the same.

    Whoever knows the mix knows that of the whole trace, not of its moments. `modelled` is `opinions`; `true` knows; `none` knows the mix
    and nothing of the request; `classified` is what the classifier did say of another prompt of that task, which it had not seen; `hard`
    is the likeliest task of that, taken for certain. Raises ValueError for a task of which the classifier's confusion says nothing.
    """
    mix = np.mean(_mixes(demand), axis=0)
    modelled = opinions(dice, task, mix, demand.insight)
    if demand.teller == "modelled":
        return modelled
    if demand.teller in ("true", "none"):
        return np.ascontiguousarray(np.eye(len(mix))[task] if demand.teller == "true" else np.tile(mix, (len(task), 1)))
    if demand.confusion is None:
        raise ValueError(f"a teller of {demand.teller!r} needs a classifier's confusion")
    row = demand.confusion.draw(task, dice.spawn(1)[0].random(len(task)))
    said = demand.confusion.said[row].astype(np.float64)
    return np.ascontiguousarray(said if demand.teller == "classified" else np.eye(len(mix))[said.argmax(axis=1)])


def opinions(dice: Generator, task: Ints, mix: Floats, insight: float) -> Floats:
    """What a classifier says of requests of these tasks, (N, T): each task's evidence is a normal number, shifted for the true one.

    The probabilities are the posterior under just that model, so they are calibrated. An insight of 4 is right about three times in
    four, 0 says nothing, inf everything.
    """
    if math.isinf(insight):
        return np.ascontiguousarray(np.eye(len(mix))[task])
    evidence = math.sqrt(insight) * dice.standard_normal((len(task), len(mix)))
    evidence[np.arange(len(task)), task] += insight
    score = evidence + np.log(np.maximum(mix, 1e-9))
    chance = np.exp(score - score.max(axis=1, keepdims=True))
    said: Floats = np.ascontiguousarray(chance / chance.sum(axis=1, keepdims=True))
    return said


def foreseen(dice: Generator, log_tokens: Floats, center: Floats, demand: Demand) -> tuple[Floats, Floats]:
    """Mean and deviation (N,) that a predictor of R^2 `foresight` gives for these lengths, calibrated."""
    known = demand.foresight
    noise = demand.answer_sigma * math.sqrt(known * (1.0 - known)) * dice.standard_normal(len(log_tokens))
    mu: Floats = center + known * (log_tokens - center) + noise
    return mu, np.full(len(log_tokens), demand.answer_sigma * math.sqrt(1.0 - known))


def _mixes(demand: Demand) -> tuple[Floats, Floats]:
    """At the first and at the last, (T,) each, summing to 1."""
    first, last = np.array(demand.mix), np.array(demand.later_mix or demand.mix)
    return first / first.sum(), last / last.sum()


def _tasks(dice: Generator, when: Floats, demand: Demand) -> Ints:
    """Numbers of TASKS, by a mix that may drift from the first to the last."""
    first, last = _mixes(demand)
    edges = np.cumsum(first[None] * (1 - when[:, None]) + last[None] * when[:, None], axis=1)
    tasks: Ints = np.minimum((dice.uniform(size=(len(when), 1)) > edges).sum(axis=1), len(TASKS) - 1)
    return tasks


def _deadlines(dice: Generator, n: int, demand: Demand) -> tuple[Floats, Floats, Floats, Mask]:
    kinds = [(*limits(slo), float(slo.hard)) for _, slo in demand.slos]
    which = dice.choice(len(kinds), size=n, p=np.array([share for share, _ in demand.slos]) / sum(share for share, _ in demand.slos))
    table = np.array(kinds)[which].reshape(n, 4)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1]), np.ascontiguousarray(table[:, 2]), table[:, 3] > 0


def _pick(dice: Generator, n: int, shares: tuple[tuple[float, float], ...]) -> Floats:
    p = np.array([share for share, _ in shares])
    picked: Floats = np.array([value for _, value in shares])[dice.choice(len(p), size=n, p=p / p.sum())]
    return picked


MOST_CONTEXT = 24_000.0
"""Tokens after which a conversation begins anew."""


def _conversations(dice: Generator, prompt: Floats, tokens: Floats, demand: Demand) -> tuple[Ints, Ints, Floats]:
    """(session, shared, prompt): some requests go on with one of the recent conversations and carry what was said there."""
    n = len(prompt)
    session, shared, whole = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64), prompt.copy()
    if demand.follow <= 0.0:
        return session, shared, whole
    follows, back = dice.uniform(size=n) < demand.follow, dice.geometric(0.02, size=n)
    new = 0
    for i in range(n):
        j = i - int(back[i])
        if follows[i] and j >= 0 and whole[j] + tokens[j] < MOST_CONTEXT:
            session[i], shared[i] = session[j], int(whole[j] + tokens[j])
            whole[i] = prompt[i] + shared[i]
        else:
            session[i], new = new, new + 1
    return session, shared, whole


def mix_of(shares: Mapping[str, float]) -> tuple[float, ...]:
    """A mix over TASKS from some of their names. Raises ValueError for an unknown one."""
    for task in shares:
        if task not in TASKS:
            raise ValueError(f"{task!r} is not a task; there are {', '.join(TASKS)}")
    total = sum(shares.values())
    if total <= 0 or min(shares.values()) < 0:
        raise ValueError("a task mix needs shares of at least 0 with a sum above 0")
    return tuple(shares.get(task, 0.0) / total for task in TASKS)
