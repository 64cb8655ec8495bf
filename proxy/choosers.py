"""Who decides: a learned policy where one can be read, else the rule that takes its place."""

from dataclasses import replace

from bestserve.policy import heuristics
from bestserve.policy.actor import Actor
from bestserve.policy.checkpoint import BadCheckpoint, Checkpoint
from bestserve.policy.decide import Chooser, actions_of
from bestserve.policy.facts import Action, Backend, Budget

from . import checkpoints
from .config import Config


def ruled(name: str, actions: tuple[Action, ...], budgets: tuple[Budget, ...]) -> Chooser:
    """A reference policy that explores nothing."""
    return Chooser(name, heuristics.by_name(name, actions), actions, budgets)


def chosen(config: Config, backends: tuple[Backend, ...]) -> tuple[Chooser, str | None]:
    """Who decides where nothing is published; and why the checkpoint does not, where one is named that cannot be used."""
    policy, refusal = config.policy, None
    if policy.checkpoint is not None and policy.checkpoint != "published":
        try:
            return learned(checkpoints.named(policy.checkpoint), config, backends), None
        except BadCheckpoint as error:
            refusal = f"policy.checkpoint: {error}; {policy.fallback} decides"
    return _exploring(ruled(policy.fallback, actions_of(backends, config.budgets), config.budgets), config), refusal


def learned(checkpoint: Checkpoint, config: Config, backends: tuple[Backend, ...]) -> Chooser:
    """A checkpoint's policy on a fleet."""
    actions = actions_of(backends, config.budgets)
    chooser = Chooser(checkpoint.name, Actor(checkpoint), actions, config.budgets, calibration=checkpoint.calibration)
    return _exploring(chooser, config)


def _exploring(chooser: Chooser, config: Config) -> Chooser:
    return replace(chooser, explore=config.policy.explore, settled=config.settled)
