"""The study's arithmetic."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bestserve.policy.facts import SLO
from bestserve.policy.scene import Places
from bestserve.proxy.fleet_file import Fleet
from tests.policy.facts_by_hand import BUDGETS, LADDER, MEDIUM

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import study


def test_a_ratio_has_the_interval_of_its_seeds():
    """Of means; half its width by Student's t over the seeds' own ratios."""
    ratio, half = study.against(np.array([1.0, 1.1, 1.2]), np.array([1.0, 1.0, 1.0]))
    assert ratio == pytest.approx(1.1)
    assert half == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-4)


def small(seeds: int = 2) -> study.Study:
    """A short one, in this process."""
    return study.Study(Fleet(Places(LADDER, BUDGETS), SLO()), None, seeds, 20.0, 1)


@pytest.mark.timeout(600)
def test_a_policy_beside_itself_is_worth_what_it_is_worth():
    """Once as much, on every seed; beside another, the inverse of what the other is beside it."""
    case = study.Case("some", "poisson:10")

    (same,) = study.beside(small(), [case], "bid-price", "bid-price")
    (one,), (other,) = (study.beside(small(), [case], *names) for names in (("bid-price", "random"), ("random", "bid-price")))

    assert (same["case"], same["ratio"], same["±"]) == ("some", 1.0, 0.0)
    assert same["reward"] == same["rival"] == one["reward"] == other["rival"] > 0
    assert one["ratio"] == pytest.approx(one["reward"] / one["rival"])
    assert one["ratio"] == pytest.approx(1 / other["ratio"])
    assert one["ratio"] > 1


def test_engines_begin_to_read_without_a_fixed_time():
    """A prompt takes its tokens' time alone; nothing else of the backend changes."""
    free = study.unfixed(MEDIUM)

    engine = MEDIUM.profile.engine
    assert free.profile.engine.prefill_s(1000) == pytest.approx(1000 / engine.prefill_tokens_per_s, rel=1e-6)
    assert replace(free.profile.engine, prefill_fixed_s=engine.prefill_fixed_s) == engine
    assert replace(free, profile=MEDIUM.profile) == MEDIUM
    assert replace(free.profile, engine=engine) == MEDIUM.profile


def test_another_fleet_is_studied_as_long_and_untuned():
    """What was tuned was tuned for the first one."""
    first = small(seeds=3)
    first.tuned["bid-price"] = (1.0,)

    other = first.on(Places((MEDIUM,), BUDGETS))

    assert other.fleet.places.backends == (MEDIUM,)
    assert other.fleet.slo == first.fleet.slo
    assert (other.seeds, other.seconds, other.jobs, other.tuned) == (first.seeds, first.seconds, first.jobs, {})
