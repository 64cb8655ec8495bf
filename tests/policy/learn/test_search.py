"""The search finds what pays, where something pays, on a landscape that is known."""

from collections.abc import Sequence

import numpy as np

from bestserve.policy.facts import Floats
from bestserve.policy.learn.outcomes import blank
from bestserve.policy.learn.search import SearchArgs, Space, Step, hidden, search, space_of
from bestserve.policy.network import forward, untaught
from bestserve.policy.policies import Mind
from tests.policy.learn.test_actor_critic import taught

ARGS = SearchArgs(iterations=60, scenes=4, pairs=8, width=4)
PRIOR = (0.05, 0.5, 5.0, 1.0, 0.5, 20.0)


def seen(n: int = 50, actions: int = 7):
    """Decisions of no meaning."""
    dice = np.random.default_rng(0)
    found = blank(n)
    found.rows[:, :actions], found.context[:] = (
        dice.standard_normal((n, actions, found.rows.shape[2])),
        dice.standard_normal(found.context.shape),
    )
    found.allowed[:, :actions] = 1.0
    return found


def test_hidden_is_what_the_last_layer_reads():
    """The same as the network that decides computes, for one decision."""
    net, some = taught(), seen()
    by_hand = hidden(net, some)[3, :7] @ net.w3 + net.b3
    np.testing.assert_allclose(by_hand, forward(net, some.rows[3, :7], some.context[3], some.allowed[3, :7]), rtol=1e-5, atol=1e-5)


def test_a_unit_of_any_direction_moves_logits_by_one():
    """Whatever the features' sizes; directions do not repeat each other."""
    space, some = space_of(taught(), seen(), 4, PRIOR), seen()
    moved = hidden(taught(), some)[:, :7] @ space.basis
    moved -= moved.mean(axis=1, keepdims=True)
    flat = moved.reshape(-1, 4)
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(4), atol=0.05)


def test_a_hill_is_climbed_through_noise():
    """Rewards that depend on the distance to a known theta, and on the scene: the search ends nearer to it than it began."""
    space = Space(untaught(), np.eye(48)[:, :4], PRIOR)
    top = np.array([0.6, -0.4, 0.3, 0.0, 0.5, -0.3, 0.0, 0.0, 0.1, 0.2])
    dice = np.random.default_rng(3)

    def rewards(minds: Sequence[Mind], iteration: int) -> Floats:
        thetas = np.array([[*mind.network.w3[:4, 0], *np.log(np.asarray(mind.parameters)[: len(PRIOR)] / PRIOR)] for mind in minds])
        scene = dice.uniform(0.4, 0.8, size=(4, 1))
        return scene * (1.0 - 0.1 * ((thetas - top) ** 2).sum(axis=1)) + dice.normal(0.0, 0.001, size=(4, len(minds)))

    told = list[Step]()
    place = search(space, rewards, ARGS, np.random.default_rng(0), told.append)
    assert np.linalg.norm(place.mean - top) < 0.35 * np.linalg.norm(top)
    assert [step.place.iteration for step in told] == list(range(1, 61))


def test_scenes_in_which_nothing_can_be_earned_have_no_say():
    """A fleet too large to train on gives zeros: no step, and no number that is none."""
    space = Space(untaught(), np.eye(48)[:, :4], PRIOR)
    place = search(
        space, lambda minds, _: np.zeros((2, len(minds))), SearchArgs(iterations=1, pairs=2), np.random.default_rng(0), lambda _: None
    )
    assert np.isfinite(place.theta).all()
    assert np.abs(place.theta).max() == 0.0


def test_what_nothing_speaks_for_stays_small():
    """Among rewards of noise alone, directions of the last layer wander; those that are taken back a little at each step, less far."""
    space = Space(untaught(), np.eye(48)[:, :4], PRIOR)

    def wandered(decay: float) -> float:
        dice, args = np.random.default_rng(5), SearchArgs(iterations=100, pairs=4, decay=decay)
        noise = np.random.default_rng(6)
        place = search(space, lambda minds, _: 0.5 + noise.normal(0.0, 0.01, (4, len(minds))), args, dice, lambda _: None)
        return float(np.abs(place.theta[:4]).sum())

    assert wandered(0.1) < 0.6 * wandered(0.0)
