"""Trials of new policies: who decides when, and what the difference must be before one goes."""

import numpy as np
import pytest

from bestserve.policy.canary import LAG_S, Rules, State, Sums, is_counted, is_new, judge, pooled, window_at

RULES = Rules(window_s=30.0, pairs=10)
VERSION = "20261122T081500Z-1a2b3c4d"
SINCE = 1_000_000 * 30.0 - LAG_S  # a window begins when everybody knows


def played(dice: np.random.Generator, worse_by: float, *, noise: float = 0.04, windows: int = 20) -> dict[int, Sums]:
    """Windows of 200 requests on a load that moves more than the policies differ."""
    load = 0.6 + 0.1 * np.sin(np.arange(windows) / 3.0)
    sums = {}
    for i in range(windows):
        window = 1_000_000 + i
        mean = load[i] - worse_by * is_new(VERSION, window) + noise * dice.standard_normal()
        sums[window] = Sums(200 * mean, 200.0, 200)
    return sums


def ended(sums: dict[int, Sums], rules: Rules = RULES) -> tuple[State, int]:
    """Looked at after every window: how it ended, and after how many pairs."""
    for window in range(1_000_000, 1_000_000 + len(sums) + 3):
        finding = judge(VERSION, sums, since=SINCE, now=window * 30.0 + 1, rules=rules)
        if finding.state is not State.RUNS:
            return finding.state, finding.pairs
    return State.RUNS, finding.pairs


def test_each_has_one_window_of_every_pair_in_an_order_that_is_drawn():
    """Both orders come about as often; all that know the version and the time agree."""
    turns = [is_new(VERSION, window) for window in range(2000)]
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    assert set(pairs) == {(False, True), (True, False)}
    assert 400 < sum(first for first, _ in pairs) < 600
    assert window_at(90.0, RULES) == 3


def test_the_beginning_of_a_window_is_not_counted():
    """Its queues are the other's work."""
    assert [is_counted(t, RULES) for t in (60.0, 65.9, 66.1, 89.9)] == [False, False, True, True]


def test_one_that_is_no_worse_nearly_always_stays():
    """At most 4 in 100 go, over all looks together."""
    dice = np.random.default_rng(1)
    states = [ended(played(dice, 0.0)) for _ in range(500)]
    assert sum(state is State.BELOW for state, _ in states) <= 20
    assert all(pairs == 10 for state, pairs in states if state is State.STANDS)


@pytest.mark.parametrize(("worse_by", "within"), [(0.5, 2), (0.25, 4), (0.1, 10)])
def test_one_that_is_worse_goes_the_sooner_the_worse_it_is(worse_by, within):
    """Nine times in ten within so many pairs."""
    dice = np.random.default_rng(2)
    found = [ended(played(dice, worse_by)) for _ in range(100)]
    assert sum(state is State.BELOW and pairs <= within for state, pairs in found) >= 90


def test_one_that_is_better_stays():
    """However much."""
    assert ended(played(np.random.default_rng(3), -0.2))[0] is State.STANDS


def test_a_pair_counts_when_both_windows_are_over_and_have_requests():
    """Windows that began before everybody knew do not."""
    sums = played(np.random.default_rng(4), 0.0)
    now = 1_000_020 * 30.0

    def pairs(**changed: Sums) -> int:
        return judge(VERSION, sums | {int(w[1:]): s for w, s in changed.items()}, since=SINCE, now=now, rules=Rules(pairs=100)).pairs

    assert pairs() == 9  # the last one has requests that may still end
    assert pairs(w1000003=Sums(9, 19.0, 19)) == 8
    assert judge(VERSION, sums, since=SINCE + 1, now=now, rules=RULES).pairs == 8


def test_no_trial_is_wanted():
    """Then it stands at once."""
    assert judge(VERSION, {}, since=0.0, now=0.0, rules=Rules(pairs=0)).state is State.STANDS


def test_what_processes_have_seen_is_added():
    """By window."""
    assert pooled([{1: Sums(1, 2, 3)}, {1: Sums(1, 1, 1), 2: Sums(0, 1, 1)}]) == {1: Sums(2, 3, 4), 2: Sums(0, 1, 1)}


def test_a_finding_says_what_was_found():
    """In one line, for the log and the history."""
    finding = judge(VERSION, played(np.random.default_rng(5), 0.3), since=SINCE, now=1_000_030 * 30.0, rules=RULES)
    assert finding.state is State.BELOW
    assert "in 10 pairs of windows: difference -0.3" in str(finding)
