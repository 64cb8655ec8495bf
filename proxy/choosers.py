"""Who decides, as a config says: a learned policy where one can be read, else the rule that takes its place."""

from pathlib import Path

from bestserve.policy import heuristics
from bestserve.policy.actor import Actor
from bestserve.policy.decide import Chooser
from bestserve.policy.facts import Action, Budget

from . import checkpoints


def ruled(name: str, actions: tuple[Action, ...], budgets: tuple[Budget, ...], explore: float = 0.0) -> Chooser:
    """A reference policy."""
    return Chooser(name, heuristics.by_name(name, actions), actions, budgets, explore)


def learned(path: Path, actions: tuple[Action, ...], budgets: tuple[Budget, ...], explore: float = 0.0) -> Chooser:
    """A checkpoint's policy. Raises BadCheckpoint."""
    actor = Actor(checkpoints.load(path))
    return Chooser(actor.name, actor, actions, budgets, explore)
