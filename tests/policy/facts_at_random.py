"""Facts that nobody would write by hand: any fleet of any size, any request, at any load."""

import math

import numpy as np
from hypothesis import strategies as st

from bestserve.policy.encode import Asked, Caps, Observation, Seen, observe
from bestserve.policy.facts import Columns, Constants


class Dice:
    """Columns of n numbers."""

    def __init__(self, seed: int, n: int) -> None:
        self.rng, self.n = np.random.default_rng(seed), n

    def number(self, low: float, high: float, *edges: float) -> float:
        """Between the two, evenly in the logarithm; or, one time in three where there are any, one of the edges."""
        if edges and self.rng.random() < 1 / 3:
            return float(self.rng.choice(edges))
        return float(np.exp(self.rng.uniform(math.log(low), math.log(high))))

    def column(self, low: float, high: float, *edges: float) -> list[float]:
        """(n,) of them."""
        return [self.number(low, high, *edges) for _ in range(self.n)]

    def flags(self, chance: float, n: int | None = None) -> list[bool]:
        """(n,)."""
        return (self.rng.random(self.n if n is None else n) < chance).tolist()


def asked(dice: Dice) -> Asked:
    """Of any length and urgency."""
    deadlines = [dice.number(1e-6, 1e6, math.inf, 1.0) for _ in range(3)]
    prompt, n = float(round(dice.number(1, 1e6))), float(dice.rng.integers(1, 9))
    shape = (
        prompt,
        n,
        float(round(dice.number(1, 1e5))) if dice.rng.random() < 0.5 else math.inf,
        dice.rng.uniform(0, 10),
        dice.number(0.05, 2),
    )
    return Asked(*shape, *deadlines, dice.number(0.01, 100, 1.0), dice.number(1e-3, 1e4, 0.0))


def fleet(dice: Dice) -> Columns:
    """At any load."""
    return Columns(
        now=0.0,
        arrival_rate=dice.number(1e-4, 1e4, 0.0),
        usable=dice.flags(0.8),
        held=dice.flags(0.2),
        in_flight=dice.column(0.1, 2000.0, 0.0, 1.0),
        prefill_tokens=dice.column(1, 1e6, 0.0),
        decode_tokens=dice.column(1, 1e6, 0.0),
        kv_tokens=dice.column(1, 1e6, 0.0),
        haste=dice.column(1e-4, 1.0, 0.0),
        worth=dice.column(1e-3, 10.0, 0.0, 1.0),
        writing=dice.column(0.1, 2000.0, 0.0, 1.0),
        written=dice.column(1, 1e5, 0.0),
        writing_s=dice.column(1e-3, 1e4, 0.0),
        places=dice.column(1.0, 1000.0),
        report_age_s=dice.column(1e-3, 100.0, math.inf),
        price=dice.column(1e-3, 10.0, 0.0),
        pace_first=dice.column(0.125, 8.0, 1.0),
        pace_each=dice.column(0.125, 8.0, 1.0),
    )


def constants(dice: Dice) -> Constants:
    """Of any engines."""
    return Constants(
        prefill_rate=dice.column(10.0, 1e6),
        prefill_fixed=dice.column(1e-4, 0.1),
        overhead=dice.column(1e-4, 0.1, 0.0),
        cached_cost=dice.column(1e-3, 1.0, 0.0),
        step_fixed=dice.column(1e-4, 0.1),
        step_per_seq=dice.column(1e-6, 0.1, 0.0),
        step_per_kv=dice.column(1e-9, 1e-5, 0.0),
        step_shared=dice.column(1e-6, 0.01),
        max_running=dice.column(1.0, 1000.0),
        kv_capacity=dice.column(100.0, 1e7),
        context=dice.column(100.0, 1e6),
        usd_per_s=dice.column(1e-6, 0.01, 0.0),
        usd_per_prompt_token=dice.column(1e-8, 1e-5, 0.0),
        usd_per_token=dice.column(1e-8, 1e-5, 0.0),
    )


def seen(seed: int, n: int, k: int) -> Seen:
    """Everything that an Observation is made of: n backends and k budgets."""
    dice = Dice(seed, n)
    request, flags = asked(dice), dice.flags(0.3, k)
    caps = Caps(tuple(float(round(dice.number(1, 2000))) if dice.rng.random() < 0.7 else math.inf for _ in range(k)), tuple(flags))
    worth: list[float] = []
    for _ in range(n):
        longer = float(dice.rng.choice([0.0, 0.0, -0.5, 0.7]))
        worth += [*dice.rng.random(4).tolist(), float(dice.rng.choice([0.3, 0.3, dice.number(0.01, 2)])), longer]
    cached = [min(c, request.prompt) for c in dice.column(1, 1e5, 0.0)]
    return Seen(request, caps, fleet(dice), constants(dice), worth, dice.flags(0.8), cached)


SEEN = st.builds(seen, st.integers(0, 2**32), st.integers(0, 6), st.integers(1, 5))
"""Facts of up to six backends; sometimes of a fleet of nobody."""


def masked(facts: Seen, seed: int, own: bool) -> Observation:
    """What is encoded of it, under its own mask or any other."""
    plain = observe(facts)
    mask = plain.mask if own else [*Dice(seed, len(plain.mask) - 1).flags(0.6), True]
    return Observation(plain.features, mask, plain.weight, plain.seen)


OBSERVATIONS = st.builds(masked, SEEN, st.integers(0, 2**32), st.booleans())
