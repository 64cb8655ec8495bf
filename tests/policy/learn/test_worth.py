"""What answers are worth follows what callers say, as far as they say it."""

import numpy as np
import pytest

from bestserve.policy.facts import TASKS
from bestserve.policy.learn.sharpen import sharpened
from bestserve.policy.learn.worth import worth
from tests.policy.learn.log_by_simulation import PLACES, WRONG, logged

pytestmark = pytest.mark.timeout(600)
BACKENDS = {backend.name: backend for backend in PLACES.backends}


def test_an_overstated_quality_is_corrected_and_a_true_one_stays():
    """By most of what it is off."""
    columns, names = logged()
    sharp, ones = columns._replace(task=sharpened(columns)), np.ones(len(columns.wall))
    for b, name in enumerate(names.backends):
        profile = BACKENDS[name].profile
        found = worth(sharp, ones, b, profile)
        assert found is not None
        moved = float(np.mean(found.quality - np.array([profile.quality[task] for task in TASKS])))
        assert (-0.3 < moved < -0.1) if name == WRONG else abs(moved) < 0.08


def test_where_nobody_said_anything_the_profile_stays():
    """Nor where nothing that was said counts."""
    columns, names = logged()
    profile = BACKENDS[names.backends[0]].profile
    silent = columns._replace(score=np.full(len(columns.wall), np.nan))
    assert worth(silent, np.ones(len(columns.wall)), 0, profile) is None
    assert worth(columns, np.zeros(len(columns.wall)), 0, profile) is None


def test_a_single_score_moves_little():
    """And everything stays a share."""
    columns, names = logged()
    profile = BACKENDS[names.backends[0]].profile
    one = np.full(len(columns.wall), np.nan)
    one[np.flatnonzero((columns.backend == 0) & (columns.ending == 0))[0]] = 0.0
    found = worth(columns._replace(score=one), np.ones(len(columns.wall)), 0, profile)
    assert found is not None
    assert np.abs(found.quality - np.array([profile.quality[task] for task in TASKS])).max() < 0.06
    assert ((found.quality >= 0) & (found.quality <= 1)).all()
