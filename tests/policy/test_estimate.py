"""Shares with intervals, priors, and lengths of which some were cut."""

import math

import numpy as np
import pytest
from scipy import stats

from bestserve.policy.estimate import LEAST, MOST, Estimate, Prior, error, kept, lengths, ratio, share, shrink, strength, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (29, 30), (30, 30), (500, 1000)])
def test_the_interval_is_wilsons(hits, n):
    """As scipy has it."""
    low, high = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")

    got = wilson(hits / n, n)

    assert (got.low, got.high) == pytest.approx((low, high), abs=1e-6)


def test_of_no_answers_everything_is_possible():
    """The interval is the whole range, and an empty list of scores is no error."""
    assert (share([]).low, share([]).high, share([]).n) == (0.0, 1.0, 0)


def test_the_interval_holds_for_graded_scores():
    """Over 2,000 samples of 25 graded scores the true mean is inside at least 95 times in a hundred."""
    rng = np.random.default_rng(1)
    inside = 0
    for scores in rng.beta(2, 1, size=(2000, 25)):
        got = share(scores.tolist())
        inside += got.low <= 2 / 3 <= got.high

    assert inside >= 1900


def test_a_cut_keeps_the_share_of_what_was_right():
    """Prompts that the whole answer got wrong do not count; two of four kept their half."""
    got = kept([(0.5, 1.0), (0.5, 1.0), (0.0, 0.0), (0.0, 1.0), (1.0, 1.0)])

    assert got.value == pytest.approx(0.5)
    assert got.n == 4
    assert kept([(1.0, 0.5)]).value == 1.0
    assert kept([(0.0, 0.0)]).n == 0


@pytest.mark.parametrize(("mean", "n"), [(0.5, 20), (0.9, 50), (0.1, 8)])
def test_a_beta_has_the_strength_that_its_error_says(mean, n):
    """The relative error of a Beta with that many answers gives the number back."""
    spread = stats.beta(mean * n, (1 - mean) * n).std()

    assert strength(mean, spread / mean) == pytest.approx(n)


def test_a_prior_is_never_nothing_and_never_everything():
    """A huge error leaves one answer's weight, none at all the most; half of almost nothing is a narrow statement."""
    assert strength(0.5, 10.0) == LEAST
    assert strength(0.5, 0.0) == MOST
    assert strength(0.0, 0.5) == MOST
    assert strength(1.0, 0.5) == LEAST


def test_a_measurement_moves_the_prior_by_its_weight():
    """Twenty answers' worth of belief against sixty answers; and the interval is narrower than the measurement's own."""
    seen = wilson(0.8, 60)

    got = shrink(Prior(0.4, 20), seen)

    assert got.value == pytest.approx(0.7)
    assert got.n == 80
    assert got.high - got.low < seen.high - seen.low + 0.03
    assert shrink(Prior(0.4, 20), wilson(0.0, 0)).value == pytest.approx(0.4)


def test_an_interval_says_a_relative_error():
    """Half the width at 95 % is 1.96 sigma; of nothing the error is all."""
    assert error(Estimate(0.5, 0.5 - 0.0196, 0.5 + 0.0196, 100)) == pytest.approx(0.02, rel=1e-3)
    assert error(Estimate(0.0, 0.0, 0.1, 10)) == 1.0


def test_lengths_are_found_back_although_a_third_was_cut():
    """Median and sigma of the whole answers, from answers of which those over a cap are only known to be longer."""
    rng = np.random.default_rng(2)
    whole = np.exp(rng.normal(math.log(150), 0.8, size=4000))
    seen = np.minimum(whole, 220.0)

    got = lengths(seen.tolist(), (whole > 220).tolist())

    assert got is not None
    assert got.median == pytest.approx(150, rel=0.05)
    assert got.sigma == pytest.approx(0.8, rel=0.05)
    assert got.low < got.median < got.high


def test_lengths_of_whole_answers_are_their_own_statistics():
    """Without a cut, the geometric mean and the deviation of the logarithms."""
    got = lengths([10, 20, 40, 80], [False] * 4)

    assert got is not None
    assert got.median == pytest.approx(math.sqrt(20 * 40))
    assert got.sigma == pytest.approx(np.log([10, 20, 40, 80]).std(ddof=1))


def test_lengths_are_not_invented():
    """Two answers that ended say nothing of a distribution; neither do two pairs of a ratio."""
    assert lengths([10, 20, 128, 128], [False, False, True, True]) is None
    assert ratio([(1, 2), (1, 2)]) is None


def test_equal_lengths_have_a_least_spread():
    """Answers that are all as long do not make a distribution of no width."""
    got = lengths([1, 1, 1, 128], [False, False, False, True])

    assert got is not None
    assert got.sigma > 0
    assert math.isfinite(got.median)


def test_a_ratio_is_the_geometric_mean():
    """Half as long, twice as long and as long come to one."""
    got = ratio([(1, 2), (4, 2), (3, 3)])

    assert got is not None
    assert got[0] == pytest.approx(1.0)
    assert got[1] == pytest.approx(math.log(2) / math.sqrt(3))
