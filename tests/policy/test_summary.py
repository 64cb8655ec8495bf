"""The figures that policies are compared by."""

import numpy as np
import pytest

from bestserve.policy.decide import actions_of
from bestserve.policy.scene import Places
from bestserve.policy.summary import summary, window_quality
from bestserve.policy.workload import Demand, draw_trace, poisson
from tests.policy.facts_by_hand import BUDGETS, LADDER
from tests.policy.test_simulate import run

PLACES = Places(LADDER, BUDGETS)


def test_an_idle_fleet_serves_peak_quality_in_every_window():
    """The best model answers everything, whole and on time."""
    trace = draw_trace(np.random.default_rng(0), poisson(0.2), 100.0, Demand())
    results, _ = run("static:large", rate=0.2, seconds=100.0)
    figures = summary(results, trace, PLACES, actions_of(LADDER, BUDGETS))
    assert figures.on_time == pytest.approx(1.0, abs=0.05)
    assert figures.windows_98 > 0.8
    assert figures.actions == {"large@none": 1.0}
    assert figures.shed == 0.0


def test_windows_count_what_arrived_in_them():
    """Half the quality in one window, all of it in the next; empty ones do not count."""
    trace = draw_trace(np.random.default_rng(0), poisson(1.0), 10.0, Demand())._replace(at=np.array([0.0, 5.0, 25.0]))
    assert window_quality(trace, np.array([0.8, 0.0, 0.8]), np.array([0.8, 0.8, 0.8])).tolist() == pytest.approx([0.5, 1.0])


def test_shares_of_actions_add_up():
    """Every request is one of them."""
    results, _ = run("random", rate=20.0, seconds=5.0)
    trace = draw_trace(np.random.default_rng(0), poisson(20.0), 5.0, Demand())
    assert sum(summary(results, trace, PLACES, actions_of(LADDER, BUDGETS)).actions.values()) == pytest.approx(1.0)
