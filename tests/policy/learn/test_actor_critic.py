"""The network that is trained is the network that serves."""

import numpy as np
import pytest
import torch

from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.learn.actor_critic import ActorCritic
from bestserve.policy.network import SHAPES, Network, forward, untaught


def taught(seed: int = 0) -> Network:
    """Weights that are not zero anywhere."""
    dice = np.random.default_rng(seed)
    return Network(**{name: dice.standard_normal(shape) / np.sqrt(shape[0]) for name, shape in SHAPES.items()})


@pytest.mark.parametrize("n_actions", [2, 13, 129])
def test_torch_and_numpy_agree(n_actions):
    """For fleets of any size, with whatever is masked."""
    dice = np.random.default_rng(n_actions)
    rows, context = dice.standard_normal((n_actions, N_ROW)), dice.standard_normal(N_CONTEXT)
    allowed = np.where(dice.uniform(size=n_actions) < 0.7, 1.0, 0.0)
    allowed[-1] = 1.0
    model = ActorCritic(taught())

    with torch.no_grad():
        theirs = model(*(torch.tensor(part[None], dtype=torch.float32) for part in (rows, context, allowed)))[0].numpy()

    np.testing.assert_allclose(forward(model.weights(), rows, context, allowed), theirs, atol=2e-4)


def test_a_new_network_adds_nothing_to_its_prior():
    """Before the first round the policy is the bid-price policy's, softened."""
    dice = np.random.default_rng(0)
    rows, context = dice.standard_normal((5, N_ROW)), dice.standard_normal(N_CONTEXT)
    for weights in (ActorCritic().weights(), untaught()):
        assert np.abs(forward(weights, rows, context, np.ones(5))).max() == 0.0


def test_the_order_of_backends_does_not_matter():
    """The same rows in another order give the same answers in that order."""
    dice = np.random.default_rng(1)
    rows, context, order = dice.standard_normal((9, N_ROW)), dice.standard_normal(N_CONTEXT), dice.permutation(9)
    there = forward(taught(), rows, context, np.ones(9))
    np.testing.assert_allclose(forward(taught(), rows[order], context, np.ones(9)), there[order], atol=1e-12)
