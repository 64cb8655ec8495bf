"""Credit by branching, and a careful step. Small scenes, compiled once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bestserve.policy.learn.scenes import Doubt, capacity, fleet, mistaken, scene
from bestserve.policy.learn.train import Args, Round, advantages, fit, harms, scene_points, targets
from bestserve.policy.learn.vine import Points, gather
from bestserve.policy.network import forward, untaught
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places
from bestserve.policy.workload import Demand
from tests.policy.facts_by_hand import BUDGETS, LADDER

PLACES = Places(LADDER, BUDGETS)
SMALL = Args(rounds=1, scenes=2, points=6, seconds=20.0, branches=4, horizon_s=5.0, epochs=40)
pytestmark = pytest.mark.timeout(600)


def places_of(dice: np.random.Generator) -> Places:
    return PLACES


@pytest.fixture(scope="module")
def points() -> Points:
    return scene_points(places_of, SMALL, untaught(), Doubt(), 3)


def test_the_same_seed_branches_alike(points):
    """Every number of every branch."""
    for one, other in zip(points, scene_points(places_of, SMALL, untaught(), Doubt(), 3), strict=True):
        assert np.array_equal(one, other)


def test_branches_try_what_is_allowed_and_always_shed(points):
    """Shed is the yardstick of harm; what is masked is never tried."""
    assert len(points.rows) == SMALL.points
    assert not (points.tried & (points.allowed == 0)).any()
    assert points.tried[:, 12].all()
    assert (points.tried.sum(axis=1) <= SMALL.branches + 1).all()


def test_a_branch_that_does_nothing_else_changes_nothing_else():
    """More points in a scene leave what the earlier ones saw as it was: branches play in a copy."""
    few, many = (
        gather(np.random.default_rng(0), *scene(np.random.default_rng(5), PLACES, Mind.of("actor", (0.02, 1.0)), 20.0), n, 3, 5.0)
        for n in (1, 1)
    )
    assert np.array_equal(few.worth, many.worth)


def test_advantages_are_beside_the_mean_and_shed_harms_nobody(points):
    """They sum to nothing over what was tried."""
    raw, scaled = advantages(points)
    assert np.abs(raw.sum(axis=1)).max() < 1e-9
    assert np.abs(scaled).max() <= np.sqrt(points.tried.sum(axis=1).max())
    assert np.abs(harms(points)[:, 12]).max() == 0.0


def test_a_step_moves_logits_towards_what_paid():
    """After a round the better of the tried actions are likelier than before, in the mean."""
    seen = list[Round]()
    with ThreadPoolExecutor(1) as pool:
        weights = fit(places_of, SMALL, pool, seen.append)
        points = scene_points(places_of, SMALL, untaught(), Doubt(), SMALL.seed)

    moved = np.array([forward(weights, r, c, a)[:, 0] for r, c, a in zip(points.rows, points.context, points.allowed, strict=True)])
    centred = np.where(points.tried, moved - (moved * points.tried).sum(1, keepdims=True) / points.tried.sum(1, keepdims=True), 0.0)
    assert (centred * advantages(points)[1]).sum() > 0
    assert seen[0].points > 0
    assert np.isfinite(targets(points, weights, SMALL)).all()


def test_fleets_and_doubts_are_drawn_within_their_bounds():
    """Constants are wrong by no more than the factor; what is believed stays the profile."""
    dice = np.random.default_rng(0)
    for _ in range(20):
        places = fleet(dice, [backend.profile for backend in LADDER])
        wrong = mistaken(dice, places, Doubt(factor=2.0))
        assert 1 <= len(places.backends) <= 8
        for believed, true in zip(places.backends, wrong.true, strict=True):
            assert 0.49 < true.engine.step_fixed_s / believed.profile.engine.step_fixed_s < 2.01
        assert wrong.backends == places.backends
    assert capacity(PLACES, Demand()) > 0
