"""The price of a second of each backend: the dual of the fluid limit.

In the fluid limit requests are a flow. To maximise the quality served, with each backend giving one second a second, is a linear
program; by its dual, prices p >= 0 minimise

    D(p) = sum_b p_b + rate * E_c[ max(0, max_a value[c, a] - p_b(a) * work[c, a]) ]

over the kinds of requests c. D is convex, and its slope in p_b is one less the seconds a second that b would be asked for at these
prices. So prices are found by walking against that slope, from where they were a moment ago: looks are so close that a few steps at each
follow demand through a burst. At low demand every price is zero and only quality counts.
"""

from collections.abc import Iterable

import numpy as np

from .encode import N_FEATURES, PAY, QUALITY, WORK, Observation
from .facts import Floats
from .numeric import numeric

PRICE_S = 0.25
"""Between two looks at what a second is worth."""

STEPS = 12
"""Walked at each look."""

SETTLED = 16
"""A walk goes on as if it had taken so many steps already: looks are so close that each begins near where it ends."""

HEADROOM = 1.3
"""Demand is priced as if it were this much higher than it was: a queue built now is paid for later."""

SMOOTH = 0.02
"""Requests choose by a softmax of this temperature (in quality) rather than all alike, so that a small change of price moves a few."""


def wanted(observations: Iterable[Observation]) -> tuple[Floats, Floats]:
    """What some requests would get at each action, less what others would be paid for it, and the backend-seconds: (C, A - 1) each."""
    weights, rows = zip(*((o.weight, o.features) for o in observations), strict=True)
    x = np.array(rows).reshape(len(rows), -1, N_FEATURES)
    return np.array(weights)[:, None] * x[:, :, QUALITY] - x[:, :, PAY], x[:, :, WORK]


@numeric
def prices(before: Floats, value: Floats, work: Floats, rate: float, steps: int = STEPS) -> Floats:
    """Prices (B,) for requests like those of `value` and `work`, (C, A - 1) each and backend-major, arriving at `rate` a second.

    `before` are the last prices (B,), a good place to start from. Returns reward per backend-second.
    """
    if len(value) == 0:
        return before
    p, kept = before.copy(), np.zeros_like(before)
    top = dearest(value, work, len(before))
    for step in range(steps):
        over = 1.0 - asked_for(p, value, work, rate * HEADROOM)
        p = np.minimum(np.maximum(p - 0.5 / (SETTLED + step) * top * over, 0.0), top)
        if step >= steps // 2:  # the mean of the later steps settles where single ones swing (Polyak)
            kept += p
    result: Floats = kept / (steps - steps // 2)
    return result


@numeric
def asked_for(p: Floats, value: Floats, work: Floats, rate: float) -> Floats:
    """Seconds a second that each backend would be asked for at prices `p`, (B,), bounded to [0, 2] so that steps stay small."""
    chance = np.exp(np.minimum((value - np.repeat(p, work.shape[1] // len(p)) * work) / SMOOTH, _MOST))
    chance = chance / (chance.sum(axis=1) + 1.0).reshape((-1, 1))  # the 1 is not asking anybody, worth nothing
    asked = (chance * work).sum(axis=0).reshape((len(p), -1)).sum(axis=1) * rate / len(value)
    bounded: Floats = np.minimum(asked, 2.0)
    return bounded


@numeric
def dearest(value: Floats, work: Floats, n_backends: int) -> Floats:
    """The most that a second of each backend can be worth to anybody, (B,)."""
    worth = value / np.maximum(work, 1e-9)
    most = np.zeros(n_backends)
    for b in range(n_backends):
        most[b] = worth[:, b * (work.shape[1] // n_backends) : (b + 1) * (work.shape[1] // n_backends)].max()
    return most


_MOST = 600.0
"""Of an exponent: a float64 holds its exponential, and the sum of many."""
