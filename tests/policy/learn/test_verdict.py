"""The gate publishes what passes every test, and says of any other why not."""

from dataclasses import replace

import numpy as np
import pytest

from bestserve.policy.learn.duel import Duel
from bestserve.policy.learn.offline import Gain, OneStep
from bestserve.policy.learn.verdict import judged

GOOD = Gain(0.02, 0.01, 0.03)
STEP = OneStep(GOOD, GOOD, GOOD, effective=0.5, effective_all=0.4, changed=0.2, blocks=40)
HEADS = np.array([0.01, 0.02, 0.03, 0.02, 0.01])
DUEL = Duel(0.02, 0.01, 0.03, 12, 0.6, 0.61, missed=-0.01, worst_task="code", worst=0.001, worst_sure=-0.01)


def test_what_passes_everything_is_published():
    """And its verdict can be read."""
    verdict = judged(STEP, HEADS, DUEL)
    assert verdict.publish
    assert verdict.plain()["decision"] == "publish"
    assert {test["name"] for test in verdict.plain()["tests"]} >= {"fitted Q", "SNIPS", "misses", "effective sample"}


def test_a_log_that_is_not_sure_of_a_loss_is_no_reason():
    """The one step is too hard on challengers that decide otherwise than its policy did; heads that contradict each other say nothing."""
    assert judged(replace(STEP, switch=Gain(-0.03, -0.05, -0.02)), HEADS, DUEL).publish
    assert judged(STEP, np.array([-0.2, -0.1, 0.03, 0.1, 0.2]), DUEL).publish


@pytest.mark.parametrize(
    ("step", "heads", "duel", "why"),
    [
        (replace(STEP, switch=Gain(-0.08, -0.1, -0.06)), HEADS, DUEL, "doubly robust, one step: gain -8.00% (-10.00% to -6.00%)"),
        (STEP, HEADS - 0.1, DUEL, "fitted Q: gain -8.20% (10th to 90th percentile -9.00% to -7.40% of 5 heads)"),
        (STEP, HEADS, replace(DUEL, low=-0.001), "duel in the calibrated simulator: gain +2.00%"),
        (STEP, HEADS, replace(DUEL, reward=0.70), "it abstains: the incumbent earns 0.7000 in it and 0.6000 in the log (+16.7%"),
        (STEP, HEADS, replace(DUEL, log_reward=float("nan")), "it abstains"),
        (replace(STEP, effective=0.02), HEADS, DUEL, "effective sample: 2.0% of the decisions"),
        (STEP, HEADS, replace(DUEL, worst=0.02, worst_sure=0.01), "no task loses: code loses +2.00 points"),
        (STEP, HEADS, replace(DUEL, missed=0.02), "misses: +2.00 points"),
    ],
)
def test_what_fails_one_test_is_kept_back_with_its_reason(step, heads, duel, why):
    """The numbers stand beside it; no other reason does."""
    verdict = judged(step, heads, duel)
    assert not verdict.publish
    assert verdict.plain()["decision"] == "keep"
    assert why in verdict.why
    assert "; " not in verdict.why
