"""What training has not seen is told."""

from dataclasses import replace

import numpy as np

from bestserve.policy.checkpoint import Checkpoint
from bestserve.policy.encode import Observation, encode
from bestserve.policy.fleet import Fleet
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.network import untaught
from bestserve.policy.ranges import NAMES, strange
from tests.policy.facts_by_hand import BUDGETS, LADDER, ask

WIDE = Checkpoint(untaught(), (0.0, 1.0, 1.0), np.full(N_ROW + N_CONTEXT, -10.0), np.full(N_ROW + N_CONTEXT, 10.0), {})


def seen(**asked: object) -> Observation:
    return encode(ask(**asked), Fleet(LADDER).view(0.0), BUDGETS)


def narrowed(name: str, low: float, high: float) -> Checkpoint:
    """One that saw an input only between these."""
    i, bounds = NAMES.index(name), (WIDE.low.copy(), WIDE.high.copy())
    bounds[0][i], bounds[1][i] = low, high
    return replace(WIDE, low=bounds[0], high=bounds[1])


def test_what_lies_inside_is_not_strange():
    """A little beyond the ends is inside."""
    assert strange(WIDE, [seen()]) == (0.0, ())
    assert strange(narrowed("weight", -1.0, -0.05), [seen(weight=1.0)]).share == 0.0


def test_what_lies_outside_is_counted_and_named():
    """Half of the observations, by one input."""
    found = strange(narrowed("weight", -0.1, 0.1), [seen(weight=1.0), seen(weight=2.0)])
    assert found == (0.5, ("weight",))
    assert strange(narrowed("quality", 0.95, 1.0), [seen()]) == (1.0, ("quality",))


def test_an_input_that_never_varied_has_some_room():
    """A quarter of an e-fold, and no more."""
    never = narrowed("weight", 0.0, 0.0)
    assert strange(never, [seen(weight=1.2)]).share == 0.0
    assert strange(never, [seen(weight=2.0)]).share == 1.0


def test_a_checkpoint_that_does_not_say_what_it_saw_is_taken_as_it_is():
    """And so is one that has met nothing yet."""
    assert strange(replace(WIDE, low=WIDE.high), [seen()]).share == 0.0
    assert strange(WIDE, []).share == 0.0
