"""No policy beats a bound, and a bound is no higher than it has to be where that can be told."""

from dataclasses import replace

import numpy as np
import pytest

from bestserve.policy.facts import SLO, Budget
from bestserve.policy.learn.bounds import bounds
from bestserve.policy.learn.run import run
from bestserve.policy.scene import Places, mind_of
from bestserve.policy.simulate import Trace
from bestserve.policy.summary import peak_quality
from bestserve.policy.workload import Demand, draw_trace, poisson, unpredictable
from tests.policy.facts_by_hand import BUDGETS, LADDER, backend

PLACES = Places(LADDER, BUDGETS)
TOLD = Places(LADDER, (Budget(), Budget(96, "Be brief.")), length_factor=(0.7, 1.0, 1.4))
CROWDED = Places((backend("small", quality=0.4, max_running=4), backend("large", slower=9.0, quality=0.8, kv_tokens=40_000)), BUDGETS)


def trace(rate: float, seconds: float = 30.0, seed: int = 0, **demand: object) -> Trace:
    """Poisson arrivals."""
    return draw_trace(np.random.default_rng(seed), poisson(rate), seconds, Demand(**demand))  # type: ignore[arg-type]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("places", "what"),
    [
        (PLACES, trace(3.0)),
        (PLACES, trace(60.0)),
        (PLACES, trace(300.0, 15.0)),
        (PLACES, trace(40.0, slos=((0.5, SLO(0.3, 0.03)), (0.5, SLO(None, None, 8.0))))),
        (PLACES, trace(60.0, slos=((1.0, SLO(hard=False)),))),
        (PLACES, trace(40.0, follow=0.8)),
        (PLACES, trace(60.0, weights=((0.5, 0.5), (0.5, 2.0)))),
        (TOLD, trace(60.0)),
        (CROWDED, trace(30.0)),
        (PLACES, draw_trace(np.random.default_rng(1), unpredictable(2.0, 200.0, 5.0), 30.0, Demand())),
    ],
)
def test_no_policy_beats_the_bound(places, what):
    """Calm or crowded, hard or soft, with conversations, tiers, words for brevity, few places and little memory."""
    bound = bounds(places, what)
    for policy in ("static:large", "deadline-greedy", "bid-price"):
        assert float(np.mean(run(places, what, mind_of(policy, places)).reward)) <= bound.clairvoyant + 1e-9
    assert bound.clairvoyant <= bound.fluid + 1e-12


def test_a_calm_fleet_could_serve_everybody_at_the_peak():
    """Where nobody waits, the bound is what the best model gives to whom it can serve in time at all."""
    what = trace(0.5, slos=((1.0, SLO(None, None, 100.0)),))
    assert bounds(PLACES, what).clairvoyant == pytest.approx(float(np.mean(peak_quality(what, PLACES))), rel=1e-6)


def test_beyond_capacity_the_bound_is_what_fits():
    """One backend, one kind of request: as many as its seconds hold, and the others earn what a shed earns."""
    n, only = 4000, Places((backend("only", quality=0.5),), (Budget(),))
    what = trace(n / 30.0)
    same = {"prompt": 1000, "tokens": 1, "task": 0, "shared": 0, "session": -1, "e2e_s": 3.0}
    what = what._replace(**{name: np.full_like(getattr(what, name), value) for name, value in same.items()})
    engine = only.backends[0].profile.engine
    each = 1000 / engine.prefill_tokens_per_s + 1000 / engine.prefill_batch_tokens * engine.prefill_fixed_s
    crowd = what._replace(at=np.sort(np.linspace(0.0, 10.0, len(what.at))))
    fit = min((10.0 + 1.0) / each / len(crowd.at), 1.0)
    assert 0.0 < fit < 1.0
    bound = bounds(only, crowd).clairvoyant
    assert 0.02 + 0.48 * fit <= bound <= 0.02 + 0.48 * fit * 1.25  # bins of 1.6 s round the last deadline up


def test_a_deadline_that_nobody_can_meet_is_worth_a_shed():
    """However many seconds there are."""
    what = trace(1.0, slos=((1.0, SLO(0.001)),))
    assert bounds(PLACES, what).clairvoyant == pytest.approx(0.02)


def test_a_smaller_sample_is_a_poorer_bound_and_still_one():
    """Whatever the prices, duality holds."""
    what = trace(80.0)
    few, many = (bounds(PLACES, what, sample=n).clairvoyant for n in (30, 3000))
    assert many <= few
    assert bounds(replace(PLACES, backends=LADDER), what).clairvoyant == many
