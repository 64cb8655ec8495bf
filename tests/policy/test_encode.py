"""What a request would meet: one line per feature, a small fleet by hand, the expected number."""

import math
import resource
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bestserve.policy import encode as encoding
from bestserve.policy import task
from bestserve.policy.books import Open
from bestserve.policy.encode import FEATURES, Seen, encode, observe, phi
from bestserve.policy.facts import SLO, TASKS, Budget, Length, Load
from bestserve.policy.fleet import Fleet
from bestserve.policy.numeric import Column
from tests.policy.facts_at_random import SEEN
from tests.policy.facts_by_hand import BOUGHT, BUDGETS, LADDER, LARGE, SMALL, ask, backend
from tests.with_compiler import needs_compiler

ONE = (backend("small", quality=0.4),)


def feature(name: str, fleet: Fleet | None = None, budgets: tuple[Budget, ...] = BUDGETS, **changes: object) -> float:
    observation = encode(ask(**changes), (fleet or Fleet(ONE)).view(0.0), budgets)
    return float(observation[name][0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ttft_s", 0.004 + 300 / 50_000),
        ("tpot_s", 0.004 + 0.00005 + 300 * 5e-8),
        ("tokens", 129.0 * math.exp(0.93**2 / 2)),
        ("p_whole", 1.0),
        ("p_on_time", 1.0),
        ("quality", 0.4),
        ("load", 0.0),
        ("price", 0.0),
    ],
)
def test_an_idle_backend_by_hand(name, expected):
    """300 prompt tokens, one sequence, nothing else there."""
    assert feature(name) == pytest.approx(expected, rel=1e-3)


def test_what_passes_beside_the_engine_delays_the_first_token_only():
    """20 ms of HTTP and tokenising come on top of the time to first token; the time per token stays."""
    beside = Fleet((backend("small", overhead_s=0.02),))

    assert feature("ttft_s", beside) == pytest.approx(feature("ttft_s") + 0.02)
    assert feature("tpot_s", beside) == feature("tpot_s")


def test_latency_is_first_token_and_the_others():
    """The whole answer takes the first token and the expected rest."""
    whole = feature("ttft_s") + (feature("tokens") - 1) * feature("tpot_s")
    assert feature("latency_s") == pytest.approx(whole)


def test_a_cap_shortens_the_answer_and_may_cut_it():
    """Under 128 tokens about half of the answers end by themselves, and the quality falls with the other half."""
    capped = (Budget(128),)
    assert feature("p_whole", budgets=capped) == pytest.approx(0.497, abs=0.01)
    assert feature("tokens", budgets=capped) < 128
    assert feature("quality", budgets=capped, task=task.prior("code")) < 0.4 * 0.6


def test_code_is_worth_nothing_when_cut_and_chat_something():
    """What a cut leaves depends on the task."""
    capped = (Budget(128),)
    code, chat = (feature("quality", budgets=capped, task=task.prior(t)) for t in ("code", "chat"))
    assert code < chat < 0.4


def test_the_client_ceiling_is_only_ever_lowered():
    """Budgets above the ceiling come to the same cap, and only the first of them is offered."""
    observation = encode(ask(max_tokens=200), Fleet(ONE).view(0.0), BUDGETS)
    assert observation.mask == [True, False, False, True, True]
    assert observation["tokens"][0] == observation["tokens"][1]


def test_a_queue_makes_the_first_token_wait():
    """Beyond its places, every request waits for one to be free."""
    fleet = Fleet((backend("small", max_running=4),))
    idle = feature("ttft_s", fleet)
    fleet.begin(_decision(fleet), 0.0)
    fleet.observe("small", Load(4, 8, 2000), 0.0)
    assert feature("ttft_s", fleet) > 5 * idle


def test_memory_limits_places_as_well():
    """Where context for ten requests is all there is, the eleventh waits, however many sequences may run."""
    fleet = Fleet((backend("small", max_running=64, kv_tokens=5000),))
    fleet.siblings(Open.of(1)._replace(requests=[20.0], decode=[4000.0], kv=[6000.0]))
    roomy = Fleet((backend("small", max_running=64),))
    roomy.siblings(Open.of(1)._replace(requests=[20.0], decode=[4000.0], kv=[6000.0]))
    assert feature("ttft_s", fleet) > 3 * feature("ttft_s", roomy)
    assert feature("load", fleet) > 1


