"""The reference policies: what a learned one has to beat, and what answers when there is none.

A policy maps an Observation to the probability of each of its A actions, zero where the mask forbids. It holds no state and throws no
dice: drawing is `decide`'s business, so every choice can be replayed and judged. Ties share their probability.

Each reference is a rule that writes a score for every action into cells, -inf where it would not go; `share` turns scores into
probabilities. What can be tuned about a rule is its parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from .encode import LATENCY, LOAD, N_FEATURES, P_ON_TIME, PAY, PRICE, QUALITY, TOKENS, USD, WORK, Observation
from .facts import Action
from .numeric import Cells, Column, Flags, numeric

Policy = Callable[[Observation], Column]
"""Observation -> probabilities (A,), summing to one over what the mask allows."""

Score = Callable[[Column, Flags, float, Column, Cells], None]
"""(features, mask, weight, parameters, scores (A,) to be written): see the rules below."""

NAMES = ("static", "random", "least-loaded", "deadline-greedy", "weighted-score", "bid-price")

FITS = 0.5
"""Deadline-greedy takes an action that is on time with at least this probability."""

SHED_BELOW = 0.02
"""Bid-price sheds a request whose best action scores less."""

PAID_LAST = 1e6
"""More than any load, so that least-loaded asks whom it has to pay after all others."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A reference policy: a way to score, and its parameters."""

    name: str
    score: Score
    parameters: Column = ()

    def __call__(self, observation: Observation) -> Column:
        """The probability of each action, (A,)."""
        cells = [0.0] * len(observation.mask)
        self.score(observation.features, observation.mask, observation.weight, self.parameters, cells)
        share(cells)
        return cells


def by_name(name: str, actions: tuple[Action, ...]) -> Rule:
    """The policy that a config names, e.g. `least-loaded` or `static:small@384`. Raises ValueError.

    `actions` are the (A,) candidates of the fleet it will decide for; only static needs them.
    """
    if name.startswith("static:"):
        index = _index_of(name.removeprefix("static:"), actions)
        same = [i for i, action in enumerate(actions) if action.backend == actions[index].backend]
        return Rule(name, static, (float(index), float(same[0]), float(same[-1])))
    if name not in RULES:
        raise ValueError(f"{name!r} is not a policy; there are static:BACKEND[@BUDGET], {', '.join(RULES)}")
    return RULES[name]


def _index_of(text: str, actions: tuple[Action, ...]) -> int:
    """Of the action that a static route names; of the first budget listed where it names none."""
    backend, _, budget = text.partition("@")
    for i, action in enumerate(actions):
        if action.backend == backend and (not budget or action.budget.name == budget):
            return i
    raise ValueError(f"static:{text}: there is no such backend and budget")


@numeric
def static(x: Column, mask: Flags, weight: float, parameters: Column, scores: Cells) -> None:
    """Always one action; else what the mask allows of the same backend; anything else only when that one cannot answer.

    Parameters: the action, the first and the last one of its backend.
    """
    for a in range(len(scores) - 1):
        here = 2.0 if a == parameters[0] else (1.0 if parameters[1] <= a <= parameters[2] else 0.0)
        scores[a] = here if mask[a] else -math.inf


@numeric
def random(x: Column, mask: Flags, weight: float, parameters: Column, scores: Cells) -> None:
    """Every allowed action that asks somebody, alike."""
    for a in range(len(scores) - 1):
        scores[a] = 0.0 if mask[a] else -math.inf


@numeric
def least_loaded(x: Column, mask: Flags, weight: float, parameters: Column, scores: Cells) -> None:
    """The backend with the smallest share of its places taken, one that is paid for only where no other can; of its budgets the one that
    cuts least."""
    for a in range(len(scores) - 1):
        last = PAID_LAST if x[a * N_FEATURES + PAY] > 0.0 else 0.0
        scores[a] = -x[a * N_FEATURES + LOAD] - last if mask[a] else -math.inf
    among_best(x, TOKENS, scores)


@numeric
def deadline_greedy(x: Column, mask: Flags, weight: float, parameters: Column, scores: Cells) -> None:
    """The best answer that is likely on time; when none is, the one most likely to be, or the soonest (SlackFit's rule). What is paid for
    an answer is taken from its worth, and what is not worth its price is left out.

    Parameters: how likely it must be.
    """
    fits = False
    for a in range(len(scores) - 1):
        i = a * N_FEATURES
        fit = mask[a] and x[i + P_ON_TIME] >= parameters[0] and is_worth(x, i, weight)
        scores[a] = weight * x[i + QUALITY] - x[i + PAY] if fit else -math.inf
        fits = fits or fit
    if fits:
        among_best(x, P_ON_TIME, scores)
        return
    soonest(x, mask, weight, scores)


@numeric
def weighted_score(x: Column, mask: Flags, weight: float, parameters: Column, scores: Cells) -> None:
    """Quality against latency against money, each scaled to [0, 1] over the candidates, as in RouteBalance (arXiv 2606.17949).

    Parameters: the three weights.
    """
    for a in range(len(scores) - 1):
        scores[a] = 0.0 if mask[a] else -math.inf
    add_scaled(x, mask, QUALITY, parameters[0], scores)
    add_scaled(x, mask, LATENCY, -parameters[1], scores)
    add_scaled(x, mask, USD, -parameters[2], scores)


