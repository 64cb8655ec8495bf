"""A request like most: what is asked of a fleet that has seen none yet."""

from bestserve.policy import task
from bestserve.policy.encode import Observation, encode
from bestserve.policy.facts import Ask
from bestserve.policy.fleet import Fleet

from .config import Config

PROMPT = 1020  # tokens: the median of Azure's 2023 conversation trace (AzurePublicDataset, CC-BY 4.0)


def ask(config: Config) -> Ask:
    """It may go to any backend."""
    return Ask(
        endpoint="chat",
        model="",
        allowed=frozenset(backend.name for backend in config.backends),
        stream=True,
        prompt_tokens=PROMPT,
        max_tokens=None,
        n=1,
        needs=frozenset(),
        task=task.prior(),
        length=task.length(),
        slo=config.slo_for("default"),
        tier="default",
        weight=1.0,
        usd_weight=config.policy.usd_weight,
    )


def observation(config: Config) -> Observation:
    """What it would meet on the idle fleet."""
    return encode(ask(config), Fleet(config.facts()).view(0.0), config.budgets)
