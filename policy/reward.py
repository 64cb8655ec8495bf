"""(Outcome, what was asked) -> what the answer was worth. The only reward there is.

    r = weight * quality * g(latency, SLO) - usd_weight * usd

g is 1 inside the SLO and, if it is hard, 0 outside; a soft one decays with the lateness. A client that went away is a miss. usd is what
was paid to others, whether an answer came of it or not. A shed earns a small constant: it must beat serving late, and lose to serving
anything on time that is worth its price.
"""

import math
from dataclasses import dataclass
from operator import mul

from bestserve.profiles.schema import Profile

from .encode import limits
from .facts import SLO, TASKS, Ask, Ending, Outcome
from .numeric import numeric


@dataclass(frozen=True, slots=True)
class Objective:
    """The weights that make an Outcome into a number."""

    shed: float = 0.02  # what a shed earns, as a share of an answer of quality 1
    soft_s: float = 1.0  # a soft SLO that is missed by this much (relative to the deadline) is worth 1/e


def reward(outcome: Outcome, ask: Ask, profile: Profile | None, objective: Objective = Objective(), *, told: bool = False) -> float:
    """What one finished request was worth. `profile` is of the backend that answered; None for a Shed. `told`: it was asked to be short."""
    if outcome.ending is Ending.SHED or profile is None:
        return ask.weight * objective.shed
    paid = ask.usd_weight * outcome.usd
    if outcome.ending is not Ending.DONE:
        return -paid
    return ask.weight * quality(outcome, ask, profile, told=told) * timeliness(outcome, ask.slo, objective) - paid


def quality(outcome: Outcome, ask: Ask, profile: Profile, *, told: bool = False) -> float:
    """Expected quality of a finished answer over the task's probabilities, in [0, 1]."""
    effect = profile.budget_effect
    worth = map(mul, ask.task, map(profile.quality.__getitem__, TASKS))
    if told:
        worth = map(mul, worth, map(effect.kept_when_concise.__getitem__, TASKS))
    if outcome.cut:
        worth = map(mul, worth, map(effect.kept_when_cut.__getitem__, TASKS))
    return float(sum(worth))


def timeliness(outcome: Outcome, slo: SLO, objective: Objective = Objective()) -> float:
    """g: 1 when every deadline that binds was met; else 0 if hard, or exp(-relative lateness / soft_s)."""
    return worth_when(lateness(outcome, slo), slo.hard, objective.soft_s)


def lateness(outcome: Outcome, slo: SLO) -> float:
    """The worst relative overrun of a deadline: 0.5 is half as long again as allowed; at most 0 when all were met."""
    ttft = math.nan if outcome.ttft_s is None else outcome.ttft_s
    return late_by(ttft, outcome.total_s, float(outcome.completion_tokens or 0), *limits(slo))


def is_on_time(outcome: Outcome, slo: SLO) -> bool:
    """Whether an answer arrived whole and met its SLO."""
    return outcome.ending is Ending.DONE and lateness(outcome, slo) <= 0


@numeric
def worth_when(late: float, hard: bool, soft_s: float) -> float:
    """The share of its quality that an answer keeps which was so late."""
    if late <= 0.0:
        return 1.0
    return 0.0 if hard else math.exp(-late / soft_s)


@numeric
def late_by(ttft_s: float, total_s: float, tokens: float, first_s: float, each_s: float, whole_s: float) -> float:
    """The worst relative overrun of the deadlines for first token, each token and the whole (inf: does not bind), at most 0 when met.

    An answer that was not streamed shows no first token (nan); it is held to the time that first token and tokens may take together.
    """
    late = total_s / whole_s - 1.0
    if math.isnan(ttft_s):
        return max(late, total_s / (first_s + each_s * tokens) - 1.0)
    late = max(late, ttft_s / first_s - 1.0)
    return max(late, (total_s - ttft_s) / (tokens - 1.0) / each_s - 1.0) if tokens > 1.0 else late
