"""The learned policy, live: the same decision by compiled code and by plain Python."""

import math
import resource
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve.policy import actor
from bestserve.policy.actor import Actor
from bestserve.policy.checkpoint import Checkpoint
from bestserve.policy.encode import Observation, encode
from bestserve.policy.fleet import Fleet
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.network import untaught
from tests.policy.facts_at_random import OBSERVATIONS
from tests.policy.facts_by_hand import BUDGETS, LADDER, ask, chooser
from tests.policy.test_checkpoint import checkpoint
from tests.with_compiler import needs_compiler

RANGE = np.zeros(N_ROW + N_CONTEXT)


def test_untaught_and_sharp_it_is_the_bid_price_policy():
    """A network of zeros adds nothing to its prior; what the prior likes best gets nearly all."""
    observation = encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)
    actor = Actor(Checkpoint(untaught(), (0.02, 1.0, 0.0, 1.0, 0.0, 500.0), RANGE, RANGE, {}))
    best = np.argmax(chooser("bid-price").policy(observation))
    assert np.argmax(actor(observation)) == best
    assert actor(observation)[best] > 0.9


def test_what_is_masked_is_never_chosen():
    """Whatever the weights say; probabilities sum to one."""
    observation = encode(ask(allowed=frozenset({"medium"})), Fleet(LADDER).view(0.0), BUDGETS)
    for seed in range(5):
        p = np.array(Actor(checkpoint(seed))(observation))
        assert p.sum() == pytest.approx(1.0)
        assert (p[~np.array(observation.mask)] == 0.0).all()


def test_when_nobody_can_answer_it_sheds():
    """The mask leaves nothing else."""
    observation = encode(ask(allowed=frozenset()), Fleet(LADDER).view(0.0), BUDGETS)
    assert Actor(checkpoint())(observation)[-1] == pytest.approx(1.0)


def bad(**changes: np.ndarray) -> Checkpoint:
    """A checkpoint with other weights."""
    return Checkpoint(checkpoint().network._replace(**changes), (0.05, 0.7, 0.0, 1.0, 0.5, 5.0), RANGE, RANGE, {}, "x")


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"w3": np.full((48, 2), 1e308), "w2": np.full((48, 48), 1e308)},
        {"b3": np.full(2, np.nan)},
        {"b1": np.full(48, np.inf)},
    ],
)
def test_a_network_that_gives_no_number_says_so(compiled, changes):
    """Weights too large to multiply, or none: an error that serving answers with its fallback."""
    observation = encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)
    with np.errstate(all="ignore"), pytest.raises(ArithmeticError):
        Actor(bad(**changes), compiled=compiled)(observation)


@needs_compiler
def test_it_is_compiled_for_these_sources():
    """Every name that compiled code reads stands where it expects it; so an old build beside newer sources does not decide."""
    from bestserve.policy import _actor

    assert _actor.LAYOUT == actor.LAYOUT
    assert Actor(checkpoint()).compiled
    assert not Actor(checkpoint(), compiled=False).compiled


@needs_compiler
@settings(max_examples=300, deadline=None)
@given(
    OBSERVATIONS,
    st.integers(0, 20),
    st.floats(0.1, 3.0),
    st.tuples(*(st.floats(0.0, most) for most in (1.0, 2.0, 5.0, 2.0, 2.0, 5.0))),
)
def test_compiled_and_plain_decide_alike(observation, seed, scale, parameters):
    """To a billionth, whatever is seen, whatever the weights."""
    made = checkpoint(seed)
    network = made.network._replace(w2=made.network.w2 * scale, w3=made.network.w3 * scale)
    made = replace(made, network=network, parameters=parameters)
    fast = Actor(made)
    quick = fast._quick(observation.features, observation.mask, observation.seen)

    assert quick is not None
    np.testing.assert_allclose(quick, Actor(made, compiled=False)(observation), rtol=0, atol=1e-9)
    assert fast(observation) == quick


def changed(**columns: object) -> Observation:
    """What is seen of three idle backends, with columns that no fleet has."""
    plain = encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)
    fleet = {name: value for name, value in columns.items() if name in plain.seen.fleet._fields}
    constants = {name: value for name, value in columns.items() if name in plain.seen.constants._fields}
    asked = {name: value for name, value in columns.items() if name in plain.seen.asked._fields}
    seen = plain.seen._replace(
        fleet=plain.seen.fleet._replace(**fleet),
        constants=plain.seen.constants._replace(**constants),
        asked=plain.seen.asked._replace(**asked),
    )
    return replace(plain, seen=seen)


