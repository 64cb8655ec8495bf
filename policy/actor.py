"""The learned policy, live: an Observation in, the probability of every action out, and what each would cost the others."""

import math
from typing import NamedTuple

from .checkpoint import Checkpoint
from .encode import Observation
from .numeric import Column
from .policies import act


class Judgement(NamedTuple):
    """What the network says of one request."""

    probabilities: Column  # (A,)
    harm: Column  # (A,): what choosing an action costs all others, in answers of quality 1


class Actor:
    """A checkpoint that decides. Never changes."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.name = checkpoint.name

    def __call__(self, observation: Observation) -> Column:
        """The probability of each action, (A,). Raises ArithmeticError when what comes out is no number."""
        return self.judge(observation).probabilities

    def judge(self, observation: Observation) -> Judgement:
        """With the critic's opinion. Raises ArithmeticError."""
        p = [0.0] * len(observation.mask)
        harm = act(self.checkpoint.network, self.checkpoint.parameters, observation.features, observation.mask, observation.seen, p)
        if not math.isfinite(sum(p)):
            raise ArithmeticError(f"{self.name} gives no probabilities")
        return Judgement(p, harm.tolist())
