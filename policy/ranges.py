"""Whether a policy meets what its training has never shown it. A network says something of any input; far outside, it is a guess."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .checkpoint import Checkpoint
from .encode import Observation
from .facts import Floats
from .inputs import CONTEXT, ROW, context_of, rows_of

MARGIN, ROOM = 0.1, 0.25
"""So far beyond its ends is still inside: of the range's width, and beside it. Inputs are shares, and logarithms of ratios."""

NAMES = (*ROW, *CONTEXT)


class Strange(NamedTuple):
    """What was outside."""

    share: float  # of the observations, with any input outside
    inputs: tuple[str, ...]  # the inputs that were most often


def strange(checkpoint: Checkpoint, observations: Sequence[Observation]) -> Strange:
    """How many of some observations lie outside of what training saw. A checkpoint that does not say what it saw has seen everything."""
    low, high = checkpoint.low, checkpoint.high
    if not observations or not (high > low).any():
        return Strange(0.0, ())
    margin = MARGIN * (high - low) + ROOM
    beyond = [_beyond(observation, low - margin, high + margin) for observation in observations]
    by_input = Counter(name for found in beyond for name in found)
    return Strange(sum(map(bool, beyond)) / len(beyond), tuple(name for name, _ in by_input.most_common(3)))


def _beyond(observation: Observation, low: Floats, high: Floats) -> list[str]:
    """The inputs of one observation that lie outside."""
    rows = rows_of(observation.seen, observation.features, observation.mask)
    context = context_of(observation.seen, rows, observation.features, observation.mask)
    rows = rows[np.asarray(observation.mask)]
    least, most = (np.concatenate((of(rows, axis=0), context)) for of in (np.min, np.max))
    return [name for name, out in zip(NAMES, (least < low) | (most > high), strict=True) if out]
