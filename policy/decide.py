"""mask -> score -> choose: one ask and one picture of the fleet become a Decision.

The mask is physics (`encode.who_can`), the score is a Policy's, the choice is made by a number drawn elsewhere. Nothing is done here.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .encode import ENCODER, Observation, admitted, encode, fits, ladder_of
from .facts import Action, Ask, Backend, Budget, Decision, FleetView, Floats
from .heuristics import Policy, explored


@dataclass(frozen=True, slots=True)
class Chooser:
    """A policy with what it chooses among. Replaced whole when config or checkpoint change."""

    name: str  # of the policy, with its version: stands in headers, metrics and records
    policy: Policy
    actions: tuple[Action, ...]  # (A,), as `actions_of` the fleet and these budgets
    budgets: tuple[Budget, ...]
    explore: float = 0.0


def actions_of(backends: tuple[Backend, ...], budgets: tuple[Budget, ...]) -> tuple[Action, ...]:
    """The (A,) candidates of a fleet: backend-major, Shed last."""
    return (*(Action(b.name, budget) for b in backends for budget in budgets), Action(None))


def decide(ask: Ask, view: FleetView, chooser: Chooser, *, draw: float, id: str) -> tuple[Decision, Observation]:  # noqa: A002
    """Choose. `draw` is uniform in [0, 1).

    When nobody can answer, the mask leaves Shed alone and Shed is the decision.
    """
    observation = encode(ask, view, chooser.budgets)
    probabilities = explored(chooser.policy(observation), observation, chooser.explore)
    index, actions = choose(probabilities, draw), chooser.actions
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
        seen=observation,
        prompt_tokens=ask.prompt_tokens,
        expected_tokens=tokens,
    )
    return decision, observation


def choose(probabilities: Floats, draw: float) -> int:
    """The index at which the running sum of the probabilities passes `draw`: never one of probability zero."""
    surest = int(probabilities.argmax())
    if probabilities[surest] == 1.0:  # nearly always, for a heuristic
        return surest
    index = int(probabilities.cumsum().searchsorted(draw, side="right"))
    return index if index < len(probabilities) else int(np.flatnonzero(probabilities)[-1])


class Lack(StrEnum):
    """Why nobody could be asked."""

    ABILITY = "ability"  # no backend of that model can do what the request's fields call for
    CONTEXT = "context"  # none has room for prompt and answer
    UP = "up"  # those that could are down, or have refused


def why_nobody(ask: Ask, view: FleetView, budgets: tuple[Budget, ...]) -> Lack | None:
    """Why the mask leaves only Shed; None when it does not."""
    able = admitted(ask.allowed, ask.needs, view.backends)
    room = fits(ask, view, ladder_of(ask.length, ask.max_tokens, budgets)).any(axis=-1)
    if not able.any():
        return Lack.ABILITY
    if not (able & room).any():
        return Lack.CONTEXT
    return None if (able & room & view.usable).any() else Lack.UP


def retry_after_s(observation: Observation, draw: float) -> float:
    """When it may be worth trying again: about the shortest wait now, spread by `draw` in [0, 1) so that clients do not return as one."""
    shortest = float(observation["ttft_s"].min()) if observation["ttft_s"].size else SOONEST_S
    return min(max(shortest, SOONEST_S), LATEST_S) * (0.75 + 0.5 * draw)


SOONEST_S, LATEST_S = 0.5, 30.0
