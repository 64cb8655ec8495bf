"""Who decides, as a config says: a learned policy where one can be read, else the rule that takes its place."""

from bestserve.policy import heuristics
from bestserve.policy.actor import Actor
from bestserve.policy.checkpoint import BadCheckpoint
from bestserve.policy.decide import Chooser
from bestserve.policy.facts import Action, Budget

from . import checkpoints
from .config import PolicyConfig


def ruled(name: str, actions: tuple[Action, ...], budgets: tuple[Budget, ...], explore: float = 0.0) -> Chooser:
    """A reference policy."""
    return Chooser(name, heuristics.by_name(name, actions), actions, budgets, explore)


def chosen(policy: PolicyConfig, actions: tuple[Action, ...], budgets: tuple[Budget, ...]) -> tuple[Chooser, str | None]:
    """Who decides; and why the checkpoint does not, where one is named that cannot be used."""
    refusal = None
    if policy.checkpoint is not None:
        try:
            actor = Actor(checkpoints.load(policy.checkpoint))
            return Chooser(actor.name, actor, actions, budgets, policy.explore, actor.checkpoint.calibration), None
        except BadCheckpoint as error:
            refusal = f"policy.checkpoint: {error}; {policy.fallback} decides"
    return ruled(policy.fallback, actions, budgets, policy.explore), refusal
