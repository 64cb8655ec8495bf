"""Prices of backend time."""

import numpy as np
import pytest
from scipy import optimize

from bestserve.policy import task
from bestserve.policy.encode import encode
from bestserve.policy.facts import TASKS
from bestserve.policy.fleet import Fleet
from bestserve.policy.price import HEADROOM, asked_for, prices, wanted
from tests.policy.facts_by_hand import BOUGHT, BUDGETS, LADDER, ask


def demand(n: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """(value, work) of `n` varied requests on the idle ladder, (C, A - 1) each."""
    dice, seen = np.random.default_rng(0), Fleet(LADDER).view(0.0)
    asks = [ask(prompt_tokens=int(dice.lognormal(6.5, 0.8)), task=task.prior(TASKS[dice.integers(10)])) for _ in range(n)]
    seen_by_each = [encode(a, seen, BUDGETS) for a in asks]
    return np.array([o["quality"] for o in seen_by_each]), np.array([o["work_s"] for o in seen_by_each])


def settled(rate: float) -> np.ndarray:
    value, work = demand()
    p = np.zeros(3)
    for _ in range(20):
        p = prices(p, value, work, rate)
    return p


def test_time_is_free_while_there_is_enough():
    """At a request every ten seconds nobody pays."""
    assert settled(0.1) == pytest.approx(np.zeros(3), abs=1e-9)


def test_seconds_are_not_dearer_than_what_can_be_bought_instead():
    """An own second is worth no more than it would cost to let others do what it does."""
    fleet = Fleet((*LADDER, BOUGHT))
    paying = [ask(allowed=frozenset(fleet.names), usd_weight=w) for w in (100.0, 1.0)]
    dear, cheap = ([encode(a, fleet.view(0.0), BUDGETS)] * 48 for a in paying)
    alone = [encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)] * 48

    def large(observations) -> float:
        p = np.zeros(len(observations[0].seen.able))
        for _ in range(20):
            p = prices(p, *wanted(observations), 50.0)
        return p[2]

    assert large(cheap) < large(dear) < large(alone)


def test_prices_rise_with_demand():
    """More requests for the same seconds make each dearer."""
    a, b, c = settled(20.0), settled(100.0), settled(500.0)
    assert (a <= b + 1e-9).all()
    assert (b <= c + 1e-9).all()
    assert c.min() > 0


def test_at_the_settled_prices_nobody_is_asked_for_more_than_it_has():
    """A second a second, and no more; a backend with a price is used up."""
    value, work = demand()
    p = settled(100.0)
    asked = asked_for(p, value, work, 100.0 * HEADROOM)
    assert (asked < 1.1).all()
    assert (asked[p > 1e-3] > 0.9).all()


def test_the_price_of_everything_is_the_linear_programs_dual():
    """D(p) at our prices is within two percent of the optimum that HiGHS finds."""
    value, work = demand()
    n, per_ask, rate = len(value), value[0].size, 60.0 * HEADROOM
    one_each = np.kron(np.eye(n), np.ones(per_ask))
    seconds = np.zeros((3, n * per_ask))
    for b in range(3):
        here = np.zeros_like(work)
        here[:, b * 4 : b * 4 + 4] = work[:, b * 4 : b * 4 + 4]
        seconds[b] = here.reshape(-1) * rate / n
    best = optimize.linprog(-value.reshape(-1) * rate / n, A_ub=np.vstack((one_each, seconds)), b_ub=np.ones(n + 3))

    p = settled(60.0)
    dual = p.sum() + rate * np.maximum((value - np.repeat(p, 4) * work).max(axis=1), 0).mean()

    assert dual == pytest.approx(-best.fun, rel=0.02)


def test_no_demand_changes_no_price():
    """Before the first request there is nothing to learn from."""
    before = np.array([1.0, 2.0, 3.0])
    assert (prices(before, np.zeros((0, 12)), np.zeros((0, 12)), 5.0) == before).all()
