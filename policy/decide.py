"""mask -> score -> choose: one ask and one picture of the fleet become a Decision.

The mask is physics (`encode.who_can`), the score is a Policy's, the choice is made by a number drawn elsewhere. Nothing is done here.
"""

from dataclasses import dataclass

import numpy as np

from .encode import ENCODER, Observation, encode
from .facts import Action, Ask, Backend, Budget, Decision, FleetView
from .heuristics import Policy, explored


@dataclass(frozen=True, slots=True)
class Chooser:
    """A policy with what it chooses among. Replaced whole when config or checkpoint change."""

    name: str  # of the policy, with its version: stands in headers, metrics and records
    policy: Policy
    budgets: tuple[Budget, ...]
    explore: float = 0.0


def actions_of(backends: tuple[Backend, ...], budgets: tuple[Budget, ...]) -> tuple[Action, ...]:
    """The (A,) candidates of a fleet: backend-major, Shed last."""
    return (*(Action(b.name, budget) for b in backends for budget in budgets), Action(None))


def decide(
    ask: Ask,
    view: FleetView,
    chooser: Chooser,
    *,
    actions: tuple[Action, ...],
    draw: float,
    id: str,  # noqa: A002
) -> tuple[Decision, Observation]:
    """Choose. `draw` is uniform in [0, 1); `actions` is `actions_of` this fleet and these budgets.

    When nobody can answer, the mask leaves Shed alone and Shed is the decision.
    """
    observation = encode(ask, view, chooser.budgets)
    probabilities = explored(chooser.policy(observation), observation, chooser.explore)
    index = choose(probabilities, draw)
    tokens = 0.0 if index == len(actions) - 1 else float(observation["tokens"][index]) * ask.n
    decision = Decision(
        id=id,
        at=view.now,
        action=actions[index],
        index=index,
        actions=actions,
        mask=observation.mask,
        probabilities=probabilities,
        policy=chooser.name,
        encoder=ENCODER,
        digest=observation.digest(),
        prompt_tokens=ask.prompt_tokens,
        expected_tokens=tokens,
    )
    return decision, observation


def choose(probabilities: np.ndarray, draw: float) -> int:
    """The index at which the running sum of the probabilities passes `draw`: never one of probability zero."""
    index = int(np.searchsorted(np.cumsum(probabilities), draw, side="right"))
    return index if index < len(probabilities) else int(np.flatnonzero(probabilities)[-1])
