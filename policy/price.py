"""The price of a second of each backend: the dual of the fluid limit.

In the fluid limit requests are a flow. To maximise the quality served, with each backend giving one second a second, is a linear
program; by its dual, prices p >= 0 minimise

    D(p) = sum_b p_b + rate * E_c[ max(0, max_a value[c, a] - p_b(a) * work[c, a]) ]

over the kinds of requests c. D is convex, and its slope in p_b is one less the seconds a second that b would be asked for at these
prices. So prices are found by walking against that slope, from where they were a moment ago: demand moves slowly, and a few steps a
second follow it. At low demand every price is zero and only quality counts.
"""

import numpy as np

from .facts import Floats

HEADROOM = 1.3
"""Demand is priced as if it were this much higher than it was: a queue built now is paid for later."""

SMOOTH = 0.02
"""Requests choose by a softmax of this temperature (in quality) rather than all alike, so that a small change of price moves a few."""


def prices(before: Floats, value: Floats, work: Floats, rate: float, *, steps: int = 32) -> Floats:
    """Prices (B,) for requests like those of `value` and `work`, (C, B, K) each, arriving at `rate` a second.

    `before` are the last prices (B,), a good place to start from. Returns reward per backend-second.
    """
    if not len(value):
        return before
    p, kept = before.copy(), np.zeros_like(before)
    top = dearest(value, work)
    for step in range(steps):
        p = np.clip(p - 0.5 / (2 + step) * top * (1.0 - asked_for(p, value, work, rate * HEADROOM)), 0.0, top)
        if step >= steps // 2:  # the mean of the later steps settles where single ones swing (Polyak)
            kept += p
    result: Floats = kept / (steps - steps // 2)
    return result


def asked_for(p: Floats, value: Floats, work: Floats, rate: float) -> Floats:
    """Seconds a second that each backend would be asked for at prices `p`, (B,), bounded to [0, 2] so that steps stay small."""
    score = (value - p[:, None] * work).reshape(len(value), -1) / SMOOTH  # (C, B * K), in temperatures
    best = np.maximum(score.max(axis=1, keepdims=True), 0.0)
    chance = np.exp(score - best)
    chance /= chance.sum(axis=1, keepdims=True) + np.exp(-best)  # the last term is not asking anybody, worth nothing
    asked = (chance.reshape(work.shape) * work).sum(axis=(0, 2)) * rate / len(value)
    bounded: Floats = np.minimum(asked, 2.0)
    return bounded


def dearest(value: Floats, work: Floats) -> Floats:
    """The most that a second of each backend can be worth to anybody, (B,)."""
    most: Floats = (value / np.maximum(work, 1e-9)).max(axis=(0, 2))
    return most
