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
        wanted = _index_of(name.removeprefix("static:"), actions)
        return static(wanted, np.array([action.backend == actions[int(np.argmax(wanted))].backend for action in actions]))
    if name not in _PLAIN:
        raise ValueError(f"{name!r} is not a policy; there are static:BACKEND[@BUDGET], {', '.join(_PLAIN)}")
    return _PLAIN[name]


def static(wanted: Mask, same: Mask) -> Policy:
    """Always one backend and budget, (A,) True there; else what the mask allows of the same backend; anything else only when that
    one cannot answer."""

    def policy(observation: Observation) -> Floats:
        allowed = observation.mask[:-1]
        return _share(next((here for here in (wanted[:-1] & allowed, same[:-1] & allowed) if here.any()), allowed))

    return policy


def random(observation: Observation) -> Floats:
    """Every allowed action that asks somebody, alike."""
    return _share(observation.mask[:-1])


def least_loaded(observation: Observation) -> Floats:
    """The backend with the smallest share of its places taken; of its budgets the one that cuts least."""
    return _share(_most(observation["tokens"], _most(-observation["load"], observation.mask[:-1])))


def deadline_greedy(observation: Observation) -> Floats:
    """The best answer that is likely on time; when none is, the one most likely to be, or the soonest (SlackFit's rule)."""
    asking, on_time, quality = observation.mask[:-1], observation["p_on_time"], observation["quality"]
    fitting = asking & (on_time >= FITS)
    if np.count_nonzero(fitting):
        best = _most(quality, fitting)
        return _share(best if np.count_nonzero(best) == 1 else _most(on_time, best))
    return _share(_most(-observation["latency_s"], _most(on_time, asking)))


def weighted_score(observation: Observation, weights: Weights = Weights()) -> Floats:
    """Quality against latency against money, as in RouteBalance (arXiv 2606.17949)."""
    asking = observation.mask[:-1]
    score = (
        weights.quality * _scaled(observation["quality"], asking)
        - weights.latency * _scaled(observation["latency_s"], asking)
        - weights.money * _scaled(observation["usd"], asking)
    )
    return _share(_most(score, asking))


def bid_price(observation: Observation) -> Floats:
    """What an action is worth on time, less the price of the backend's time that it takes; Shed when nothing is worth its price."""
    asking = observation.mask[:-1]
    value = observation.weight * observation["quality"] * observation["p_on_time"]
    score = value - observation["price"] * observation["work_s"]
    return _share(_most(score, asking & (score >= SHED_BELOW * observation.weight)))


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


def _most(values: Floats, among: Mask) -> Mask:
    """Those of `among` (A - 1,) with the largest of `values` (A - 1,)."""
    most: Mask = (values == np.maximum.reduce(values, initial=-np.inf, where=among)) & among
    return most


def _scaled(values: Floats, among: Mask) -> Floats:
    inside = values[among]
    span = np.ptp(inside) if inside.size else 0.0
    scaled: Floats = (values - inside.min()) / span if span else np.zeros_like(values)
    return scaled


def _share(chosen: Mask) -> Floats:
    """Probabilities (A,), alike over the chosen (A - 1,) actions that ask somebody; all on Shed when none is chosen."""
    probabilities = np.zeros(len(chosen) + 1)
    n = np.count_nonzero(chosen)
    if n:
        probabilities[:-1][chosen] = 1.0 / n
    else:
        probabilities[-1] = 1.0
    return probabilities


def explored(probabilities: Floats, observation: Observation, explore: float) -> Floats:
    """(1 - explore) of a policy and `explore` uniform over the actions that are likely on time; unchanged when none is."""
    if not explore:
        return probabilities
    worth = observation.mask[:-1] & (observation["p_on_time"] >= FITS)
    mixed: Floats = (1.0 - explore) * probabilities + explore * _share(worth)
    return mixed if worth.any() else probabilities
