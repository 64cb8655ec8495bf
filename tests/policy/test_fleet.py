"""The books of the fleet."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.policy.books import Open
from bestserve.policy.circuit import HOLD_S, CircuitRules, CircuitState
from bestserve.policy.decide import decide
from bestserve.policy.facts import Ending, Load
from bestserve.policy.fleet import Fleet
from tests.policy.facts_by_hand import LADDER, LARGE, SMALL, ask, backend, chooser, decision, outcome


def test_what_begins_is_counted_and_what_ends_is_not():
    """An attempt holds its backend's books from begin to end."""
    fleet = Fleet(LADDER)
    ticket = fleet.begin(decision(fleet, "small"), 0.0)
    assert fleet.in_flight() == {"small": 1, "medium": 0, "large": 0}
    assert fleet.view(0.0).columns.prefill_tokens == [300.0, 0.0, 0.0]

    fleet.end(ticket, outcome(), 1.0)

    assert fleet.books() == Open.of(3)


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(1, 500), max_size=6)), max_size=20), st.randoms())
def test_counts_return_to_zero_in_every_order(attempts, dice):
    """However many attempts overlap and in whatever order they end, nothing remains."""
    fleet = Fleet(LADDER)
    tickets = []
    for i, progress in attempts:
        ticket = fleet.begin(decision(fleet, LADDER[i].name), 0.0)
        for tokens in progress:
            fleet.progress(ticket, tokens, 0.5)
        tickets.append(ticket)
    dice.shuffle(tickets)

    for ticket in tickets:
        fleet.end(ticket, outcome(Ending.ABANDONED), 1.0)

    assert np.abs(fleet.books()).max(initial=0.0) < 1e-6
    assert set(fleet.in_flight().values()) == {0}


def test_a_prompt_of_which_nobody_hears_is_taken_as_read_when_it_should_have_been():
    """An answer in one piece says nothing until its end: its prompt does not stand before others all the while. What ended counts once."""
    fleet = Fleet(LADDER)
    silent, over, told = (fleet.begin(decision(fleet, "small"), 0.0, silent=silent) for silent in (True, True, False))
    fleet.end(over, outcome(), 0.001)
    assert fleet.view(0.002).columns.prefill_tokens[0] == 600.0

    seen = fleet.view(1.0).columns

    assert seen.prefill_tokens[0] == 300.0
    assert (seen.in_flight[0], seen.writing[0]) == (2.0, 0.0)
    for ticket in (silent, told):
        fleet.end(ticket, outcome(), 2.0)
    assert np.abs(fleet.books()).max() < 1e-9


def test_nobody_hears_of_a_prompt_for_longer_than_a_minute():
    """However late its first token was predicted, it is taken as read by then: what has ended is not held on to for hours."""
    fleet = Fleet([backend("a", prefill_tokens_per_s=0.01)])
    ticket = fleet.begin(decision(fleet, "a", allowed=frozenset({"a"})), 0.0, silent=True)
    assert ticket.predicted[0] > 1000
    assert fleet.view(59.0).columns.prefill_tokens == [300.0]
    assert fleet.view(61.0).columns.prefill_tokens == [0.0]


def test_what_is_being_written_is_known_by_its_tokens_and_its_time():
    """From the first token on: how many there are, what they have come to, and the seconds since; a request of two choices counts once."""
    fleet = Fleet(LADDER)
    first, second = (fleet.begin(decision(fleet, "small", n=n), 0.0) for n in (1, 2))
    fleet.progress(first, 1, 0.25)
    fleet.progress(first, 9, 0.5)
    fleet.progress(second, 8, 0.75)

    seen = fleet.view(1.0).columns
    assert (seen.writing[0], seen.written[0], seen.writing_s[0]) == (2.0, 14.0, pytest.approx(0.75 + 0.25))
    assert seen.haste[0] == pytest.approx(1 / first.decision.expected_tokens)
    assert seen.worth[0] == pytest.approx(0.4)

    fleet.end(second, outcome(), 1.0)
    seen = fleet.view(1.0).columns
    assert (seen.writing[0], seen.written[0], seen.writing_s[0]) == (1.0, 10.0, pytest.approx(0.75))


