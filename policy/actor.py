"""The learned policy, live: an Observation in, the probability of every action out.

Plain Python says what that is (`policies.act`); where there was a compiler when the package was built, `_actor.c` works it out, to 1e-9.
What it finds odd it leaves to plain Python: numbers that are none, or whose logarithm is.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from .checkpoint import PARAMETERS, Checkpoint
from .encode import FEATURES, Asked, Caps, Observation, Seen
from .facts import Columns, Constants
from .inputs import CONTEXT, FAR, INPUTS, ROW
from .network import NEVER, TEMPERATURE, WIDTH
from .numeric import Column, Flags
from .policies import act

LAYOUT = (
    (INPUTS, WIDTH, FAR, TEMPERATURE, NEVER),
    *(ROW, CONTEXT, FEATURES, PARAMETERS),
    *(Seen._fields, Asked._fields, Caps._fields, Columns._fields, Constants._fields),
)
"""What compiled code has to have been written for."""


class Acting(Protocol):
    """Acts by one network. Made of its weights as doubles, one array after another, and its parameters."""

    def act(self, features: Column, mask: Flags, seen: Seen) -> list[float] | None:
        """The probability of each action, (A,); None where plain Python has to say what comes of it."""
        ...


Compiled: Callable[[bytes, tuple[float, ...]], Acting] | None = None
try:
    from . import _actor
except ImportError:  # built where there was no compiler
    pass
else:
    if _actor.LAYOUT == LAYOUT:  # else it was built from an older source
        Compiled = _actor.Actor


class Actor:
    """A checkpoint that decides. Never changes."""

    def __init__(self, checkpoint: Checkpoint, *, compiled: bool = True) -> None:
        self.checkpoint = checkpoint
        self.name = checkpoint.name
        self._quick = _quick(checkpoint) if compiled else None

    @property
    def compiled(self) -> bool:
        """Whether compiled code decides."""
        return self._quick is not None

    def __call__(self, observation: Observation) -> Column:
        """The probability of each action, (A,). Raises ArithmeticError when what comes out is no number."""
        p = self._quick(observation.features, observation.mask, observation.seen) if self._quick is not None else None
        return self._plain(observation) if p is None else p

    def _plain(self, observation: Observation) -> Column:
        p = [0.0] * len(observation.mask)
        act(self.checkpoint.network, self.checkpoint.parameters, observation.features, observation.mask, observation.seen, p)
        if not math.isfinite(sum(p)):
            raise ArithmeticError(f"{self.name} gives no probabilities")
        return p


def _quick(checkpoint: Checkpoint) -> Callable[[Column, Flags, Seen], list[float] | None] | None:
    """What acts compiled; None where nothing is compiled, or a weight is no number."""
    weights = [np.asarray(array, dtype=np.float64) for array in checkpoint.network]
    if Compiled is None or not all(np.isfinite(array).all() for array in weights):
        return None
    return Compiled(b"".join(array.tobytes() for array in weights), checkpoint.parameters).act