def test_what_may_be_said_claims_memory_before_it_is_said():
    """Where ten hold 4,000 of 6,000 tokens, one that may say 64 comes in at once, and one that may say anything waits for thousands."""
    full = Fleet((backend("small", kv_tokens=6000),))
    full.siblings(Open.of(1)._replace(requests=[10.0], decode=[1000.0], kv=[4000.0]))
    free, capped = (feature("ttft_s", full, (Budget(cap),)) for cap in (None, 64))
    assert capped == pytest.approx(feature("ttft_s"), rel=0.5)
    assert free - capped == pytest.approx((4000 + 410 * 10 + 300 + 4096 - 6000) / (4000 + 410 * 10) * 100 * 0.004765, rel=0.01)


@pytest.mark.parametrize("unread", [0.0, 5000.0])
@pytest.mark.parametrize("foreign", [0.0, 20.0])
def test_who_may_say_less_waits_no_longer(unread, foreign):
    """Also where all that is there is still to be read, or is of others and fades; and nobody waits for more than all there to end."""
    full = Fleet((backend("small", kv_tokens=6000),))
    full.siblings(Open.of(1)._replace(requests=[2.0], decode=[200.0], kv=[5000.0], prefill=[unread]))
    full.observe("small", Load(running=int(2 + foreign), waiting=0, used_tokens=5900), -foreign)
    waits = [feature("ttft_s", full, (Budget(cap),), prompt_tokens=2500) for cap in (None, 1024, 384, 64, 1)]
    idle = feature("ttft_s", prompt_tokens=2500) + unread / 50_000
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] - idle < 100 * 0.01


def writing(answers: float, tokens: float, seconds: float, haste: float = 1 / 20) -> Fleet:
    """A slow backend at which so many answers are being written, which have had so many tokens in so many seconds."""
    fleet = Fleet([backend("a", prefill_tokens_per_s=10_000.0, prefill_fixed_s=0.0, step_fixed_s=0.02)])
    sums = {"requests": answers, "decode": 10 * answers, "kv": 500 * answers, "haste": haste * answers, "worth": answers}
    written = {"writing": answers, "written": tokens * answers, "since": -seconds * answers}
    fleet.siblings(Open.of(1)._replace(**{name: [value] for name, value in (sums | written).items()}))
    return fleet


def harm(fleet: Fleet, prompt: int = 5000) -> float:
    """Of a request of so many tokens to read."""
    return encode(ask(prompt_tokens=prompt, allowed=frozenset({"a"})), fleet.view(0.0), (Budget(None),))["harm"][0]


def test_reading_a_prompt_makes_late_what_is_being_written():
    """Half a second of reading, over 20 tokens of 20 ms with 60 ms allowed: some of them. Twice as many answers, twice the harm."""
    five, ten = harm(writing(5, 1, 0.02)), harm(writing(10, 1, 0.02))
    assert 0.1 < five < 2.5
    assert ten == pytest.approx(2 * five, rel=0.05)


def test_long_answers_bear_a_prompt_and_short_ones_do_not():
    """The same half second is 0.5 ms a token of a thousand, and 50 ms a token of ten."""
    assert harm(writing(5, 1, 0.02, haste=1 / 1000)) < 0.01
    assert harm(writing(5, 1, 0.02, haste=1 / 10)) > 2.0


def test_who_has_stood_still_bears_less_and_who_is_lost_loses_nothing():
    """One token in half a second is at the deadline's edge if 20 come; one in four seconds is late whatever is done."""
    calm, edge, lost = (harm(writing(5, 1, seconds), prompt=1000) for seconds in (0.02, 0.7, 8.0))
    assert calm < edge
    assert lost < 0.1 * edge


