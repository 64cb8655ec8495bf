"""Whether a policy that has just been published may stay: what stood and what is new decide in turns, and what they earn is compared.

Facts
    Load moves by the minute, so a policy's reward today says little beside another's yesterday; and half of the requests each at the same
    time is no comparison, since both load the same backends. So the whole traffic goes to one, then to the other: a switchback
    experiment. Windows are cut by the clock, so that all processes and hosts agree without talking.

Plan
    Two windows that follow each other are a pair, in an order that a hash draws, so that what comes in time with the clock favours
    nobody. The first part of each window is not counted: its queues are the other policy's work. Of each pair the difference is taken.
    The band is what differences of no meaning would show: Student's t of their mean, with a deviation that few pairs cannot make small.
    Below it, the new one goes; after enough pairs that were not, it stays.
    The chance that one which is no worse goes is about LOOK at each of the looks, and LAST at the last.

What is not handled
    Requests that take longer than a window count where they began, if they end in time.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from statistics import NormalDist
from typing import NamedTuple

LAG_S = 3.0
"""Until all processes have heard of a trial."""

LOOK, LAST = 0.002, 0.02
DEVIATION, WEIGHT = 0.05, 4.0
"""Of the difference between two windows, what is assumed before any was seen; and for how many pairs that counts."""

SLACK = 0.005
"""Reward of an answer by which a new policy may always be less."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a trial goes."""

    window_s: float = 30.0
    pairs: int = 10  # of windows, until the new one stands; 0: it stands at once
    settling: float = 0.2  # share of a window that is not counted
    least: int = 20  # requests of a window that counts


class Sums(NamedTuple):
    """What was earned in one window."""

    reward: float = 0.0
    weight: float = 0.0  # of the requests
    n: int = 0

    def plus(self, other: "Sums") -> "Sums":
        """Both together."""
        return Sums(self.reward + other.reward, self.weight + other.weight, self.n + other.n)

    @property
    def mean(self) -> float:
        """Per request of weight 1."""
        return self.reward / self.weight if self.weight > 0 else 0.0


class State(StrEnum):
    """How it goes."""

    RUNS = "runs"
    STANDS = "stands"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a trial."""

    state: State
    pairs: int  # that counted
    old: float  # mean reward of a request
    new: float
    difference: float  # mean over pairs, new less old
    edge: float  # the band's lower edge: a difference below it is no chance

    def __str__(self) -> str:
        beside = f"{self.new:.4f} beside {self.old:.4f} of what stood, in {self.pairs} pairs of windows"
        return f"mean reward {beside}: difference {self.difference:+.4f}, band from {self.edge:+.4f}"


def window_at(wall: float, rules: Rules) -> int:
    """The number of the window that a moment (seconds since 1970) lies in."""
    return math.floor(wall / rules.window_s)


def is_new(version: str, window: int) -> bool:
    """Whether the new version decides in this window: in one of each pair."""
    drawn = blake2b(b"%b %d" % (version.encode(), window // 2), digest_size=1).digest()[0]
    return (window + drawn) % 2 == 1


def is_counted(wall: float, rules: Rules) -> bool:
    """Whether what was decided at this moment counts."""
    return wall / rules.window_s % 1.0 >= rules.settling


def pooled(parts: Iterable[Mapping[int, Sums]]) -> dict[int, Sums]:
    """What several processes have seen, by window."""
    whole: dict[int, Sums] = {}
    for part in parts:
        for window, sums in part.items():
            whole[window] = whole.get(window, Sums()).plus(sums)
    return whole


def judge(version: str, sums: Mapping[int, Sums], *, since: float, now: float, rules: Rules) -> Finding:
    """Compare. `since` is when the trial began, and `sums` are of all processes, by window."""
    pairs = _pairs(version, sums, since=since, now=now, rules=rules)
    n = len(pairs)
    if n == 0:
        return Finding(State.STANDS if rules.pairs == 0 else State.RUNS, 0, 0.0, 0.0, 0.0, -math.inf)
    old, new = (sum((pair[i] for pair in pairs), start=0.0) / n for i in (0, 1))
    edge = -max(SLACK, _t(LAST if n >= rules.pairs else LOOK, WEIGHT + n - 1) * _error([b - a for a, b in pairs]))
    ended = State.STANDS if n >= rules.pairs else State.RUNS
    return Finding(State.BELOW if n >= 2 and new - old < edge else ended, n, old, new, new - old, edge)


def _pairs(version: str, sums: Mapping[int, Sums], *, since: float, now: float, rules: Rules) -> list[tuple[float, float]]:
    """(old, new) mean rewards of each pair that is over and has requests enough, at most as many as are wanted."""
    first, end = math.ceil((since + LAG_S) / rules.window_s), window_at(now, rules) - 1  # a window's requests have another one to end in
    found = []
    for pair in range(-(-first // 2), end // 2):
        here = [sums.get(window, Sums()) for window in (2 * pair, 2 * pair + 1)]
        if min(s.n for s in here) >= rules.least:
            old, new = reversed(here) if is_new(version, 2 * pair) else here
            found.append((old.mean, new.mean))
    return found[: max(rules.pairs, 1)]


def _error(differences: list[float]) -> float:
    """Standard error of their mean, with the assumed deviation mixed in."""
    n = len(differences)
    mean = sum(differences) / n
    spread = sum((d - mean) ** 2 for d in differences)
    return math.sqrt((WEIGHT * DEVIATION**2 + spread) / (WEIGHT + n - 1) / n)


def _t(p: float, freedom: float) -> float:
    """Student's t that is exceeded with probability p (Cornish and Fisher's expansion; within 3 % from 4 degrees of freedom on)."""
    z = NormalDist().inv_cdf(1 - p)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
