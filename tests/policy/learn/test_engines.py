"""Constants of engines are found again from what answers took."""

import numpy as np
import pytest

from bestserve.policy.learn import engines
from bestserve.policy.learn.engines import CONSTANTS
from bestserve.policy.learn.logged import some
from tests.policy.learn.log_by_simulation import PLACES, WRONG, logged

pytestmark = pytest.mark.timeout(600)
BACKENDS = {backend.name: backend for backend in PLACES.backends}


def fit(name: str) -> engines.Fit:
    columns, names = logged()
    found = engines.fitted(columns, names.backends.index(name), BACKENDS[name].profile.engine, np.random.default_rng(0))
    assert found is not None
    return found


def test_decode_that_takes_twice_as_long_is_found():
    """At the backend where it does."""
    found = fit(WRONG)
    assert 1.8 < found.multiple[CONSTANTS.index("step_fixed_s")] < 2.2


def test_constants_that_are_right_stay():
    """Nothing of a step moves by more than the noise."""
    name = next(backend for backend in BACKENDS if backend != WRONG)
    found = fit(name)
    assert 0.9 < found.multiple[CONSTANTS.index("step_fixed_s")] < 1.1
    assert (found.low <= found.multiple).all()
    assert (found.multiple <= found.high).all()


def test_of_few_answers_nothing_is_said():
    """The profile stays."""
    columns, names = logged()
    few = some(columns, np.flatnonzero(columns.backend == 0)[:20])
    assert engines.fitted(few, 0, BACKENDS[names.backends[0]].profile.engine, np.random.default_rng(0)) is None


def test_sums_over_time_are_integrals():
    """Of values that hold from one instant to another."""
    held = engines._Sum(np.array([0.0, 1.0]), np.array([2.0, 3.0]), np.array([1.0, 10.0]))
    assert held.mean(np.array([0.0, 0.5]), np.array([3.0, 1.5])).tolist() == pytest.approx([22 / 3, 6.0])
    assert held.now(np.array([1.5, 2.5])).tolist() == [11.0, 10.0]