def test_a_short_prompt_or_nobody_there_or_no_deadline_is_no_harm():
    """Nothing is made late."""
    assert harm(writing(5, 1, 0.02), prompt=1) < 0.01
    assert harm(writing(0, 0, 0.0)) == 0.0
    patient = ask(prompt_tokens=5000, allowed=frozenset({"a"}), slo=SLO(tpot_s=None))
    assert encode(patient, writing(5, 1, 0.02).view(0.0), (Budget(None),))["harm"][0] == 0.0


QUEUE = Load(running=4, waiting=2, used_tokens=2000)
"""Four are written, and two wait for something."""


def test_a_queue_that_stands_tells_the_places():
    """A backend with four running and requests that wait, and still do at the next report, has four places, whatever its profile says."""
    fleet = Fleet(ONE)
    fleet.observe("small", QUEUE, -0.5)
    fleet.observe("small", QUEUE, 0.0)
    assert feature("load", fleet) == pytest.approx(6 / 4)


def test_a_clump_of_prompts_takes_no_places_away():
    """What waits at one report and not at the one before it may wait to be read, while places are free."""
    fleet = Fleet(ONE)
    fleet.observe("small", Load(running=4, waiting=0, used_tokens=2000), -0.5)
    fleet.observe("small", QUEUE, 0.0)
    assert feature("load", fleet) == pytest.approx(6 / ONE[0].profile.engine.max_running)
    assert feature("ttft_s", fleet) < 0.1


def test_more_that_are_written_than_ran_before_a_queue_refute_it():
    """Six are being written now, so four were not all that there is room for."""
    fleet = Fleet(ONE)
    for at in (-0.5, 0.0):
        fleet.observe("small", QUEUE, at)
    fleet.siblings(Open.of(1)._replace(requests=[6.0], writing=[6.0]))
    assert feature("load", fleet) == pytest.approx(12 / ONE[0].profile.engine.max_running)


def _decision(fleet: Fleet):
    from tests.policy.facts_by_hand import decision

    return decision(fleet, "small")


def test_prompts_ahead_are_read_first():
    """Ten thousand tokens begun before put off the first token by their reading."""
    fleet = Fleet(ONE)
    fleet.siblings(Open.of(1)._replace(requests=[1.0], prefill=[10_000.0]))
    assert feature("ttft_s", fleet) - feature("ttft_s") == pytest.approx(10_000 / 50_000, rel=0.02)


def test_a_larger_batch_slows_every_token():
    """Sequences and context each add their part to the step."""
    fleet = Fleet(ONE)
    fleet.observe("small", Load(10, 0, 5000), 0.0)
    assert feature("tpot_s", fleet) - feature("tpot_s") == pytest.approx(10 * 0.00005 + 5000 * 5e-8, rel=0.01)


@pytest.mark.parametrize(
    ("slo", "likely"),
    [
        (SLO(ttft_s=None, tpot_s=None), True),
        (SLO(ttft_s=0.0001), False),
        (SLO(tpot_s=0.0001), False),
        (SLO(e2e_s=0.05), False),
        (SLO(e2e_s=60.0), True),
    ],
)
def test_every_deadline_that_binds_must_be_met(slo, likely):
    """One that is hopeless makes the whole hopeless; one that is absent asks nothing."""
    assert (feature("p_on_time", slo=slo) > 0.5) is likely


def test_a_cap_makes_a_deadline_certain():
    """An answer that cannot be longer than what fits in time is on time."""
    tight = SLO(ttft_s=None, tpot_s=None, e2e_s=1.0)
    long = Length(2000.0, 0.3)
    assert feature("p_on_time", slo=tight, length=long) < 0.05
    assert feature("p_on_time", slo=tight, length=long, budgets=(Budget(128),)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({}, ["small", "medium", "large"]),
        ({"allowed": frozenset({"large"})}, ["large"]),
        ({"needs": frozenset({"json"})}, ["medium", "large"]),
        ({"needs": frozenset({"json", "vision"})}, ["large"]),
        ({"needs": frozenset({"embeddings"})}, []),
        ({"prompt_tokens": 70_000}, []),
        ({"max_tokens": 40_000}, []),
    ],
)
def test_the_mask_is_who_can(changes, who):
    """Admitted by name, able, and with room."""
    observation = encode(ask(**changes), Fleet(LADDER).view(0.0), (Budget(),))
    assert [b.name for b, can in zip(LADDER, observation.mask, strict=False) if can] == who
    assert observation.mask[-1]


