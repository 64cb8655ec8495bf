"""(Outcome, what was asked) -> what the answer was worth. The only reward there is.

    r = weight * quality * g(latency, SLO)

g is 1 inside the SLO and, if it is hard, 0 outside; a soft one decays with the lateness. A client that went away is a miss. A shed
earns a small constant: it must beat serving late, and lose to serving anything on time.
"""

from dataclasses import dataclass
from operator import mul

from bestserve.profiles.schema import Profile

from .encode import CUT_WORTH, WHOLE_ONLY
from .facts import SLO, TASKS, Ask, Ending, Outcome

KEPT_BY_A_CUT = tuple(0.0 if task in WHOLE_ONLY else CUT_WORTH for task in TASKS)
"""What of each task's quality an answer keeps that was cut."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The weights that make an Outcome into a number."""

    shed: float = 0.02  # what a shed earns, as a share of an answer of quality 1
    soft_s: float = 1.0  # a soft SLO that is missed by this much (relative to the deadline) is worth 1/e


def reward(outcome: Outcome, ask: Ask, profile: Profile | None, objective: Objective = Objective()) -> float:
    """What one finished request was worth. `profile` is of the backend that answered; None for a Shed."""
    if outcome.ending is Ending.SHED or profile is None:
        return ask.weight * objective.shed
    if outcome.ending is not Ending.DONE:
        return 0.0
    return ask.weight * quality(outcome, ask, profile) * timeliness(outcome, ask.slo, objective)


def quality(outcome: Outcome, ask: Ask, profile: Profile) -> float:
    """Expected quality of a finished answer over the task's probabilities, in [0, 1]."""
    whole = map(mul, ask.task, map(profile.quality.__getitem__, TASKS))
    return float(sum(map(mul, whole, KEPT_BY_A_CUT) if outcome.cut else whole))


def timeliness(outcome: Outcome, slo: SLO, objective: Objective = Objective()) -> float:
    """g: 1 when every deadline that binds was met; else 0 if hard, or exp(-relative lateness / soft_s)."""
    late = lateness(outcome, slo)
    if late <= 0:
        return 1.0
    return 0.0 if slo.hard else float(2.718281828459045 ** (-late / objective.soft_s))


def lateness(outcome: Outcome, slo: SLO) -> float:
    """The worst relative overrun of a deadline: 0.5 is half as long again as allowed; at most 0 when all were met."""
    return max((took / deadline - 1.0 for took, deadline in _against(outcome, slo)), default=0.0)


def is_on_time(outcome: Outcome, slo: SLO) -> bool:
    """Whether an answer arrived whole and met its SLO."""
    return outcome.ending is Ending.DONE and lateness(outcome, slo) <= 0


def _against(outcome: Outcome, slo: SLO) -> list[tuple[float, float]]:
    """(seconds taken, seconds allowed) for each deadline that binds and could be measured.

    An answer that was not streamed shows no first token; it is held to the time that first token and tokens may take together.
    """
    tokens = outcome.completion_tokens or 0
    pairs: list[tuple[float | None, float | None]] = [(outcome.total_s, slo.e2e_s)]
    if outcome.ttft_s is not None:
        pairs.append((outcome.ttft_s, slo.ttft_s))
        if tokens > 1:
            pairs.append(((outcome.total_s - outcome.ttft_s) / (tokens - 1), slo.tpot_s))
    elif slo.ttft_s is not None and slo.tpot_s is not None:
        pairs.append((outcome.total_s, slo.ttft_s + slo.tpot_s * tokens))
    return [(took, allowed) for took, allowed in pairs if took is not None and allowed is not None]
