"""By how much answers are longer than foreseen is found, also where most of them were cut."""

import math

import numpy as np
import pytest

from bestserve.policy.learn.verbosity import fitted, longer
from tests.policy.learn.log_by_simulation import LONGER, logged


def test_cut_answers_count_as_longer_not_as_short():
    """Without them the rest would look short."""
    dice = np.random.default_rng(0)
    off, cap = dice.normal(0.4, 0.8, 4000), dice.uniform(-0.5, 0.8, 4000)
    whole = off < cap
    found = fitted(np.minimum(off, cap), whole, 0.0)
    assert found.low < 0.4 < found.high
    assert found.value == pytest.approx(0.4, abs=0.05)
    assert found.sigma == pytest.approx(0.8, abs=0.05)
    assert off[whole].mean() < 0.1


def test_few_answers_move_little():
    """They are drawn to what was believed."""
    assert fitted(np.array([1.0]), np.array([True]), 0.2).value == pytest.approx((1.0 + 20 * 0.2) / 21, abs=1e-3)


@pytest.mark.timeout(600)
def test_misjudged_lengths_are_found_in_a_log():
    """At every backend, for most tasks; and what was believed already is no news."""
    columns, _ = logged()
    for believed in ({}, {task: math.log(LONGER) for task in longer(columns, 0, {})}):
        found = longer(columns, 0, believed)
        mean = np.average([each.value for each in found.values()], weights=[each.answers for each in found.values()])
        assert mean == pytest.approx(math.log(LONGER), abs=0.08)


def test_nobody_talks_where_nobody_answered():
    """A backend that is not in the log."""
    columns, _ = logged()
    assert longer(columns, 99, {}) == {}