def test_ending_twice_is_a_bug():
    """A second end of the same attempt raises instead of counting below zero."""
    fleet = Fleet(LADDER)
    ticket = fleet.begin(decision(fleet, "small"), 0.0)
    fleet.end(ticket, outcome(), 1.0)

    with pytest.raises(RuntimeError, match="ended twice"):
        fleet.end(ticket, outcome(), 1.0)


def test_the_first_tokens_say_that_the_prompt_was_read():
    """Progress moves work from reading to writing, and grows the context held."""
    fleet = Fleet(LADDER)
    made = decision(fleet, "small")
    ticket = fleet.begin(made, 0.0)

    fleet.progress(ticket, 10, 0.2)

    view = fleet.view(0.0)
    assert view.columns.prefill_tokens[0] == 0.0
    assert view.columns.decode_tokens[0] == pytest.approx(made.expected_tokens - 10)
    assert view.columns.kv_tokens[0] == 310.0


def test_what_a_backend_remembers_of_a_prompt_is_not_waited_for():
    """Of 300 tokens, of which 200 are expected in its prefix cache, some hundred are to be read; memory they take all the same."""
    fleet = Fleet(LADDER)
    made = decision(fleet, "small")
    seen = made.observation.seen._replace(cached=[200.0, 0.0, 0.0])
    fleet.begin(replace(made, observation=replace(made.observation, seen=seen)), 0.0)

    unread = 100 + 200 * LADDER[0].profile.engine.prefill_cached_cost
    assert fleet.view(0.0).columns.prefill_tokens == [pytest.approx(unread), 0.0, 0.0]
    assert fleet.view(0.0).columns.kv_tokens[0] == 300.0


def test_what_others_send_is_known_from_the_report_and_fades():
    """Load beyond ours is foreign; it counts less as its report grows old."""
    fleet = Fleet(LADDER)
    ticket = fleet.begin(decision(fleet, "small"), 0.0)

    fleet.observe("small", Load(running=5, waiting=2, used_tokens=5000), 0.0)

    assert fleet.view(0.0).columns.in_flight[0] == pytest.approx(7.0)
    assert 1.0 < fleet.view(10.0).columns.in_flight[0] < 7.0
    assert fleet.view(1000.0).columns.in_flight[0] == pytest.approx(1.0)
    assert fleet.view(3.0).columns.report_age_s[0] == pytest.approx(3.0)
    fleet.end(ticket, outcome(), 1.0)


def test_a_report_that_is_behind_us_takes_nothing_from_our_count():
    """A backend that has not noticed our requests yet does not make them vanish."""
    fleet = Fleet(LADDER)
    for _ in range(3):
        fleet.begin(decision(fleet, "small"), 0.0)

    fleet.observe("small", Load(running=0, waiting=0, used_tokens=0), 0.1)

    assert fleet.view(0.1).columns.in_flight[0] == 3.0


def test_a_backend_knows_its_own_limits_better_than_its_profile():
    """Places and memory that a backend reports replace the believed ones."""
    fleet = Fleet(LADDER)

    fleet.observe("small", Load(running=0, waiting=0, used_tokens=0, max_running=4, kv_tokens=1000), 0.0)

    assert fleet.view(0.0).constants.max_running == [4.0, 64.0, 64.0]
    assert fleet.view(0.0).constants.kv_capacity[0] == 1000.0


def test_an_age_is_infinite_before_the_first_report():
    """Nobody pretends to know a load that was never reported."""
    assert np.isinf(Fleet(LADDER).view(5.0).columns.report_age_s).all()