@numeric
def bid_price(x: Column, mask: Flags, weight: float, parameters: Column, scores: Cells) -> None:
    """What an action is worth on time, less the price of the backend's time that it takes and what is paid; Shed when nothing is worth it
    and nobody has time to `spare`.

    Parameters: the least score, and what prices are multiplied by.
    """
    for a in range(len(scores) - 1):
        i = a * N_FEATURES
        score = weight * x[i + QUALITY] * x[i + P_ON_TIME] - parameters[1] * x[i + PRICE] * x[i + WORK] - x[i + PAY]
        scores[a] = score if mask[a] and score >= parameters[0] * weight else -math.inf
    if highest(scores) == -math.inf and spare(x, mask):
        soonest(x, mask, weight, scores)


RULES: dict[str, Rule] = {
    "random": Rule("random", random),
    "least-loaded": Rule("least-loaded", least_loaded),
    "deadline-greedy": Rule("deadline-greedy", deadline_greedy, (FITS,)),
    "weighted-score": Rule("weighted-score", weighted_score, (0.6, 0.3, 0.1)),
    "bid-price": Rule("bid-price", bid_price, (SHED_BELOW, 1.0)),
}
"""With the parameters that they have untuned."""


@numeric
def is_worth(x: Column, i: int, weight: float) -> bool:
    """Whether what is paid for the action whose row begins at i is less than what it is expected to bring; always where nothing is."""
    return x[i + PAY] <= weight * x[i + QUALITY] * x[i + P_ON_TIME]


@numeric
def spare(x: Column, mask: Flags) -> bool:
    """Whether some backend of our own has a place, and a second of it no price: to refuse a request would free nothing that others want."""
    for a in range(len(mask) - 1):
        i = a * N_FEATURES
        if mask[a] and x[i + LOAD] < 1.0 and x[i + PRICE] <= 0.0 and x[i + PAY] <= 0.0:
            return True
    return False


@numeric
def soonest(x: Column, mask: Flags, weight: float, scores: Cells) -> None:
    """Of the actions that are likeliest on time, and worth what is paid for them, score the soonest best."""
    for a in range(len(scores) - 1):
        scores[a] = x[a * N_FEATURES + P_ON_TIME] if mask[a] and is_worth(x, a * N_FEATURES, weight) else -math.inf
    among_best(x, LATENCY, scores)
    for a in range(len(scores) - 1):
        scores[a] = -scores[a] if scores[a] > -math.inf else scores[a]


@numeric
def among_best(x: Column, feature: int, scores: Cells) -> None:
    """Of the actions with the best score, score a feature instead; the others are out."""
    best = highest(scores)
    for a in range(len(scores) - 1):
        scores[a] = x[a * N_FEATURES + feature] if scores[a] == best and best > -math.inf else -math.inf


@numeric
def add_scaled(x: Column, mask: Flags, feature: int, by: float, scores: Cells) -> None:
    """Add a feature, scaled to [0, 1] over what the mask allows; nothing where it is the same everywhere."""
    low, high = math.inf, -math.inf
    for a in range(len(scores) - 1):
        if mask[a]:
            low, high = min(low, x[a * N_FEATURES + feature]), max(high, x[a * N_FEATURES + feature])
    if high > low:
        for a in range(len(scores) - 1):
            scores[a] += by * (x[a * N_FEATURES + feature] - low) / (high - low)


@numeric
def highest(scores: Column) -> float:
    """The best score of an action that asks somebody; -inf when there is none."""
    best = -math.inf
    for a in range(len(scores) - 1):
        if scores[a] > best:
            best = scores[a]
    return best


@numeric
def share(scores: Cells) -> None:
    """Turn scores into probabilities (A,): alike over the best actions that ask somebody; all on Shed when there is none."""
    best, n = highest(scores), 0
    for a in range(len(scores) - 1):
        n += scores[a] == best
    if best == -math.inf:
        n = 0
    for a in range(len(scores) - 1):
        scores[a] = 1.0 / n if n > 0 and scores[a] == best else 0.0
    scores[len(scores) - 1] = 0.0 if n > 0 else 1.0


@numeric
def explore_into(probabilities: Cells, x: Column, mask: Flags, weight: float, explore: float) -> float:
    """Mix a policy's probabilities with even ones over the actions that are likely on time and worth their price, if there are any.

    Returns the floor: the least probability that each of these has now; 0 when there is none.
    """
    n = 0
    for a in range(len(probabilities) - 1):
        n += mask[a] and x[a * N_FEATURES + P_ON_TIME] >= FITS and is_worth(x, a * N_FEATURES, weight)
    if n == 0:
        return 0.0
    for a in range(len(probabilities)):
        probabilities[a] *= 1.0 - explore
    for a in range(len(probabilities) - 1):
        if mask[a] and x[a * N_FEATURES + P_ON_TIME] >= FITS and is_worth(x, a * N_FEATURES, weight):
            probabilities[a] += explore / n
    return explore / n


def explored(probabilities: Column, observation: Observation, explore: float) -> tuple[Column, float]:
    """(1 - explore) of a policy and `explore` uniform over the actions that are likely on time, and their floor; unchanged, and 0, when
    none is."""
    if not explore:
        return probabilities, 0.0
    mixed = list(probabilities)
    floor = explore_into(mixed, observation.features, observation.mask, observation.weight, explore)
    return mixed, floor
