"""Mask, score, choose."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.policy.decide import LATEST_S, SOONEST_S, Lack, choose, decide, retry_after_s, why_nobody
from bestserve.policy.encode import ENCODER
from bestserve.policy.fleet import Fleet
from tests.policy.facts_by_hand import BUDGETS, LADDER, ask, chooser


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda p: sum(p) > 1e-6), st.floats(0, 1, exclude_max=True))
def test_nothing_of_probability_zero_is_ever_chosen(weights, draw):
    """Wherever the draw falls."""
    probabilities = np.array(weights) / sum(weights)
    assert probabilities[choose(probabilities, draw)] > 0


def test_draws_follow_the_probabilities():
    """A quarter of the draws falls on a quarter."""
    probabilities = np.array([0.25, 0.0, 0.5, 0.25])
    counts = np.bincount([choose(probabilities, (i + 0.5) / 1000) for i in range(1000)], minlength=4)
    assert counts.tolist() == [250, 0, 500, 250]


def test_a_decision_carries_what_is_needed_to_judge_it():
    """Mask, every probability, versions, digest, and what was put on the backend."""
    made, observation = decide(ask(), Fleet(LADDER).view(2.0), chooser("random"), draw=0.9, id="d1")

    assert made.id == "d1"
    assert made.at == 2.0
    assert made.policy == "random"
    assert made.encoder == ENCODER
    assert made.digest == observation.digest()
    assert len(made.actions) == len(made.mask) == len(made.probabilities) == 13
    assert made.actions[made.index] == made.action
    assert made.propensity == pytest.approx(1 / 12)
    assert made.expected_tokens == pytest.approx(float(observation["tokens"][made.index]))


def test_a_decision_says_how_much_was_explored():
    """The floor of every action that is likely on time; none in a tier in which nothing is explored."""
    view, bold = Fleet(LADDER).view(0.0), replace(chooser("deadline-greedy", explore=0.12), settled=frozenset({"flex"}))

    made, _ = decide(ask(tier="default"), view, bold, draw=0.0, id="d")
    assert made.floor == pytest.approx(0.12 / 12)
    assert min(p for p in made.probabilities if p) == pytest.approx(made.floor)

    calm, _ = decide(ask(tier="flex"), view, bold, draw=0.0, id="d")
    assert (calm.floor, max(calm.probabilities)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "refused", "lack"),
    [
        ({}, set(), None),
        ({}, {"small", "medium", "large"}, Lack.UP),
        ({"allowed": frozenset({"small"})}, {"small"}, Lack.UP),
        ({"needs": frozenset({"embeddings"})}, set(), Lack.ABILITY),
        ({"prompt_tokens": 100_000}, set(), Lack.CONTEXT),
    ],
)
def test_why_nobody_could_be_asked(changes, refused, lack):
    """The client learns whether waiting helps."""
    assert why_nobody(ask(**changes), Fleet(LADDER).view(0.0).without(frozenset(refused)), BUDGETS) is lack


def test_waiting_is_bounded_and_spread():
    """Clients that were turned away together do not come back together."""
    _, observation = decide(ask(), Fleet(LADDER).view(0.0), chooser("random"), draw=0.0, id="x")
    early, late = retry_after_s(observation, 0.0), retry_after_s(observation, 0.999)
    assert 0.75 * SOONEST_S <= early < late <= 1.25 * LATEST_S
    _, nobody = decide(ask(), Fleet(()).view(0.0), chooser("random", ()), draw=0.0, id="x")
    assert retry_after_s(nobody, 0.5) == SOONEST_S
