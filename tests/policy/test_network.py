"""The prior of the learned policy: prices that rise with the crowd, and nothing refused where somebody has time to spare."""

import numpy as np
import pytest

from bestserve.policy.books import Open
from bestserve.policy.encode import encode
from bestserve.policy.facts import SLO, Load
from bestserve.policy.fleet import Fleet
from bestserve.policy.network import untaught
from bestserve.policy.policies import Mind, act
from tests.policy.facts_by_hand import BUDGETS, LADDER, ask

HOPELESS = SLO(ttft_s=1e-4, tpot_s=1e-5)


def untaught_p(fleet: Fleet, *, crowd_price: float = 0.0, harm_price: float = 0.0, network=None, **changes: object) -> np.ndarray:
    """Probabilities (A,) of the prior, sharpened until one is nearly sure."""
    seen = encode(ask(**changes), fleet.view(0.0), BUDGETS)
    mind, p = Mind.of("actor", (0.05, 1.0, crowd_price, 1.0, harm_price, 100.0), network), [0.0] * 13
    act(mind.network, mind.parameters, seen.features, seen.mask, seen.seen, p)
    return np.array(p)


def favourite(p: np.ndarray) -> str:
    """The backend that gets most, or "nobody"."""
    return "nobody" if p.argmax() == len(p) - 1 else LADDER[p.argmax() // len(BUDGETS)].name


def loaded(**running: int) -> Fleet:
    """A fleet with so many sequences running at each backend."""
    fleet = Fleet(LADDER)
    for name, n in running.items():
        fleet.observe(name, Load(n, 0, n * 300), 0.0)
    return fleet


def test_a_crowd_raises_a_price():
    """The medium one has a price and more requests than places: with a crowd price others are asked, without one it is."""
    fleet = loaded(large=500, medium=70)
    fleet.set_prices(np.array([0.1, 0.1, 0.1]))
    long = SLO(ttft_s=60.0, tpot_s=1.0)
    assert favourite(untaught_p(fleet, slo=long, allowed=frozenset({"small", "medium"}))) == "medium"
    assert favourite(untaught_p(fleet, slo=long, allowed=frozenset({"small", "medium"}), crowd_price=1000.0)) == "small"


def test_a_prompt_goes_where_it_makes_fewer_answers_late():
    """At the large one twenty short answers are being written: with a price of harm a long prompt goes elsewhere, without one there."""
    fleet, answers = (
        Fleet(LADDER),
        {"requests": 20.0, "decode": 200.0, "kv": 6000.0, "haste": 2.0, "worth": 12.0, "writing": 20.0, "written": 20.0},
    )
    fleet.siblings(Open.of(3)._replace(**{name: [0.0, 0.0, value] for name, value in answers.items()}))
    patient = SLO(ttft_s=60.0, tpot_s=0.2)
    assert favourite(untaught_p(fleet, slo=patient, prompt_tokens=8000)) == "large"
    assert favourite(untaught_p(fleet, slo=patient, prompt_tokens=8000, harm_price=1.0)) != "large"


def test_where_nothing_has_a_price_a_crowd_costs_nothing():
    """Then nobody else wants the time."""
    fleet = loaded(medium=70)
    calm, dear = (untaught_p(fleet, allowed=frozenset({"small", "medium"}), crowd_price=price) for price in (0.0, 1000.0))
    np.testing.assert_array_equal(calm, dear)


def test_what_has_no_hope_is_still_answered_while_somebody_is_idle():
    """No answer can be on time: it goes where it ends soonest, and is not refused."""
    p = untaught_p(Fleet(LADDER), slo=HOPELESS)
    assert favourite(p) == "small"
    assert p[-1] < 1e-100


def test_what_has_no_hope_is_refused_where_others_want_the_time():
    """Every backend has a price, or no place."""
    priced, full = Fleet(LADDER), loaded(small=500, medium=500, large=500)
    priced.set_prices(np.array([0.1, 0.1, 0.1]))
    assert favourite(untaught_p(priced, slo=HOPELESS)) == "nobody"
    assert favourite(untaught_p(full, slo=HOPELESS)) == "nobody"


def test_what_training_could_find_does_not_refuse_an_idle_fleet():
    """Not even a hundred nats against every backend."""
    network = untaught()
    network.w1[0, 0] = network.w2[0, 0] = 1.0  # of "asks": 1 for every action but Shed
    network.w3[0, 0] = -100.0
    assert untaught_p(Fleet(LADDER), network=network)[-1] < 1e-100


@pytest.mark.parametrize("weight", [0.5, 4.0])
def test_a_weight_counts_for_worth_and_not_for_work(weight):
    """What is worth more outbids a price that sheds others."""
    fleet = Fleet(LADDER)
    fleet.set_prices(np.array([6.0, 6.0, 6.0]))
    assert (favourite(untaught_p(fleet, weight=weight)) == "nobody") is (weight < 1)