@pytest.mark.parametrize(
    "columns",
    [
        {"pace_first": [0.0, 1.0, 1.0]},
        {"pace_each": [1.0, -1.0, 1.0]},
        {"prefill_rate": [1e4, 0.0, 1e4]},
        {"kv_capacity": [0.0, 1.0, 1.0]},
        {"weight": 0.0},
    ],
)
def test_what_has_no_logarithm_is_the_same_error_by_both(columns):
    """Nothing that plain Python refuses is decided by compiled code."""
    for compiled in (True, False):
        with np.errstate(all="ignore"), pytest.raises((ValueError, ZeroDivisionError)):
            Actor(checkpoint(), compiled=compiled)(changed(**columns))


@needs_compiler
def test_a_column_of_another_size_is_refused():
    """Whichever it is; and what is no number, and what is not seen at all."""
    act, plain = Actor(checkpoint())._quick, encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)
    for column in ("pace_first", "usable", "kv_tokens", "kv_capacity"):
        for size in (0, 2, 4):
            with pytest.raises(ValueError, match="one size"):
                act(plain.features, plain.mask, changed(**{column: [1.0] * size}).seen)
    with pytest.raises(ValueError, match="one size"):
        act(plain.features[:-1], plain.mask, plain.seen)
    with pytest.raises(ValueError, match="one size"):
        act(plain.features, plain.mask[:-1], plain.seen)
    with pytest.raises(TypeError):
        act(["1"] * len(plain.features), plain.mask, plain.seen)
    with pytest.raises(TypeError):
        act(plain.features, plain.mask, None)
    with pytest.raises(TypeError):
        act(plain.features, plain.mask, plain.seen._replace(fleet=(1.0, 2.0)))
    with pytest.raises(ValueError, match="weights"):
        actor.Compiled(b"", (0.0,) * 6)


@needs_compiler
def test_arrays_and_whole_numbers_are_numbers_too():
    """What came out of a log or an array decides like what came out of a list."""
    act, plain = Actor(checkpoint())._quick, encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)
    whole = changed(pace_first=[1, 1, 1], report_age_s=np.full(3, math.inf))
    assert act(np.array(plain.features), np.array(plain.mask), whole.seen) == act(plain.features, plain.mask, plain.seen)


class Callback:
    """No float, but one can be made of it: by another decision."""

    def __init__(self, then: object) -> None:
        self.then = then

    def __float__(self) -> float:
        self.then()
        return 1.0


@needs_compiler
def test_a_strange_number_may_decide_in_between():
    """A call within a call has memory of its own; a list that shrinks meanwhile is refused."""
    act, plain = Actor(checkpoint())._quick, encode(ask(), Fleet(LADDER).view(0.0), BUDGETS)
    expected, inner = act(plain.features, plain.mask, plain.seen), []
    nested = changed(pace_each=[1.0, Callback(lambda: inner.append(act(plain.features, plain.mask, plain.seen))), 1.0])
    assert act(plain.features, plain.mask, nested.seen) == expected == inner[0]

    shrinking: list[object] = [1.0, 1.0]
    shrinking.insert(0, Callback(shrinking.clear))
    with pytest.raises(ValueError, match="one size"):
        act(plain.features, plain.mask, changed(pace_first=shrinking).seen)


@needs_compiler
def test_deciding_keeps_nothing():
    """Thousands of decisions of two sizes, and failed ones, leave the memory as it was."""
    act = Actor(checkpoint())._quick
    large, small = encode(ask(), Fleet(LADDER).view(0.0), BUDGETS), encode(ask(), Fleet(LADDER[:1]).view(0.0), BUDGETS)
    wrong = changed(pace_first=[1.0]).seen

    def some(n: int) -> int:
        for _ in range(n):
            act(large.features, large.mask, large.seen)
            act(small.features, small.mask, small.seen)
            with pytest.raises(ValueError, match="one size"):
                act(large.features, large.mask, wrong)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = some(500)
    assert some(5000) - before < 2000  # KiB; one list leaked in each would be more
