"""Lines of a log seen again by what is believed now: what a network would have read, and what each action would have been expected to earn.

What was seen of the fleet stays (requests, tokens, reports, prices); constants, qualities and lengths are those of now. A pace was a ratio
to the predictions of then; it becomes the ratio to those of now, so that what was observed stays what it was.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bestserve.policy.books import PACE_BOUND
from bestserve.policy.encode import N_FEATURES, P_ON_TIME, PAY, PRICE, QUALITY, WORK, Seen, observe, speed, worth_of
from bestserve.policy.facts import Backend, Constants, Floats, Ints, knowledge_of
from bestserve.policy.heuristics import explore_into
from bestserve.policy.inputs import context_of, rows_of
from bestserve.policy.numeric import Column
from bestserve.policy.policies import Mind, Scratch, allowed_of, think
from bestserve.policy.record import Line, from_bytes

from .outcomes import MOST, Outcomes, blank, of_parts

PACE = math.exp(PACE_BOUND)
"""A pace is at most this, and at least one over it."""


class Belief(NamedTuple):
    """What is believed of a fleet."""

    backends: tuple[Backend, ...]
    constants: Constants
    knowledge: Floats

    @classmethod
    def of(cls, backends: Sequence[Backend]) -> "Belief":
        """By their profiles."""
        return cls(tuple(backends), Constants.of(tuple(backends)), knowledge_of(tuple(backends)))


def fits(line: Line, belief: Belief) -> bool:
    """Whether a line is of that fleet, and holds all that was encoded."""
    names = [backend.name for backend in belief.backends]
    return line.seen is not None and line.view["backends"] == names and len(line.decision["mask"]) - 1 <= MOST - 1


def seen_again(line: Line, belief: Belief) -> Seen:
    """What the decision would see, by what is believed now."""
    seen = line.seen
    assert seen is not None
    limits = {"max_running": seen.constants.max_running, "kv_capacity": seen.constants.kv_capacity}  # as the backends themselves said
    now = seen._replace(constants=belief.constants._replace(**limits), worth=worth_of(belief.knowledge, np.array(line.ask.task)).tolist())
    ratios = [_ratios(seen, now, b) for b in range(len(seen.able))]
    first, each = ([_within(ratio[k] * pace[b]) for b, ratio in enumerate(ratios)] for k, pace in enumerate(_paces(seen)))
    return now._replace(fleet=seen.fleet._replace(pace_first=first, pace_each=each))


def _paces(seen: Seen) -> tuple[Column, Column]:
    return seen.fleet.pace_first, seen.fleet.pace_each


def _ratios(before: Seen, after: Seen, b: int) -> tuple[float, float]:
    """How many times as long as after something was predicted to take before: a first token, and each."""
    then, now = (speed(seen.asked, seen.fleet, seen.constants, b, seen.cached[b])[:2] for seen in (before, after))
    return then[0] / max(now[0], 1e-9), then[1] / max(now[1], 1e-9)


def _within(pace: float) -> float:
    return min(max(pace, 1 / PACE), PACE)


class Again(NamedTuple):
    """P decisions of a log, by what is believed now. A is the most actions of any of them."""

    which: Ints  # (P,) places among the lines that were given: those that fit
    then: Floats  # (P, A) probabilities with which each action was chosen
    worth: Floats  # (P, A) what each is expected to earn, of Shed nothing, like the next two
    price: Floats  # (P, A) of the work that it takes
    pay: Floats  # (P, A) what it costs to pay for it
    weight: Floats  # (P,)
    outcomes: Outcomes  # without what came of them


def again(lines: Sequence[bytes], belief: Belief) -> Again:
    """See Records again, as they stand in a log. Those that do not fit (`fits`) are left out."""
    every = [from_bytes(line) for line in lines]
    which = [i for i, line in enumerate(every) if fits(line, belief)]
    fitting = [every[i] for i in which]
    sizes = [len(line.decision["mask"]) for line in fitting]
    p, n = len(fitting), max(sizes, default=1)
    then, worth, price, pay = np.zeros((4, p, n))
    outcomes = blank(p)
    for i, (line, k) in enumerate(zip(fitting, sizes, strict=True)):
        seen = seen_again(line, belief)
        observation = observe(seen)
        x, mask = observation.features, observation.mask
        f = np.array(x).reshape(k - 1, N_FEATURES)
        then[i, :k] = line.decision["probabilities"]
        worth[i, : k - 1], price[i, : k - 1], pay[i, : k - 1] = f[:, QUALITY] * f[:, P_ON_TIME], f[:, PRICE] * f[:, WORK], f[:, PAY]
        rows = rows_of(seen, x, mask)
        outcomes.rows[i, :k], outcomes.context[i] = rows, context_of(seen, rows, x, mask)
        outcomes.allowed[i, :k] = allowed_of(mask)
    outcomes.action[:] = [line.decision["index"] for line in fitting]
    outcomes.sent[:] = outcomes.action != np.array(sizes, dtype=np.int64) - 1
    weight = np.array([line.ask.weight for line in fitting])
    return Again(np.array(which, dtype=np.int64), then, worth, price, pay, weight, outcomes)


def together(pieces: Sequence[Again], begins: Sequence[int]) -> Again:
    """What was seen of parts of some lines, each of which began at one of `begins`."""
    n = max(piece.then.shape[1] for piece in pieces)
    return Again(
        which=np.concatenate([piece.which + begin for piece, begin in zip(pieces, begins, strict=True)]),
        then=_together([piece.then for piece in pieces], n),
        worth=_together([piece.worth for piece in pieces], n),
        price=_together([piece.price for piece in pieces], n),
        pay=_together([piece.pay for piece in pieces], n),
        weight=np.concatenate([piece.weight for piece in pieces]),
        outcomes=of_parts(np.concatenate(parts) for parts in zip(*(piece.outcomes for piece in pieces), strict=True)),
    )


def _together(tables: Sequence[Floats], n: int) -> Floats:
    """One below the other, n wide."""
    return np.concatenate([np.pad(table, ((0, 0), (0, n - table.shape[1]))) for table in tables])


def chances(lines: Sequence[bytes], belief: Belief, mind: Mind, n_actions: int, explore: float = 0.0) -> Floats:
    """The probability (P, n_actions) of each action under a policy that explores so much, of lines that fit."""
    made = np.zeros((len(lines), n_actions))
    for i, line in enumerate(lines):
        seen = seen_again(from_bytes(line), belief)
        observation = observe(seen)
        scratch = Scratch.of(len(seen.able), len(seen.caps.tokens))._replace(x=list(observation.features), mask=list(observation.mask))
        p = [0.0] * len(observation.mask)
        think(mind, scratch, seen, p)
        if explore > 0.0:
            explore_into(p, observation.features, observation.mask, observation.weight, explore)
        made[i, : len(p)] = p
    return made
