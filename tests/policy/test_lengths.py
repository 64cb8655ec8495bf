"""The profile's lengths give way to what is seen, and no faster than the prior allows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.policy.lengths import refined
from bestserve.profiles.schema import Answers

BELIEF = Answers(100.0, 1.0)

LOGS = st.lists(st.floats(0, 10), max_size=50)


def after(logs, prior_strength=20.0):
    return refined(BELIEF, math.fsum(logs), math.fsum(log * log for log in logs), len(logs), prior_strength)


def test_nothing_seen_changes_nothing():
    """The profile is believed as it is."""
    assert refined(BELIEF, 0.0, 0.0, 0) == BELIEF


def test_much_seen_outweighs_the_profile():
    """After a hundred thousand answers the belief is theirs."""
    logs = np.random.default_rng(1).normal(math.log(400), 0.5, 100_000)

    found = after(logs.tolist())

    assert found.median == pytest.approx(400, rel=0.01)
    assert found.sigma == pytest.approx(0.5, rel=0.01)


def test_as_much_as_the_prior_meets_in_the_middle():
    """Twenty answers of 400 tokens against a belief worth twenty: half way, on the logarithm; and the doubt grows."""
    found = after([math.log(400)] * 20)

    assert found.median == pytest.approx(200)
    assert found.sigma == pytest.approx(math.sqrt((20 * 1.0 + 10 * math.log(4) ** 2) / 40))


@given(logs=LOGS, prior_strength=st.floats(0.1, 1000))
def test_the_median_stays_between_belief_and_sight(logs, prior_strength):
    """Whatever is seen, it lies between the profile's and theirs, and the spread stays positive."""
    found = after(logs, prior_strength)

    if logs:
        low, high = sorted((math.log(BELIEF.median), math.fsum(logs) / len(logs)))
        assert low - 1e-9 <= math.log(found.median) <= high + 1e-9
    assert found.sigma > 0


@given(first=LOGS, second=LOGS)
def test_the_order_of_what_is_seen_does_not_matter(first, second):
    """Sums are all that counts."""
    assert after(first + second).median == pytest.approx(after(second + first).median)
    assert after(first + second).sigma == pytest.approx(after(second + first).sigma, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "log_sum", "log_sumsq", "prior_strength"),
    [(-1, 0.0, 0.0, 20.0), (3, math.nan, 1.0, 20.0), (3, 1.0, math.inf, 20.0), (3, 1.0, 1.0, -1.0)],
)
def test_what_nobody_can_have_counted_is_refused(n, log_sum, log_sumsq, prior_strength):
    """A negative count, sums that are not finite, a prior of less than no weight."""
    with pytest.raises(ValueError, match="not what was counted"):
        refined(BELIEF, log_sum, log_sumsq, n, prior_strength)
