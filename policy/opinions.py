"""How much what clients say of answers may count, so that nobody's word moves more than its share.

Scores come from clients: from many, or from one that sends ten thousand; honest, careless or hostile. What is learnt from them is a mean
beside a prior, (prior * believed + sum w score) / (prior + sum w). Here the weights w of one such mean are found: a row counts as 1 until
its key has `share` of the whole, the prior included. Whatever one key says then moves the mean by at most `share`, and ten keys that agree
still move it most of the way.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .facts import Floats

SHARE = 0.2
"""Of the weight of a mean, what one key may have, unless said otherwise."""


def weights(keys: Sequence[str], scores: Sequence[float], *, prior: float, share: float = SHARE) -> Floats:
    """The weight of each row, (n,) in [0, 1]: its key, and the one score that it gave a decision.

    `prior` > 0 is how many answers the belief before counts for. A score that is no number from 0 to 1 counts nothing. With a `share` of 1
    nobody is bounded: for a proxy that knows no keys, where all are one.
    """
    if not (prior > 0 and 0 < share <= 1):
        raise ValueError(f"prior {prior!r} must be above 0, and share {share!r} above 0 and at most 1")
    counted = [math.isfinite(score) and 0 <= score <= 1 for score in scores]
    rows = Counter(key for key, counts in zip(keys, counted, strict=True) if counts)
    most = _most(sorted(rows.values(), reverse=True), prior, share)
    return np.array([min(1.0, most / rows[key]) if counts else 0.0 for key, counts in zip(keys, counted, strict=True)])


def _most(rows: list[int], prior: float, share: float) -> float:
    """The weight that a key may have at most: the root of c = share * (prior + sum of min(n, c)); `rows` n fall."""
    rest = float(sum(rows))
    for capped, n in enumerate(rows):
        c = math.inf if share * capped >= 1 else share * (prior + rest) / (1 - share * capped)
        if n <= c:
            return c
        rest -= n
    return share * prior / (1 - share * len(rows)) if rows else math.inf
