"""Matches, and what they come to together."""

import math
from dataclasses import replace

import pytest

from bestserve.policy.facts import SLO
from bestserve.policy.scene import Places
from bestserve.policy.summary import Summary
from bestserve.policy.workload import Demand
from bestserve.proxy.contest import Match, Played, mean_of, play, together
from bestserve.proxy.fleet_file import Fleet
from bestserve.proxy.workloads import Course
from tests.policy.facts_by_hand import BUDGETS, LADDER

MATCH = Match(Fleet(Places(LADDER, BUDGETS), SLO()), Demand(), Course("poisson:10", 20.0), 7, "bid-price")
FIGURES = Summary(100, 0.4, 0.4, 0.9, 0.0, 0.5, 0.2, 0.1, 0.2, 1.0, 2.0, {"small@none": 1.0})


def test_a_mean_has_students_interval():
    """Of four values by hand; one value has none, and what is not there is left out."""
    mean, interval = mean_of([1.0, 2.0, 3.0, 4.0, math.nan])
    assert mean == 2.5
    assert interval == pytest.approx((2.5 - 3.1824 * 0.6455, 2.5 + 3.1824 * 0.6455), abs=1e-3)
    assert mean_of([1.0]) == (1.0, None)
    assert math.isnan(mean_of([math.nan])[0])


def test_each_seed_is_held_to_its_own_bound():
    """The share of the bound is the mean of shares; an action that one seed never took counts as none there."""
    played = [
        Played(replace(MATCH, policy=None, seed=1), 10.0, bounds={"fluid": 0.9, "clairvoyant": 0.8}),
        Played(replace(MATCH, policy=None, seed=2), 12.0, bounds={"fluid": 0.7, "clairvoyant": 0.5}),
        Played(replace(MATCH, seed=1), 10.0, FIGURES),
        Played(replace(MATCH, seed=2), 12.0, replace(FIGURES, reward=0.5, actions={"shed": 1.0})),
    ]
    said = together(played)
    (workload,), (line,) = said["workloads"], said["results"]
    assert workload["rate"] == 11.0
    assert workload["bounds"] == {"fluid": pytest.approx(0.8), "clairvoyant": pytest.approx(0.65)}
    assert line["of_bound"] == pytest.approx((0.4 / 0.8 + 0.5 / 0.5) / 2)
    assert line["reward"] == pytest.approx(0.45)
    assert line["actions"] == {"small@none": 0.5, "shed": 0.5}
    assert line["interval95"]["reward"][0] < 0.45 < line["interval95"]["reward"][1]


@pytest.mark.timeout(600)
def test_a_match_is_the_same_each_time_and_within_its_bound():
    """Figures and what is drawn of them; rates over time add up to the requests."""
    one, other, bound = play(MATCH), play(MATCH), play(replace(MATCH, policy=None))
    assert one.summary == other.summary
    assert one.summary is not None
    assert one.curves is not None
    assert one.summary.reward <= bound.bounds["clairvoyant"] <= bound.bounds["fluid"]
    assert sum(rate.sum() for rate in one.curves.actions.values()) * 10.0 == pytest.approx(one.summary.requests)
    assert (one.curves.windows >= 0.96).mean() == one.summary.windows_96
    assert one.curves.ttft.shape[1] == 2
    assert (one.curves.tpot > 0).all()
