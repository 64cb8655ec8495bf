"""Policies by name, each with its fleet."""

from dataclasses import replace

import pytest

from bestserve.policy.scene import Places
from bestserve.proxy.entrants import BadPolicy, entrant, static_all
from tests.policy.facts_by_hand import BUDGETS, LADDER

PLACES = Places(LADDER, BUDGETS)


def test_static_serving_is_the_same_gpus_with_one_model():
    """As many copies as the fleet's GPUs hold, under one budget if one is named."""
    quad = tuple(replace(b, profile=replace(b.profile, n_gpus=4 if b.name == "large" else 1)) for b in LADDER)
    small, large = (entrant(f"static-all:{name}@384", Places(quad, BUDGETS)).places for name in ("small", "large"))
    assert [backend.name for backend in small.backends] == [f"small-{i}" for i in range(1, 7)]
    assert [backend.name for backend in large.backends] == ["large-1"]
    assert [budget.name for budget in small.budgets] == ["384"]


def test_every_way_of_static_serving_is_a_policy():
    """Each model under each budget, also where a model is there twice."""
    twice = Places((*LADDER, replace(LADDER[0], name="again")), BUDGETS)
    names = static_all(twice)
    assert len(names) == 12
    assert all(entrant(name, twice).actions for name in names)


def test_of_some_alike_the_common_name_will_do():
    """A fleet file numbers them; one names them as they are written there."""
    pair = Places(tuple(replace(LADDER[2], name=f"large-{i}") for i in (1, 2)), BUDGETS)
    assert len(entrant("static-all:large", pair).places.backends) == 2
    assert len(entrant("static-all:large-2", pair).places.backends) == 2


def test_tuned_parameters_take_the_place_of_a_rules_own():
    """Only of the policy they were found for."""
    tuned = {"bid-price": (0.1, 2.0)}
    assert entrant("bid-price", PLACES, tuned).mind.parameters[:2].tolist() == [0.1, 2.0]
    assert entrant("deadline-greedy", PLACES, tuned).mind.parameters[0] == 0.5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bidprice", "did you mean bid-price?"),
        ("static:smal", "did you mean static:small?"),
        ("static-all:small@7", "not a policy"),
        ("", "there are"),
    ],
)
def test_a_wrong_policy_is_refused_in_words(name, said):
    """With the nearest that there is."""
    with pytest.raises(BadPolicy, match=said):
        entrant(name, PLACES)
