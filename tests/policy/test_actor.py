"""The learned policy, live."""

import numpy as np
import pytest

from bestserve.policy.actor import Actor
from bestserve.policy.checkpoint import Checkpoint
from bestserve.policy.encode import encode
from bestserve.policy.fleet import Fleet
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.network import untaught
from tests.policy.facts_by_hand import BUDGETS, LADDER, ask, chooser
from tests.policy.test_checkpoint import checkpoint

RANGE = np.zeros(N_ROW + N_CONTEXT)


def test_untaught_and_sharp_it_is_the_bid_price_policy():
    """A network of zeros adds nothing to its prior; what the prior likes best gets nearly all."""
    observation = encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)
    actor = Actor(Checkpoint(untaught(), (0.02, 1.0, 0.0, 1.0, 500.0), RANGE, RANGE, {}))
    best = np.argmax(chooser("bid-price").policy(observation))
    assert np.argmax(actor(observation)) == best
    assert actor(observation)[best] > 0.9


def test_what_is_masked_is_never_chosen():
    """Whatever the weights say; probabilities sum to one."""
    observation = encode(ask(allowed=frozenset({"medium"})), Fleet(LADDER).view(0.0), BUDGETS)
    for seed in range(5):
        p = np.array(Actor(checkpoint(seed))(observation))
        assert p.sum() == pytest.approx(1.0)
        assert (p[~np.array(observation.mask)] == 0.0).all()


def test_when_nobody_can_answer_it_sheds():
    """The mask leaves nothing else."""
    observation = encode(ask(allowed=frozenset()), Fleet(LADDER).view(0.0), BUDGETS)
    assert Actor(checkpoint())(observation)[-1] == pytest.approx(1.0)


def test_a_network_that_gives_no_number_says_so():
    """Weights too large to multiply: an error that serving answers with its fallback."""
    large = checkpoint().network._replace(w3=np.full((48, 2), 1e308), w2=np.full((48, 48), 1e308))
    observation = encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)
    with np.errstate(all="ignore"), pytest.raises(ArithmeticError, match="no probabilities"):
        Actor(Checkpoint(large, (0.05, 0.7, 0.0, 1.0, 5.0), RANGE, RANGE, {}, "x"))(observation)
