"""No key's word moves a mean by more than its share, however often it is said."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.policy.opinions import weights


def mean(keys: list[str], scores: list[float], prior: float, believed: float, **how: float) -> float:
    """What is learnt."""
    w = weights(keys, scores, prior=prior, **how)
    return (prior * believed + sum(a * b for a, b in zip(w, scores, strict=True) if a)) / (prior + w.sum())


COUNTS = st.lists(st.integers(1, 3000), min_size=1, max_size=12)


@given(COUNTS, st.floats(0.1, 500), st.sampled_from([0.05, 0.2, 0.34, 0.5, 1.0]))
def test_nobody_has_more_than_the_share_and_nobody_is_bounded_without_need(counts, prior, share):
    """Each key has all its rows, or just the share."""
    keys = [f"k{i}" for i, n in enumerate(counts) for _ in range(n)]
    w = weights(keys, [0.5] * len(keys), prior=prior, share=share)
    total = prior + w.sum()
    for i, n in enumerate(counts):
        has = w[[key == f"k{i}" for key in keys]].sum()
        assert has == pytest.approx(n) or has == pytest.approx(share * total)
        assert has <= share * total * (1 + 1e-9)


@pytest.mark.parametrize("others", [0, 1, 3, 20])
def test_one_key_with_ten_thousand_scores_moves_a_mean_by_its_share(others):
    """Alone, or beside others who say something else: from what it would be without it, by at most a fifth."""
    honest = [f"k{i}" for i in range(others) for _ in range(30)]
    without = mean(honest, [0.8] * len(honest), 20, 0.7)
    for score in (0.0, 1.0):
        with_it = mean([*honest, *["bad"] * 10_000], [0.8] * len(honest) + [score] * 10_000, 20, 0.7)
        assert abs(with_it - without) <= 0.2


def test_ten_that_agree_are_heard():
    """Nine tenths of the way from what was believed."""
    keys = [f"k{i}" for i in range(10) for _ in range(100)]
    assert mean(keys, [0.3] * 1000, 20, 0.8) == pytest.approx(0.3, abs=0.05)


def test_what_is_no_score_counts_nothing():
    """And takes nothing from the key's other rows."""
    w = weights(["a", "a", "a", "b"], [math.nan, 0.5, math.inf, -0.1], prior=20)
    np.testing.assert_array_equal(w, [0, 1, 0, 0])
    assert weights([], [], prior=1).shape == (0,)


@pytest.mark.parametrize("wrong", [{"prior": 0.0}, {"prior": math.nan}, {"prior": 1.0, "share": 0.0}, {"prior": 1.0, "share": 1.5}])
def test_bounds_that_are_none_are_refused(wrong):
    """With their values."""
    with pytest.raises(ValueError, match="share"):
        weights([], [], **wrong)
