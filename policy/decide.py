"""mask -> score -> choose: one ask and one picture of the fleet become a Decision.

The mask is physics (`encode.who_can`), the score is a Policy's, the choice is made by a number drawn elsewhere. Nothing is done here.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from .calibration import Calibration
from .encode import ENCODER, N_FEATURES, SURE_SHARE, TOKENS, Observation, admitted, encode
from .facts import Action, Ask, Backend, Budget, Decision, FleetView
from .heuristics import Policy, explored
from .numeric import Column, numeric


@dataclass(frozen=True, slots=True)
class Chooser:
    """A policy with what it chooses among. Replaced whole when config or checkpoint change."""

    name: str  # of the policy, with its version: stands in headers, metrics and records
    policy: Policy
    actions: tuple[Action, ...]  # (A,), as `actions_of` the fleet and these budgets
    budgets: tuple[Budget, ...]
    explore: float = 0.0
    calibration: Calibration = field(default_factory=dict)  # what is to be believed of backends while it decides
    settled: frozenset[str] = frozenset()  # service tiers in which nothing is explored


def actions_of(backends: tuple[Backend, ...], budgets: tuple[Budget, ...]) -> tuple[Action, ...]:
    """The (A,) candidates of a fleet: backend-major, Shed last."""
    return (*(Action(b.name, budget) for b in backends for budget in budgets), Action(None))


def decide(
    ask: Ask,
    view: FleetView,
    chooser: Chooser,
    cached: Column | None = None,
    *,
    draw: float,
    id: str,  # noqa: A002
) -> tuple[Decision, Observation]:
    """Choose. `cached` is as in `encode`; `draw` is uniform in [0, 1).

    When nobody can answer, the mask leaves Shed alone and Shed is the decision.
    """
    observation = encode(ask, view, chooser.budgets, cached)
    explore = 0.0 if ask.tier in chooser.settled else chooser.explore
    probabilities, floor = explored(chooser.policy(observation), observation, explore)
    index, actions = choose(probabilities, draw), chooser.actions
    tokens = 0.0 if index == len(actions) - 1 else observation.features[index * N_FEATURES + TOKENS] * ask.n
    decision = Decision(
        id=id,
        at=view.now,
        action=actions[index],
        index=index,
        actions=actions,
        mask=observation.mask,
        probabilities=probabilities,
        floor=floor,
        policy=chooser.name,
        encoder=ENCODER,
        observation=observation,
        prompt_tokens=ask.prompt_tokens,
        expected_tokens=tokens,
    )
    return decision, observation


@numeric
def choose(probabilities: Column, draw: float) -> int:
    """The index at which the running sum of the probabilities passes `draw`: never one of probability zero."""
    passed, last = 0.0, 0
    for a in range(len(probabilities)):
        if probabilities[a] > 0.0:
            passed, last = passed + probabilities[a], a
            if draw < passed:
                return a
    return last


class Lack(StrEnum):
    """Why nobody could be asked."""

    ABILITY = "ability"  # no backend of that model can do what the request's fields call for
    CONTEXT = "context"  # none has room for prompt and answer
    UP = "up"  # those that could are down, or have refused


def why_nobody(ask: Ask, view: FleetView, budgets: tuple[Budget, ...]) -> Lack | None:
    """Why the mask leaves only Shed; None when it does not."""
    able = [i for i, can in enumerate(admitted(ask.allowed, ask.needs, view.backends)) if can]
    room = [i for i in able if SURE_SHARE * ask.prompt_tokens + _least(ask, budgets) <= view.constants.context[i]]
    if not able:
        return Lack.ABILITY
    if not room:
        return Lack.CONTEXT
    return None if any(view.columns.usable[i] for i in room) else Lack.UP


def _least(ask: Ask, budgets: tuple[Budget, ...]) -> int:
    """The fewest tokens of answer that may be asked for under any budget: its cap, or one where there is none."""
    caps = (min(cap for cap in (ask.max_tokens, b.tokens, _ANY) if cap is not None) for b in budgets)
    return min((1 if cap == _ANY else cap for cap in caps), default=1)


_ANY = 10**12


def retry_after_s(observation: Observation, draw: float) -> float:
    """When it may be worth trying again: about the shortest wait now, spread by `draw` in [0, 1) so that clients do not return as one."""
    shortest = min(observation["ttft_s"], default=SOONEST_S)
    return min(max(shortest, SOONEST_S), LATEST_S) * (0.75 + 0.5 * draw)


SOONEST_S, LATEST_S = 0.5, 30.0
