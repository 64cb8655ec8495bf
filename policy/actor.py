"""The learned policy, live: an Observation in, the probability of every action out."""

import math

from .checkpoint import Checkpoint
from .encode import Observation
from .numeric import Column
from .policies import act


class Actor:
    """A checkpoint that decides. Never changes."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.name = checkpoint.name

    def __call__(self, observation: Observation) -> Column:
        """The probability of each action, (A,). Raises ArithmeticError when what comes out is no number."""
        p = [0.0] * len(observation.mask)
        act(self.checkpoint.network, self.checkpoint.parameters, observation.features, observation.mask, observation.seen, p)
        if not math.isfinite(sum(p)):
            raise ArithmeticError(f"{self.name} gives no probabilities")
        return p