class TestCircuit:
    """When a backend is left alone."""

    def fleet(self) -> Fleet:
        return Fleet(LADDER, CircuitRules(failures=2, open_s=5.0))

    def fail(self, fleet: Fleet, now: float, **how: object) -> None:
        ticket = fleet.begin(decision(fleet, "small", now), now)
        fleet.end(ticket, outcome(Ending.REFUSED, reason="connect_failed", **how), now)

    def test_it_opens_after_failures_in_a_row(self):
        """One failure is forgiven, two are not."""
        fleet = self.fleet()
        self.fail(fleet, 0.0)
        assert fleet.view(0.0).columns.usable[0]

        self.fail(fleet, 1.0)

        assert not fleet.view(1.0).columns.usable[0]
        assert fleet.circuit("small", 1.0) is CircuitState.OPEN

    def test_a_success_between_two_failures_forgives_the_first(self):
        """Only failures in a row count."""
        fleet = self.fleet()
        self.fail(fleet, 0.0)
        fleet.end(fleet.begin(decision(fleet, "small"), 0.5), outcome(), 0.6)
        self.fail(fleet, 1.0)

        assert fleet.circuit("small", 1.0) is CircuitState.CLOSED

    def test_half_open_lets_one_trial_through(self):
        """While the trial runs, nobody else is let through."""
        fleet = self.fleet()
        self.fail(fleet, 0.0)
        self.fail(fleet, 0.0)
        assert fleet.circuit("small", 5.0) is CircuitState.HALF_OPEN
        assert fleet.view(5.0).columns.usable[0]

        trial = fleet.begin(decision(fleet, "small", 5.0), 5.0)

        assert not fleet.view(5.1).columns.usable[0]
        fleet.end(trial, outcome(), 5.2)
        assert fleet.circuit("small", 5.2) is CircuitState.CLOSED

    def test_a_failed_trial_opens_for_twice_as_long(self):
        """A backend that stays broken is asked ever more rarely."""
        fleet = self.fleet()
        self.fail(fleet, 0.0)
        self.fail(fleet, 0.0)
        self.fail(fleet, 5.0)

        assert fleet.circuit("small", 14.9) is CircuitState.OPEN
        assert fleet.circuit("small", 15.0) is CircuitState.HALF_OPEN

    def test_an_abandoned_trial_makes_way_for_another(self):
        """A client that leaves during the trial proves nothing and blocks nobody."""
        fleet = self.fleet()
        self.fail(fleet, 0.0)
        self.fail(fleet, 0.0)
        trial = fleet.begin(decision(fleet, "small", 5.0), 5.0)

        fleet.end(trial, outcome(Ending.ABANDONED), 5.5)

        assert fleet.view(5.6).columns.usable[0]

    def test_a_full_queue_is_no_failure(self):
        """It holds the backend back for a moment and leaves the circuit closed."""
        fleet = self.fleet()
        for _ in range(5):
            ticket = fleet.begin(decision(fleet, "small"), 0.0)
            fleet.end(ticket, outcome(Ending.REFUSED, reason="queue_full"), 0.0)

        assert fleet.circuit("small", 0.0) is CircuitState.CLOSED
        assert fleet.view(0.0).columns.held[0]
        assert not fleet.view(HOLD_S + 0.01).columns.held[0]

    def test_what_probes_opened_a_probe_closes(self):
        """A backend that starts after the proxy is used as soon as it is ready."""
        fleet = self.fleet()
        fleet.ready("small", False, 0.0)
        fleet.ready("small", False, 0.5)
        assert fleet.circuit("small", 0.6) is CircuitState.OPEN
        assert not fleet.is_up("small", 0.6)

        fleet.ready("small", True, 1.0)

        assert fleet.circuit("small", 1.0) is CircuitState.CLOSED
        assert fleet.is_up("small", 1.0)

    def test_where_requests_failed_a_probe_only_ends_the_waiting(self):
        """A restarted backend is up, and its first request is a trial."""
        fleet = self.fleet()
        self.fail(fleet, 0.0)
        self.fail(fleet, 0.1)
        fleet.ready("small", False, 0.5)

        fleet.ready("small", True, 1.0)

        assert fleet.circuit("small", 1.0) is CircuitState.HALF_OPEN
        assert fleet.is_up("small", 1.0)

    def test_a_ready_probe_does_not_excuse_failing_requests(self):
        """A backend that says ready and fails every request is still left alone."""
        fleet = self.fleet()
        self.fail(fleet, 0.0)
        fleet.ready("small", True, 0.5)

        self.fail(fleet, 1.0)
        fleet.ready("small", True, 1.5)

        assert fleet.circuit("small", 1.5) is CircuitState.OPEN


