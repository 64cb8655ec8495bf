"""Where learned policies are read from: the package and files; and what the one in the package does."""

from importlib import resources

import numpy as np
import pytest

from bestserve.policy.actor import Actor
from bestserve.policy.checkpoint import BadCheckpoint, to_bytes
from bestserve.policy.encode import encode
from bestserve.policy.facts import Budget, Load
from bestserve.policy.fleet import Fleet
from bestserve.proxy import checkpoints
from tests.policy.facts_by_hand import BUDGETS, LADDER, ask, backend


def asked(fleet: Fleet, budgets: tuple[Budget, ...] = BUDGETS, **changes: object) -> np.ndarray:
    """Probabilities (A,) of the policy that ships."""
    names = {"allowed": frozenset(fleet.names)}
    return np.array(Actor(checkpoints.pretrained())(encode(ask(**{**names, **changes}), fleet.view(0.0), budgets)))


def test_one_ships():
    """Small, and told apart by its name from any that is trained."""
    data = resources.files("bestserve.policy").joinpath("weights", "pretrained.ckpt").read_bytes()
    assert len(data) <= 1_000_000
    assert to_bytes(checkpoints.named("pretrained")) == data
    assert checkpoints.pretrained().about["fleets"] == []  # drawn from what ships


def test_a_file_is_named_by_its_path(tmp_path):
    """And refused by it."""
    path = tmp_path / "mine.ckpt"
    checkpoints.save(checkpoints.pretrained(), path)
    assert checkpoints.named(path).name == checkpoints.pretrained().name
    with pytest.raises(BadCheckpoint, match=r"gone\.ckpt: cannot be read"):
        checkpoints.named(tmp_path / "gone.ckpt")


@pytest.mark.parametrize("n", [1, 2, 7, 32])
@pytest.mark.parametrize("budgets", [(Budget(),), BUDGETS, (*BUDGETS, Budget(64), Budget(256, "Be brief."))])
def test_it_decides_for_fleets_of_any_size(n, budgets):
    """1 to 32 backends, any list of budgets: probabilities over all of them, and one for Shed."""
    fleet = Fleet(tuple(backend(f"b{i}", slower=1.0 + i % 5, quality=0.3 + 0.1 * (i % 5)) for i in range(n)))
    p = asked(fleet, budgets)
    assert len(p) == n * len(budgets) + 1
    assert p.sum() == pytest.approx(1.0)
    assert p[-1] < 1e-9


def test_it_asks_the_best_while_everybody_is_idle():
    """And cuts nothing."""
    p = asked(Fleet(LADDER))
    assert p.argmax() == list(LADDER).index(LADDER[-1]) * len(BUDGETS)
    assert p.max() > 0.5


def test_answers_get_smaller_before_they_get_late():
    """With the large one crowded and its time dear, a smaller one answers; when all are, shorter answers or nobody."""
    fleet = Fleet(LADDER)
    fleet.observe("large", Load(500, 20, 200_000), 0.0)
    fleet.set_prices(np.array([0.0, 0.0, 0.5]))
    assert asked(fleet).argmax() < 2 * len(BUDGETS)
    for name in fleet.names:
        fleet.observe(name, Load(500, 100, 200_000), 0.0)
    fleet.set_prices(np.array([30.0, 30.0, 30.0]))
    assert asked(fleet)[-1] > 0.9
