"""The reference policies: one battery for all, then what is each one's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve.policy.decide import actions_of, decide
from bestserve.policy.encode import encode
from bestserve.policy.facts import SLO, Budget, FleetView, Load
from bestserve.policy.fleet import Fleet
from bestserve.policy.heuristics import by_name, explored
from tests.policy.facts_by_hand import BOUGHT, BUDGETS, LADDER, ask, backend, chooser

ALL = ["static:medium", "static:medium@128", "random", "least-loaded", "deadline-greedy", "weighted-score", "bid-price"]


def view(loads: dict[str, int] | None = None, fleet: Fleet | None = None) -> FleetView:
    fleet = fleet or Fleet(LADDER)
    for name, running in (loads or {}).items():
        fleet.observe(name, Load(running, 0, running * 500), 0.0)
    return fleet.view(0.0)


def chosen(name: str, seen: FleetView, draw: float = 0.0, **changes: object) -> tuple[str | None, str]:
    decision, _ = decide(ask(**changes), seen, chooser(name), draw=draw, id="x")
    return decision.action.backend, decision.action.budget.name


@pytest.mark.parametrize("name", ALL)
class TestEveryPolicy:
    """What any policy owes, heuristic or learned."""

    @given(
        usable=st.lists(st.booleans(), min_size=3, max_size=3),
        running=st.lists(st.integers(0, 500), min_size=3, max_size=3),
        prompt=st.integers(1, 60_000),
        ceiling=st.one_of(st.none(), st.integers(1, 5000)),
        e2e=st.one_of(st.none(), st.floats(0.01, 100)),
        explore=st.sampled_from([0.0, 0.05]),
    )
    @settings(max_examples=60, deadline=None)
    def test_probabilities_are_over_the_mask_and_sum_to_one(self, name, usable, running, prompt, ceiling, e2e, explore):
        """Nothing masked has a chance, whatever the fleet looks like."""
        fleet = Fleet(LADDER)
        for b, n, up in zip(LADDER, running, usable, strict=True):
            fleet.observe(b.name, Load(n, 0, n * 300), 0.0)
            for _ in range(0 if up else 3):
                fleet.ready(b.name, False, 0.0)
        asked = ask(prompt_tokens=prompt, max_tokens=ceiling, slo=SLO(e2e_s=e2e))

        decision, _ = decide(asked, fleet.view(0.0), chooser(name, explore=explore), draw=0.999, id="x")

        assert len(decision.probabilities) == len(decision.mask) == 13
        assert sum(decision.probabilities) == pytest.approx(1.0)
        assert min(decision.probabilities) >= 0
        assert all(can or not p for can, p in zip(decision.mask, decision.probabilities, strict=True))
        assert decision.propensity > 0

    def test_the_same_draw_gives_the_same_choice(self, name):
        """Choosing throws no dice of its own."""
        assert {chosen(name, view({"small": 9}), 0.37) for _ in range(5)} == {chosen(name, view({"small": 9}), 0.37)}

    def test_an_empty_mask_is_a_shed(self, name):
        """When nobody can, the decision says so instead of naming somebody."""
        assert chosen(name, view(), allowed=frozenset()) == (None, "none")

    def test_a_backend_that_refused_is_not_chosen_again(self, name):
        """`without` masks whoever said no."""
        for draw in (0.0, 0.5, 0.99):
            assert chosen(name, view().without(frozenset({"medium"})), draw)[0] != "medium"


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("static")])
def test_an_empty_fleet_is_a_shed(name):
    """A fleet without backends is survived by saying so. (A static route is refused for it when it is made.)"""
    made, _ = decide(ask(), Fleet(()).view(0.0), chooser(name, ()), draw=0.5, id="x")
    assert made.action.shed


def test_static_goes_elsewhere_only_when_its_backend_cannot():
    """A static route is a wish, and availability comes first."""
    assert chosen("static:medium@384", view()) == ("medium", "384")
    assert chosen("static:medium@384", view().without(frozenset({"medium"})))[0] in ("small", "large")


def test_static_without_a_budget_takes_the_first_one():
    """The first budget listed is the default."""
    assert chosen("static:large", view()) == ("large", "none")


def test_random_is_even_over_what_is_allowed():
    """Each of the nine actions of the pinned backends has a ninth."""
    made, _ = decide(ask(allowed=frozenset({"small", "large"})), view(), chooser("random"), draw=0.0, id="x")
    assert {round(p, 6) for p in made.probabilities if p} == {0.125}


def test_least_loaded_takes_the_emptiest_and_cuts_nobody():
    """Load is the share of places taken; the budget is the largest."""
    assert chosen("least-loaded", view({"small": 9, "medium": 3, "large": 5})) == ("medium", "none")


def test_deadline_greedy_takes_the_best_that_is_on_time():
    """Idle, the largest answers; crowded, the next smaller one does."""
    assert chosen("deadline-greedy", view()) == ("large", "none")
    slow = view({"large": 64})
    assert chosen("deadline-greedy", slow, slo=SLO(tpot_s=0.05))[0] == "medium"


def test_deadline_greedy_takes_the_least_late_when_all_are():
    """Without a chance of being on time it goes where it is fastest."""
    assert chosen("deadline-greedy", view(), slo=SLO(ttft_s=0.001, tpot_s=0.001))[0] == "small"


def test_deadline_greedy_shortens_the_answer_before_it_is_late():
    """A deadline for the whole answer that only a short one meets gets a short one."""
    backend_name, budget = chosen("deadline-greedy", view(), slo=SLO(e2e_s=8.0), length=ask().length.__class__(800.0, 0.3))
    assert (backend_name, budget) != ("large", "none")


def test_weighted_score_prefers_quality_when_the_fleet_is_idle():
    """By its default weights quality counts most."""
    assert chosen("weighted-score", view())[0] in ("medium", "large")


def test_bid_price_leaves_a_dear_backend_to_those_who_need_it():
    """At a price for the large one's time, the request goes to a cheaper one."""
    fleet = Fleet(LADDER)
    assert chosen("bid-price", view(fleet=fleet))[0] == "large"

    fleet.set_prices(np.array([0.0, 0.0, 50.0]))

    assert chosen("bid-price", view(fleet=fleet))[0] == "medium"