def test_a_budget_makes_room_where_the_client_asked_for_too_much():
    """A ceiling over the context fits once a budget lowers it."""
    observation = encode(ask(max_tokens=40_000), Fleet(ONE).view(0.0), BUDGETS)
    assert observation.mask == [False, True, True, True, True]


def test_an_estimate_of_the_prompt_masks_only_what_is_sure():
    """A prompt that by its size is a little too long is left to the backend to judge."""
    assert encode(ask(prompt_tokens=40_000), Fleet(ONE).view(0.0), (Budget(),)).mask[0]


def test_a_held_backend_is_asked_when_nobody_else_can():
    """A queue that was full a moment ago is better than no answer."""
    fleet = Fleet((SMALL, LARGE))
    from bestserve.policy.facts import Ending
    from tests.policy.facts_by_hand import decision, outcome

    for name in ("small", "large"):
        before = encode(ask(), fleet.view(0.0), (Budget(),)).mask
        fleet.end(fleet.begin(decision(fleet, name), 0.0), outcome(Ending.REFUSED, reason="queue_full"), 0.0)
        after = encode(ask(), fleet.view(0.0), (Budget(),)).mask
        assert (before, after) == (([True] * 3, [False, True, True]) if name == "small" else ([False, True, True], [True] * 3))


def test_what_others_are_paid_for():
    """Each token of the prompt once and each of every answer; what owned hardware costs is money too, and paid to nobody."""
    fleet = Fleet((LARGE, BOUGHT))
    seen = encode(ask(allowed=frozenset(fleet.names), prompt_tokens=1000, n=2, usd_weight=100.0), fleet.view(0.0), (Budget(), Budget(128)))
    owned, paid = slice(0, 2), slice(2, 4)

    usd = [1000 * 1e-6 + 2 * tokens * 4e-6 for tokens in seen["tokens"][paid]]
    assert list(seen["pay"][paid]) == pytest.approx([100 * u for u in usd])
    assert all(all_of_it > u for all_of_it, u in zip(seen["usd"][paid], usd, strict=True))
    assert list(seen["pay"][owned]) == [0.0, 0.0]
    assert min(seen["usd"][owned]) > 0


def test_the_digest_names_the_observation():
    """The same facts give the same digest, another fact another."""
    seen = Fleet(LADDER).view(0.0)
    assert encode(ask(), seen, BUDGETS).digest() == encode(ask(), seen, BUDGETS).digest()
    assert encode(ask(), seen, BUDGETS).digest() != encode(ask(prompt_tokens=301), seen, BUDGETS).digest()


def test_features_are_finite_under_absurd_facts():
    """Nothing an API or a backend can say makes a feature infinite or not a number."""
    fleet = Fleet(LADDER)
    fleet.observe("small", Load(10**6, 10**6, 10**9), 0.0)
    observation = encode(ask(prompt_tokens=10**9, max_tokens=1, n=128, slo=SLO(1e-9, 1e-9, 1e-9)), fleet.view(0.0), BUDGETS)
    assert len(observation.features) == len(FEATURES) * 3 * 4
    assert np.isfinite(observation.features).all()


def test_phi_is_the_normal_distribution_function():
    """To 3e-4, against the error function."""
    z = np.linspace(-5, 5, 201)
    exact = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in z])
    assert np.abs([phi(x) for x in z] - exact).max() < 3e-4


@needs_compiler
def test_it_is_compiled_for_these_sources():
    """Every name and constant that compiled code knows is as in the source; so an old build beside newer sources does not encode."""
    from bestserve.policy import _encode

    assert _encode.LAYOUT == encoding.LAYOUT
    assert encoding.quick is not None


@needs_compiler
@settings(max_examples=500, deadline=None)
@given(SEEN)
def test_compiled_and_plain_see_the_same_to_the_bit(facts):
    """Whatever the fleet, the request, its deadlines and the budgets; so both give an observation one name."""
    quick, plain = observe(facts), observe(facts, compiled=False)
    made = encoding.quick.fill(facts)

    assert (made is None) == (not facts.able)
    assert bits(quick.features) == bits(plain.features)
    assert quick.mask == plain.mask
    assert quick.digest() == plain.digest()


