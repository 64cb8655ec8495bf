"""What an answer was worth."""

import pytest

from bestserve.policy import task
from bestserve.policy.facts import SLO, Ending
from bestserve.policy.reward import Objective, is_on_time, lateness, reward
from tests.policy.facts_by_hand import LARGE, ask, outcome

QUALITY = 0.8


def test_an_answer_on_time_is_worth_its_quality():
    """Expected quality of the model at the task, times the tier's weight."""
    assert reward(outcome(), ask(), LARGE.profile) == pytest.approx(QUALITY)
    assert reward(outcome(), ask(weight=2.0), LARGE.profile) == pytest.approx(2 * QUALITY)


def test_late_is_worth_nothing_when_hard_and_less_when_soft():
    """A soft SLO decays with relative lateness."""
    late = outcome(ttft_s=2.0, total_s=2.5)
    assert reward(late, ask(slo=SLO(ttft_s=1.0)), LARGE.profile) == 0.0
    assert 0 < reward(late, ask(slo=SLO(ttft_s=1.0, hard=False)), LARGE.profile) < QUALITY


@pytest.mark.parametrize("ending", [Ending.ABANDONED, Ending.BROKE, Ending.REFUSED, Ending.REJECTED])
def test_what_did_not_arrive_is_worth_nothing(ending):
    """A client that went away is a miss."""
    assert reward(outcome(ending), ask(), LARGE.profile) == 0.0


def test_a_shed_beats_late_and_loses_to_anything_on_time():
    """That is what its small constant is for."""
    shed = reward(outcome(Ending.SHED), ask(), None)
    assert 0 < shed < reward(outcome(cut=True), ask(task=task.prior("chat")), LARGE.profile)
    assert reward(outcome(Ending.SHED), ask(weight=2.0), None, Objective(shed=0.05)) == pytest.approx(0.1)


def test_a_cut_answer_keeps_what_its_task_allows():
    """Code nothing, chat a part."""
    cut = outcome(cut=True, finish_reason="length")
    assert reward(cut, ask(task=tuple(t == 0 for t in range(10))), LARGE.profile) == 0.0
    assert 0 < reward(cut, ask(task=task.prior("chat")), LARGE.profile) < QUALITY / 2


def test_what_was_paid_is_taken_off_whatever_came_of_it():
    """At a hundred a dollar, a cent is a whole answer."""
    paying = ask(usd_weight=100.0)
    assert reward(outcome(usd=0.002), paying, LARGE.profile) == pytest.approx(QUALITY - 0.2)
    assert reward(outcome(Ending.ABANDONED, usd=0.002), paying, LARGE.profile) == pytest.approx(-0.2)
    assert reward(outcome(usd=0.002), ask(), LARGE.profile) == pytest.approx(QUALITY)


@pytest.mark.parametrize(
    ("slo", "how", "late"),
    [
        (SLO(1.0, None), {"ttft_s": 1.5}, 0.5),
        (SLO(None, 0.1), {"ttft_s": 0.1, "total_s": 1.9, "tokens": 10}, 1.0),
        (SLO(None, None, 0.5), {"total_s": 0.75}, 0.5),
        (SLO(1.0, 0.1), {"ttft_s": None, "total_s": 4.0, "tokens": 10}, 1.0),
        (SLO(None, None), {"total_s": 1e6}, 0.0),
    ],
)
def test_lateness_is_the_worst_relative_overrun(slo, how, late):
    """An answer that was not streamed is held to first token and tokens together."""
    assert max(lateness(outcome(**how), slo), 0.0) == pytest.approx(late)
    assert is_on_time(outcome(**how), slo) is (late == 0)
