"""Lengths follow the answers that are seen: offset and spread, shrunk, fading, bounded."""

import math

import pytest

from bestserve.policy import drift
from bestserve.policy.drift import MOST, NONE, Drift
from bestserve.policy.facts import Length


def after(off: float, n: int, begin: Drift = NONE) -> Drift:
    for _ in range(n):
        begin = begin.seen(off)
    return begin


def test_nothing_seen_changes_nothing():
    """Neither offset nor spread."""
    expected = Length(100.0, 0.9)

    assert drift.offset(NONE) == 0.0
    assert drift.widened(expected, NONE) == expected


def test_a_steady_factor_is_learnt():
    """Twice as long, after a few hundred answers; a few say little."""
    assert drift.offset(after(math.log(2), 3)) < 0.2 * math.log(2)
    assert drift.offset(after(math.log(2), 400)) == pytest.approx(math.log(2), rel=0.1)


def test_an_old_habit_is_forgotten():
    """As many answers of another kind weigh more than those before."""
    assert drift.offset(after(-1.0, 700, after(1.0, 700))) < -0.3


def test_no_answer_moves_it_far():
    """One of a million tokens counts as one that is eight times as long."""
    assert after(math.log(1e6), 1) == after(MOST, 1)
    assert drift.offset(after(100.0, 10_000)) <= MOST


def test_the_spread_follows():
    """Narrow where answers are alike, wide where they are not, within bounds."""
    expected = Length(100.0, 0.9)
    wild = NONE
    for i in range(600):
        wild = wild.seen(MOST if i % 2 else -MOST)

    assert drift.widened(expected, after(0.5, 600)).sigma == pytest.approx(drift.LEAST_SIGMA, abs=0.05)
    assert drift.widened(expected, wild).sigma == drift.MOST_SIGMA
    assert drift.widened(expected, wild).median == 100.0


def test_several_backends_are_joined():
    """By what was seen of each."""
    one, other = after(1.0, 50), after(-1.0, 50)

    assert drift.offset(drift.joined([one, other])) == pytest.approx(0.0)
    assert drift.joined([]) == NONE


def test_a_cut_answer_counts_only_when_it_was_longer_already():
    """One that was cut before what was expected says nothing."""
    expected = Length(100.0, 0.9)

    assert drift.off_by(expected, 200, cut=False) == pytest.approx(math.log(2))
    assert drift.off_by(expected, 200, cut=True) == pytest.approx(math.log(2))
    assert drift.off_by(expected, 50, cut=True) is None
    assert drift.off_by(expected, 0, cut=False) == pytest.approx(-math.log(100))