def test_a_backend_at_its_operators_limit_is_not_asked():
    """max_in_flight takes a backend out of the mask until one of its requests ends."""
    fleet = Fleet((backend("small", most=1), LARGE))
    ticket = fleet.begin(decision(fleet, "small"), 0.0)
    assert fleet.view(0.0).columns.usable == [False, True]

    fleet.end(ticket, outcome(), 1.0)

    assert fleet.view(1.0).columns.usable == [True, True]


def test_a_removed_backend_keeps_its_open_attempts_until_they_end():
    """Removal drops no stream and leaks no count, and a return finds the books as they were."""
    fleet = Fleet(LADDER)
    first, second = (fleet.begin(decision(fleet, "small"), 0.0) for _ in range(2))

    fleet.replace((LARGE,))
    assert fleet.in_flight() == {"large": 0, "small": 2}
    fleet.end(first, outcome(), 1.0)
    fleet.replace(LADDER)
    assert fleet.in_flight() == {"small": 1, "medium": 0, "large": 0}
    fleet.end(second, outcome(), 2.0)

    assert np.abs(fleet.books()).max() < 1e-9


def test_a_backend_keeps_its_circuit_when_another_is_added():
    """A reload forgives nobody."""
    fleet = Fleet((SMALL,), CircuitRules(failures=1))
    fleet.ready("small", False, 0.0)

    fleet.replace(LADDER)

    assert fleet.circuit("small", 0.1) is CircuitState.OPEN


def test_the_work_of_sibling_processes_counts_as_ours():
    """What another worker has begun is load here too."""
    fleet = Fleet(LADDER)
    fleet.siblings(Open.of(3)._replace(requests=[2.0, 0, 0], prefill=[100.0, 0, 0], decode=[50.0, 0, 0], kv=[100.0, 0, 0]))

    assert fleet.view(0.0).columns.in_flight == [2.0, 0.0, 0.0]
    assert fleet.in_flight()["small"] == 0


def test_the_arrival_rate_follows_and_fades():
    """Ten a second are seen as about ten, and as nearly none a minute later."""
    fleet = Fleet(LADDER)
    for i in range(1000):
        fleet.arrive(i / 10)

    assert fleet.arrival_rate(100.0) == pytest.approx(10.0, rel=0.1)
    assert fleet.arrival_rate(160.0) < 0.1


def test_what_comes_to_sibling_processes_is_demand_too():
    """Four workers share what comes: each counts its own, and prices by all of it."""
    fleet = Fleet(LADDER)
    fleet.arrive(0.0)
    alone = fleet.arrival_rate(0.0)

    fleet.siblings(Open.of(3), 30.0)
    fleet.arrive(0.0)

    assert fleet.arrival_rate(0.0) == pytest.approx(2 * alone + 30.0)
    assert fleet.own_rate(0.0) == pytest.approx(2 * alone)
    assert fleet.view(0.0).columns.arrival_rate == fleet.arrival_rate(0.0)


def test_a_view_is_a_picture_and_not_a_window():
    """What happens later does not change an earlier view."""
    fleet = Fleet(LADDER)
    before = fleet.view(0.0)

    fleet.begin(decision(fleet, "small"), 0.0)

    assert before.columns.in_flight == [0.0, 0.0, 0.0]


def test_a_shed_decision_cannot_be_begun():
    """There is no backend to begin it on."""
    fleet = Fleet(LADDER)
    nobody, _ = decide(ask(allowed=frozenset()), fleet.view(0.0), chooser("random"), draw=0.5, id="x")

    with pytest.raises(ValueError, match="shed"):
        fleet.begin(nobody, 0.0)


def test_news_of_an_unknown_backend_is_ignored():
    """A report that arrives after a removal does no harm."""
    fleet = Fleet((SMALL,))
    fleet.observe("gone", Load(1, 1, 1), 0.0)
    fleet.ready("gone", True, 0.0)

    assert fleet.names == ("small",)