def test_bid_price_sheds_what_is_worth_less_than_its_price():
    """When every second is dear, nobody is asked; a request that is worth more still is."""
    fleet = Fleet(LADDER)
    fleet.set_prices(np.array([30.0, 30.0, 30.0]))
    assert chosen("bid-price", view(fleet=fleet)) == (None, "none")

    assert chosen("bid-price", view(fleet=fleet), weight=100.0)[0] is not None


def test_bid_price_refuses_nobody_while_somebody_has_time_to_spare():
    """No answer can be on time; where nothing has a price it goes to whoever ends soonest, and is shed where every second has one."""
    fleet, hopeless = Fleet(LADDER), SLO(ttft_s=1e-4, tpot_s=1e-5)
    assert chosen("bid-price", view(fleet=fleet), slo=hopeless)[0] == "small"

    fleet.set_prices(np.array([0.1, 0.1, 0.1]))

    assert chosen("bid-price", view(fleet=fleet), slo=hopeless) == (None, "none")


def bought(name: str, loads: dict[str, int], usd_weight: float, **changes: object) -> str | None:
    """Who answers where one backend has to be paid for."""
    fleet = Fleet((*LADDER, BOUGHT))
    seen = view(loads, fleet)
    paying = ask(allowed=frozenset(fleet.names), usd_weight=usd_weight, **changes)
    return decide(paying, seen, chooser(name, fleet.backends), draw=0.0, id="x")[0].action.backend


FULL = {"small": 500, "medium": 500, "large": 500}
CENT, TOO_DEAR = 100.0, 1000.0
"""An answer on time is worth a cent; or a tenth of one, which is about what it costs."""


@pytest.mark.parametrize("name", ["deadline-greedy", "bid-price"])
def test_what_has_to_be_paid_is_asked_when_it_is_worth_its_price(name):
    """Not while an own backend is nearly as good; when all are full, if the answer is worth more; and never for more than that."""
    assert bought(name, {}, CENT) == "large"
    assert bought(name, FULL, CENT) == "bought"
    assert bought(name, FULL, TOO_DEAR) != "bought"
    assert bought(name, FULL, TOO_DEAR, weight=8.0) == "bought"


def test_what_has_to_be_paid_is_asked_for_its_better_answers_too():
    """Where the own ones on time are so much worse that the difference is worth the price."""
    assert bought("deadline-greedy", {"large": 500}, CENT) == "bought"
    assert bought("deadline-greedy", {"large": 500}, 5 * CENT) == "medium"


def test_least_loaded_pays_nobody_while_others_can():
    """However full they are."""
    assert bought("least-loaded", FULL, CENT) != "bought"


def test_exploration_pays_no_more_than_an_answer_is_worth():
    """What is tried out at random has to be worth its price as well."""
    fleet = Fleet((*LADDER, BOUGHT))
    for usd_weight, tried in ((CENT, True), (20 * TOO_DEAR, False)):
        seen = encode(ask(allowed=frozenset(fleet.names), usd_weight=usd_weight), fleet.view(0.0), BUDGETS)
        mixed, _ = explored([0.0] * 16 + [1.0], seen, 0.1)
        assert any(mixed[12:16]) is tried
        assert any(mixed[:12])


def test_exploration_is_even_over_what_is_likely_on_time_and_nothing_else():
    """Epsilon is spread over actions that meet the SLO, each has the floor; with none of them it is not spent."""
    seen = view({"large": 64})
    observation = encode(ask(slo=SLO(tpot_s=0.05)), seen, BUDGETS)
    greedy = by_name("deadline-greedy", actions_of(LADDER, BUDGETS))(observation)

    mixed, floor = explored(greedy, observation, 0.1)
    assert sum(mixed) == pytest.approx(1.0)
    assert min(p for p in mixed if p) == pytest.approx(floor) == 0.1 / sum(p > 0 for p in mixed)
    assert set(mixed[8:12]) == {0}

    late = encode(ask(slo=SLO(ttft_s=1e-6)), seen, BUDGETS)
    assert explored(greedy, late, 0.1) == (greedy, 0.0)


def test_an_unknown_policy_is_refused_with_the_list():
    """The message names what there is."""
    with pytest.raises(ValueError, match="deadline-greedy"):
        by_name("greedy", actions_of(LADDER, BUDGETS))


def test_a_static_route_to_nowhere_is_refused():
    """A backend or budget that does not exist is an error when the policy is made, not when it decides."""
    with pytest.raises(ValueError, match="static:huge"):
        by_name("static:huge", actions_of(LADDER, BUDGETS))


def test_fleets_of_any_size_and_one_budget_work():
    """Nothing depends on three backends and four budgets."""
    many = tuple(backend(f"b{i}", slower=1 + i / 4, quality=0.3 + i / 50) for i in range(16))
    made, _ = decide(
        ask(allowed=frozenset(b.name for b in many)),
        Fleet(many).view(0.0),
        chooser("deadline-greedy", many, (Budget(),)),
        draw=0.0,
        id="x",
    )
    assert made.action.backend == "b15"