def bits(numbers: Column) -> bytes:
    """All of them."""
    return array("d", numbers).tobytes()


PLAIN = encode(ask(slo=SLO(e2e_s=9.0)), Fleet(LADDER).view(0.0), BUDGETS).seen


def changed(**columns: object) -> Seen:
    """Three idle backends with columns that no fleet has."""
    groups = {name: getattr(PLAIN, name) for name in ("asked", "caps", "fleet", "constants")}
    own = {name: group._replace(**{key: columns.pop(key) for key in group._fields if key in columns}) for name, group in groups.items()}
    return PLAIN._replace(**own, **columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"prefill_rate": [1e4, 0.0, 1e4]},
        {"pace_each": [0.0, 1.0, 1.0]},
        {"places": [1.0, 1.0, 0.0]},
        {"ttft_s": 0.0},
        {"sigma": 0.0},
        {"mu": 1000.0},
        {"ceiling": 0.0},
        {"ttft_s": 1e44},
    ],
)
def test_what_has_no_number_is_left_to_plain_python(columns):
    """Which says what is wrong with it, or what it comes to nevertheless."""
    facts, said = changed(**columns), []
    assert encoding.quick is None or encoding.quick.fill(facts) is None
    for compiled in (True, False):
        try:
            said.append(bits(observe(facts, compiled=compiled).features))
        except (ArithmeticError, ValueError) as error:
            said.append(repr(error))
    assert said[0] == said[1]


@needs_compiler
def test_what_is_no_list_of_floats_is_left_to_plain_python():
    """Arrays, whole numbers, columns of another size, more budgets than are foreseen, and what is not seen at all."""
    for facts in (
        changed(in_flight=np.zeros(3)),
        changed(in_flight=[0, 0, 0]),
        changed(usable=[1, 1, 1]),
        changed(places=[1.0, 1.0]),
        changed(worth=PLAIN.worth[:-1]),
        changed(able=np.ones(3, dtype=bool)),
        changed(held=[True, False, None]),
        changed(prompt=300),
        changed(told=PLAIN.caps.told[:-1]),
        changed(tokens=(64.0,) * 65, told=(False,) * 65),
        PLAIN._replace(fleet=(1.0, 2.0)),
        (1, 2, 3),
        None,
    ):
        assert encoding.quick.fill(facts) is None
    assert observe(changed(in_flight=np.zeros(3))).digest() == observe(PLAIN).digest()


@needs_compiler
@given(arrays(np.float64, st.tuples(st.integers(1, 40), st.just(len(TASKS))), elements=st.floats(-10, 10)), st.data())
def test_what_is_known_is_weighed_alike(knowledge, data):
    """By compiled code as by numpy, but for the order of summing; what is no table of doubles is left to numpy."""
    task = tuple(data.draw(st.lists(st.floats(0, 1), min_size=len(TASKS), max_size=len(TASKS))))

    np.testing.assert_allclose(encoding.quick.worth_of(knowledge, task), encoding.worth_of(knowledge, np.array(task)), rtol=0, atol=1e-12)
    for other in (knowledge.astype(np.float32), knowledge[:, ::-1], knowledge[0:0].ravel(), knowledge.tolist(), None):
        assert encoding.quick.worth_of(other, task) is None
    assert encoding.quick.worth_of(knowledge, task[:-1]) is None
    assert encoding.quick.worth_of(knowledge, (1, *task[1:])) is None


@needs_compiler
def test_encoding_keeps_nothing():
    """Thousands of observations, ordinary ones and others, leave the memory as it was."""

    def some(n: int) -> int:
        for _ in range(n):
            observe(PLAIN)
            encoding.quick.worth_of(knowledge, (0.0,) * len(TASKS))
            encoding.quick.fill(changed(prefill_rate=[1e4, 1e4, 0.0]))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    knowledge = Fleet(LADDER).view(0.0).knowledge
    before = some(500)
    assert some(5000) - before < 2000  # KiB; one list leaked in each would be more
