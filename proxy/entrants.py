"""Policies by their names on the command line, each with the fleet that it decides for.

Beside the reference policies (`policy.heuristics`) there is static serving: `static-all:BACKEND[@BUDGET]` is the same GPUs all running
that backend's model, the least loaded of them answering. Parameters that `bestserve tune` found take the place of a rule's own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bestserve.policy.calibration import calibrated
from bestserve.policy.checkpoint import BadCheckpoint
from bestserve.policy.decide import actions_of
from bestserve.policy.facts import Action, Backend
from bestserve.policy.heuristics import RULES
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, mind_of
from bestserve.profiles import Profile

from . import checkpoints
from .config_words import near

STATIC_ALL = "static-all"
CHECKPOINT = ".ckpt"
NAMES = (checkpoints.PRETRAINED, *RULES, "static:BACKEND[@BUDGET]", "static-all:BACKEND[@BUDGET]", f"FILE{CHECKPOINT}")

Tuned = Mapping[str, tuple[float, ...]]
"""Policy -> its parameters."""


class BadPolicy(ValueError):
    """A policy that does not exist; the message names what there is."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who decides, and where."""

    name: str
    places: Places
    mind: Mind

    @property
    def actions(self) -> tuple[Action, ...]:
        """What it chooses among, (A,)."""
        return actions_of(self.places.backends, self.places.budgets)


def entrant(name: str, places: Places, tuned: Tuned | None = None) -> Entrant:
    """A policy and its fleet. Raises BadPolicy."""
    kind, _, target = name.partition(":")
    if name.endswith(CHECKPOINT) or name == checkpoints.PRETRAINED:
        return _learned(name, places)
    try:
        if kind == STATIC_ALL:
            rebuilt = _all_running(target, places)
            return Entrant(name, rebuilt, mind_of("least-loaded", rebuilt))
        return Entrant(name, places, mind_of(name, places, (tuned or {}).get(name)))
    except ValueError as error:
        words = [
            checkpoints.PRETRAINED,
            *RULES,
            *(f"{word}:{backend.name}" for word in ("static", STATIC_ALL) for backend in places.backends),
        ]
        hint = near(name, words)
        raise BadPolicy(f"{name!r} is not a policy of this fleet; there are {', '.join(NAMES)}{hint}") from error


def _learned(name: str, places: Places) -> Entrant:
    try:
        checkpoint = checkpoints.named(name)
    except BadCheckpoint as error:
        raise BadPolicy(str(error)) from error
    believed = replace(places, backends=calibrated(places.backends, checkpoint.calibration), true=_true(places))
    return Entrant(Path(name).stem, believed, Mind.of("actor", checkpoint.parameters, checkpoint.network))


def _true(places: Places) -> tuple[Profile, ...]:
    """What was true stays true, whatever is believed of it."""
    return places.true or tuple(backend.profile for backend in places.backends)


def static_all(places: Places) -> list[str]:
    """Every way of static serving, each model once."""
    models = {backend.profile.name: backend.name for backend in reversed(places.backends)}
    return [f"{STATIC_ALL}:{name}@{budget.name}" for name in reversed(models.values()) for budget in places.budgets]


def _all_running(target: str, places: Places) -> Places:
    """The fleet's GPUs, all running one of its backends' model; with a budget, only under that.

    Of some alike, `large` is as good as `large-1`.
    """
    name, at, budget = target.partition("@")
    names = [backend.name for backend in places.backends]
    chosen = [b for said in (names, [re.sub(r"-\d+$", "", one) for one in names]) for b, one in enumerate(said) if one == name]
    budgets = tuple(b for b in places.budgets if not at or b.name == budget)
    if not chosen or not budgets:
        raise ValueError(target)
    b, like = chosen[0], places.backends[chosen[0]]
    n = max(sum(backend.profile.n_gpus for backend in places.backends) // like.profile.n_gpus, 1)
    return Places(
        backends=tuple(_copy(like, i + 1) for i in range(n)),
        budgets=budgets,
        true=places.true[b : b + 1] * n,
        length_factor=places.length_factor[b : b + 1] * n,
        troubles=tuple(replace(trouble, backend=min(trouble.backend, n - 1)) for trouble in places.troubles),
    )


def _copy(backend: Backend, number: int) -> Backend:
    return replace(backend, name=f"{backend.name}-{number}")
