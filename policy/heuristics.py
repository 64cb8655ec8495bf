"""The reference policies: what a learned one has to beat, and what answers when there is none.

A policy maps an Observation to the probability of each of its A actions, zero where the mask forbids. It holds no state and throws no
dice: drawing is `decide`'s business, so every choice can be replayed and judged. Ties share their probability.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .encode import Observation
from .facts import Action, Floats, Mask

Policy = Callable[[Observation], Floats]
"""Observation -> probabilities (A,), summing to one over what the mask allows."""

NAMES = ("static", "random", "least-loaded", "deadline-greedy", "weighted-score", "bid-price")

FITS = 0.5
"""Deadline-greedy takes an action that is on time with at least this probability."""

SHED_BELOW = 0.02
"""Bid-price sheds a request whose best action scores less."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Of weighted-score: quality against latency against money, each scaled to [0, 1] over the candidates of one request."""

    quality: float = 0.6
    latency: float = 0.3
    money: float = 0.1


def by_name(name: str, actions: tuple[Action, ...]) -> Policy:
    """The policy that a config names, e.g. `least-loaded` or `static:small@384`. Raises ValueError.

    `actions` are the (A,) candidates of the fleet it will decide for; only static needs them.
    """
    if name.startswith("static:"):
        return static(_index_of(name.removeprefix("static:"), actions))
    if name not in _PLAIN:
        raise ValueError(f"{name!r} is not a policy; there are static:BACKEND[@BUDGET], {', '.join(_PLAIN)}")
    return _PLAIN[name]


def static(wanted: Mask) -> Policy:
    """Always one backend and budget, (A,) True there; anything else the mask allows only when that one cannot answer."""

    def policy(observation: Observation) -> Floats:
        here = wanted & observation.mask
        return _share(here if here.any() else _asking(observation))

    return policy


def random(observation: Observation) -> Floats:
    """Every allowed action that asks somebody, alike."""
    return _share(_asking(observation))


def least_loaded(observation: Observation) -> Floats:
    """The backend with the smallest share of its places taken; of its budgets the one that cuts least."""
    asking = _asking(observation)
    best = _least(observation["load"], asking)
    return _share(_most(observation["tokens"], best))


def deadline_greedy(observation: Observation) -> Floats:
    """The best answer that is likely on time; when none is, the one most likely to be (SlackFit's rule)."""
    asking = _asking(observation)
    on_time = observation["p_on_time"]
    fitting = asking & _padded(on_time >= FITS)
    if fitting.any():
        return _share(_most(on_time, _most(observation["quality"], fitting)))
    return _share(_most(observation["quality"], _most(on_time, asking)))


def weighted_score(observation: Observation, weights: Weights = Weights()) -> Floats:
    """Quality against latency against money, as in RouteBalance (arXiv 2606.17949)."""
    asking = _asking(observation)
    score = (
        weights.quality * _scaled(observation["quality"], asking)
        - weights.latency * _scaled(observation["latency_s"], asking)
        - weights.money * _scaled(observation["usd"], asking)
    )
    return _share(_most(score, asking))


def bid_price(observation: Observation) -> Floats:
    """What an action is worth on time, less the price of the backend's time that it takes; Shed when nothing is worth its price."""
    asking = _asking(observation)
    value = observation.weight * observation["quality"] * observation["p_on_time"]
    score = value - observation["price"] * observation["work_s"]
    if observation.mask[-1] and (not asking.any() or score[asking[:-1]].max() < SHED_BELOW * observation.weight):
        return _share(_only_shed(observation))
    return _share(_most(score, asking))


_PLAIN: dict[str, Policy] = {
    "random": random,
    "least-loaded": least_loaded,
    "deadline-greedy": deadline_greedy,
    "weighted-score": weighted_score,
    "bid-price": bid_price,
}


def _index_of(text: str, actions: tuple[Action, ...]) -> Mask:
    backend, _, budget = text.partition("@")
    wanted = np.array([a.backend == backend and (not budget or a.budget.name == budget) for a in actions])
    if not wanted.any():
        raise ValueError(f"static:{text}: there is no such backend and budget")
    if not budget:  # the first budget listed
        wanted[np.argmax(wanted) + 1 :] = False
    return wanted


def _asking(observation: Observation) -> Mask:
    """The allowed actions that ask somebody, (A,); all of the mask when none does, so that Shed remains."""
    asking = observation.mask.copy()
    asking[-1] = False
    return asking if asking.any() else observation.mask


def _only_shed(observation: Observation) -> Mask:
    shed = np.zeros_like(observation.mask)
    shed[-1] = True
    return shed


def _padded(flags: Mask) -> Mask:
    return np.append(flags, False)


def _most(values: Floats, among: Mask) -> Mask:
    """Those of `among` (A,) with the largest of `values` (A - 1,); `among` itself when it holds only Shed."""
    if not among[:-1].any():
        return among
    candidates = np.where(among[:-1], values, -np.inf)
    return _padded(candidates >= candidates.max() - 1e-12)


def _least(values: Floats, among: Mask) -> Mask:
    return _most(-values, among)


def _scaled(values: Floats, among: Mask) -> Floats:
    inside = values[among[:-1]]
    if not inside.size:
        return values
    span = inside.max() - inside.min()
    scaled: Floats = (values - inside.min()) / span if span else np.zeros_like(values)
    return scaled


def _share(chosen: Mask) -> Floats:
    shared: Floats = chosen / chosen.sum()
    return shared


def explored(probabilities: Floats, observation: Observation, explore: float) -> Floats:
    """(1 - explore) of a policy and `explore` uniform over the actions that are likely on time; unchanged when none is."""
    worth = observation.mask & _padded(observation["p_on_time"] >= FITS)
    if not explore or not worth.any():
        return probabilities
    mixed: Floats = (1.0 - explore) * probabilities + explore * _share(worth)
    return mixed
