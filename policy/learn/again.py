"""Lines of a log seen again by what is believed now: what a network would have read, and what each action would have been expected to earn.

What was seen of the fleet stays (requests, tokens, reports, prices); constants, qualities and lengths are those of now. A pace was a ratio
to the predictions of then; it becomes the ratio to those of now, so that what was observed stays what it was.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bestserve.policy.encode import N_FEATURES, P_ON_TIME, PAY, PRICE, QUALITY, TPOT, TTFT, WORK, Observation, Seen, observe, worth_of
from bestserve.policy.facts import Backend, Constants, Floats, Ints, knowledge_of
from bestserve.policy.heuristics import explore_into
from bestserve.policy.inputs import context_of, rows_of
from bestserve.policy.policies import Mind, Scratch, allowed_of, think
from bestserve.policy.record import Line

from .outcomes import MOST, Outcomes, blank

PACE = 8.0
"""A pace is at most this, and at least one over it; as in `books`."""


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
    before, after = observe(seen), observe(now._replace(fleet=seen.fleet))
    n_budgets = len(seen.caps.tokens)
    paces: dict[str, Any] = {
        name: [
            min(max(pace * _ratio(before, after, b * n_budgets * N_FEATURES + feature), 1 / PACE), PACE)
            for b, pace in enumerate(getattr(seen.fleet, name))
        ]
        for name, feature in (("pace_first", TTFT), ("pace_each", TPOT))
    }
    return now._replace(fleet=seen.fleet._replace(**paces))


def _ratio(before: Observation, after: Observation, at: int) -> float:
    return before.features[at] / max(after.features[at], 1e-9)


class Again(NamedTuple):
    """P decisions of a log, by what is believed now. A is the most actions of any of them."""

    logged: Ints  # (P,) the action that was taken
    then: Floats  # (P, A) probabilities with which each was chosen
    features: Floats  # (P, A, 6): worth, price of the work, pay, quality, chance to be on time, work; of Shed, nothing
    mask: Floats  # (P, A)
    weight: Floats  # (P,)
    outcomes: Outcomes  # without what came of them
    seen: list[Seen]


def again(lines: Sequence[Line], belief: Belief) -> Again:
    """See some lines again. All of them must fit (`fits`)."""
    n = max((len(line.decision["mask"]) for line in lines), default=1)
    p = len(lines)
    made = Again(
        np.array([line.decision["index"] for line in lines], dtype=np.int64),
        np.zeros((p, n)),
        np.zeros((p, n, 6)),
        np.zeros((p, n)),
        np.array([line.ask.weight for line in lines]),
        blank(p),
        [],
    )
    for i, line in enumerate(lines):
        seen = seen_again(line, belief)
        observation = observe(seen)
        x, mask, k = observation.features, observation.mask, len(observation.mask)
        f = np.array(x).reshape(k - 1, N_FEATURES)
        made.then[i, :k] = line.decision["probabilities"]
        made.features[i, : k - 1] = np.stack(
            (f[:, QUALITY] * f[:, P_ON_TIME], f[:, PRICE] * f[:, WORK], f[:, PAY], f[:, QUALITY], f[:, P_ON_TIME], f[:, WORK]), axis=1
        )
        made.mask[i, :k] = mask
        rows = rows_of(seen, x, mask)
        made.outcomes.rows[i, :k], made.outcomes.context[i] = rows, context_of(seen, rows, x, mask)
        made.outcomes.allowed[i, :k] = allowed_of(mask)
        made.seen.append(seen)
    made.outcomes.action[:] = made.logged
    made.outcomes.sent[:] = made.logged != np.array([len(line.decision["mask"]) - 1 for line in lines])
    return made


def chances(seen: Sequence[Seen], mind: Mind, n_actions: int, explore: float = 0.0) -> Floats:
    """The probability (P, n_actions) of each action under a policy that explores so much."""
    made = np.zeros((len(seen), n_actions))
    for i, each in enumerate(seen):
        observation = observe(each)
        scratch = Scratch.of(len(each.able), len(each.caps.tokens))._replace(x=list(observation.features), mask=list(observation.mask))
        p = [0.0] * len(observation.mask)
        think(mind, scratch, each, p)
        if explore > 0.0:
            explore_into(p, observation.features, observation.mask, observation.weight, explore)
        made[i, : len(p)] = p
    return made
