"""What the log alone says of another policy, where the truth can be worked out by hand."""

import numpy as np
import pytest

from bestserve.policy.learn.offline import Past, fitted_q, one_step


def past(better: float, *, seed: int = 0, n: int = 6000, wrong: float = 0.0) -> Past:
    """Two actions; the second earns `better` more. The log takes it one time in five, the challenger four times in five. What is
    predicted of it is off by `wrong`."""
    dice = np.random.default_rng(seed)
    taken = (dice.uniform(size=n) < 0.2).astype(np.int64)
    then, now = np.tile([0.8, 0.2], (n, 1)), np.tile([0.2, 0.8], (n, 1))
    earned = 0.5 + better * taken + 0.2 * dice.standard_normal(n)
    predicted = np.tile([0.5, 0.5 + better + wrong], (n, 1))
    inputs = np.stack((np.ones((n, 2)), np.tile([0.0, 1.0], (n, 1))), axis=2)
    chance = np.where(taken == 1, 0.2, 0.8)
    return Past(np.arange(n) * 0.2, taken, chance, then, now, predicted, earned, inputs)


@pytest.mark.parametrize("better", [0.1, -0.1, 0.0])
@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_gains_are_found_even_where_predictions_are_wrong(better, wrong):
    """What came of decisions corrects them. The gain is 0.6 of the difference, of a reward of 0.5 and a fifth of it."""
    found, truth = one_step(past(better, wrong=wrong), np.random.default_rng(0)), 0.6 * better / (0.5 + 0.2 * better)
    for gain in (found.switch, found.doubly_robust, found.snips):
        assert gain.low < truth < gain.high
        assert gain.value == pytest.approx(truth, abs=0.03)
    assert found.changed == pytest.approx(0.6)


def test_weights_that_are_not_believed_leave_the_prediction_alone():
    """A choice that the log made one time in a thousand."""
    of = past(0.1)
    rare = Past(of.at, of.taken, np.where(of.taken == 1, 0.001, 0.999), of.then, of.now, of.predicted, of.earned, of.inputs)
    found = one_step(rare, np.random.default_rng(0))
    assert found.switch.high - found.switch.low < found.doubly_robust.high - found.doubly_robust.low
    assert found.effective > found.effective_all


def test_what_follows_counts_as_well():
    """Nothing where both actions earn the same, and as much more or less as one of them does."""
    assert abs(fitted_q(past(0.0), np.random.default_rng(0)).mean()) < 0.03
    assert fitted_q(past(0.1), np.random.default_rng(0)).min() > 0.05
    assert fitted_q(past(-0.1), np.random.default_rng(0)).max() < -0.05
