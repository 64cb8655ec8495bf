"""What training draws, learns and looks for. Small scenes, compiled once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from bestserve.policy.inputs import N_ROW
from bestserve.policy.learn import train
from bestserve.policy.learn.critic import CriticArgs, Epoch
from bestserve.policy.learn.outcomes import Outcomes
from bestserve.policy.learn.scenes import Doubt, capacity, fleet, mistaken
from bestserve.policy.learn.search import N_PRIOR, Place, SearchArgs, Step
from bestserve.policy.learn.train import Args, Taught
from bestserve.policy.network import untaught
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places
from bestserve.policy.workload import Demand
from tests.policy.facts_by_hand import BUDGETS, LADDER

PLACES = Places(LADDER, BUDGETS)
SMALL = Args(
    scenes=8, points=60, requests=300, critic=CriticArgs(epochs=3, batch=64), search=SearchArgs(iterations=2, scenes=2, pairs=2, width=4)
)
pytestmark = pytest.mark.timeout(600)


def fleet_of(dice: np.random.Generator) -> tuple[Places, None]:
    return PLACES, None


@pytest.fixture(scope="module")
def seen() -> Outcomes:
    with ThreadPoolExecutor(1) as pool:
        return train.outcomes(fleet_of, SMALL, pool, lambda: None)


@pytest.fixture(scope="module")
def taught(seen) -> Taught:
    return train.learn(seen, SMALL, lambda epoch: None)


def test_the_same_seed_brings_the_same_outcomes():
    """Every number, whoever plays it."""
    for one, other in zip(train.scene_outcomes(fleet_of, SMALL, 3), train.scene_outcomes(fleet_of, SMALL, 3), strict=True):
        assert np.array_equal(one, other)


def test_what_is_written_down_is_what_was_decided(seen):
    """The action taken was allowed where it was taken at once; Shed is the last one; what is worth nothing was not on time."""
    taken = np.take_along_axis(seen.allowed, seen.action[:, None], axis=1)[:, 0]
    assert taken.mean() > 0.95
    assert (seen.sent == (seen.action != 12)).all()
    assert (seen.own >= 0.0).all()
    assert (seen.own <= 1.0).all()
    assert 0.2 < seen.own[seen.sent].mean() < 1.0


def test_the_critic_is_judged_by_what_it_has_not_learnt_from(seen):
    """Errors of the held-out tenth come down from epoch to epoch, and stand beside the encoder's own."""
    told = list[Epoch]()
    train.learn(seen, replace(SMALL, critic=CriticArgs(epochs=8, batch=32)), told.append)
    assert [epoch.number for epoch in told] == list(range(8))
    assert told[-1].error < told[0].error_predicted * 1.1
    assert len({epoch.error_predicted for epoch in told}) == 1


def test_the_search_begins_at_the_prior(taught):
    """Nothing is added to its logits before something was found to pay."""
    space, size = taught.space, taught.space.basis.shape[1] + N_PRIOR
    assert np.abs(space.network_at(np.zeros(size)).w3[:, 0]).max() == 0.0
    assert space.parameters_at(np.zeros(size)) == pytest.approx(SMALL.prior)


def test_inputs_lie_between_the_bounds_that_are_kept(seen, taught):
    """A live process compares what it sees with them."""
    inputs = seen.rows[seen.allowed > 0]
    assert (taught.low[:N_ROW] <= inputs.min(axis=0) + 1e-6).all()
    assert (taught.high[N_ROW:] >= seen.context.max(axis=0) - 1e-6).all()


def test_no_more_is_kept_of_the_layer_than_is_surely_of_use(taught):
    """The least share within a standard error of the best: where all do alike, nothing; the prior's parameters stay as they were found."""
    size = taught.space.basis.shape[1] + N_PRIOR
    mean = np.concatenate((np.full(size - N_PRIOR, 1e-9), np.full(N_PRIOR, 0.1)))
    with ThreadPoolExecutor(1) as pool:
        kept, share = train.settle(taught._replace(place=Place(1, mean, mean, mean)), fleet_of, SMALL, pool, lambda: None)
    assert share == 0.0
    assert kept.place is not None
    np.testing.assert_array_equal(kept.place.mean, np.concatenate((np.zeros(size - N_PRIOR), np.full(N_PRIOR, 0.1))))

    dice = np.random.default_rng(0)
    gains = np.array([0.0, 0.01, 0.019, 0.02, 0.015]) + dice.normal(0.0, 0.02, (100, 1)) + dice.normal(0.0, 0.01, (100, 5))
    assert train.least_of(gains) == 2
    assert train.least_of(np.zeros((0, 5))) == 0


def test_a_search_goes_on_where_it_stopped(taught):
    """Two iterations at once are as many as one and one, and each tells what it found."""
    with ThreadPoolExecutor(1) as pool:
        told = list[Step]()
        once = train.improve(taught, fleet_of, SMALL, pool, told.append)
        half = train.improve(taught, fleet_of, replace(SMALL, search=replace(SMALL.search, iterations=1)), pool, told.append)
        whole = train.improve(half, fleet_of, SMALL, pool, told.append)
    assert once.place is not None
    assert whole.place is not None
    assert (once.place.iteration, whole.place.iteration) == (2, 2)
    assert len(told) == 4
    assert told[0].reward == told[2].reward
    assert np.abs(whole.place.theta).max() > 0.0


def test_policies_are_compared_in_the_same_scene():
    """The same policy twice earns the same, to the bit."""
    mind = Mind.of("actor", SMALL.prior, untaught())
    same = train.scene_rewards(fleet_of, SMALL, [mind, mind, Mind.of("random")], 5)
    assert same[0] == same[1]
    assert same[2] < same[0]


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
