"""What a log has taught of backends: it takes the profile's place, travels as JSON, and is refused when it cannot be."""

import pytest

from bestserve import profiles
from bestserve.policy.calibration import BadCalibration, Corrected, calibrated, parsed, plain
from bestserve.policy.facts import KNOWN, LONGER, TASKS, WHOLE, Backend, Constants, Load, knowledge_of
from bestserve.policy.fleet import Fleet
from tests.policy.facts_by_hand import decision, outcome

PROFILE = profiles.load("qwen3-8b-h100")
BACKENDS = (Backend("a", PROFILE.model, PROFILE), Backend("b", PROFILE.model, PROFILE))
CALIBRATION = {"b": Corrected(PROFILE.name, {"step_fixed_s": 0.02}, {"code": 0.3}, {"qa": 0.5}, {"chat": 0.6}, {"math": 0.4})}


def test_only_what_is_named_is_believed_otherwise():
    """One backend's constants, qualities and lengths change; all else of it and all of the other stay."""
    a, b = calibrated(BACKENDS, CALIBRATION)
    assert a is BACKENDS[0]
    constants, knowledge = Constants.of((a, b)), knowledge_of((a, b))
    assert constants.step_fixed == [PROFILE.engine.step_fixed_s, 0.02]
    assert constants.prefill_rate[0] == constants.prefill_rate[1]
    code, math = TASKS.index("code"), TASKS.index("math")
    assert knowledge[KNOWN + WHOLE, code] == 0.3
    assert knowledge[KNOWN + WHOLE, math] == PROFILE.quality["math"]
    assert knowledge[KNOWN + LONGER, math] == 0.4
    assert knowledge[LONGER].tolist() == [0.0] * len(TASKS)
    assert (b.profile.budget_effect.kept_when_cut["qa"], b.profile.budget_effect.kept_when_concise["chat"]) == (0.5, 0.6)


def test_a_backend_with_another_profile_is_as_that_profile_says():
    """After an upgrade, what was learnt of the one before holds no more."""
    other = {"b": Corrected("another", {"step_fixed_s": 0.02})}
    assert calibrated(BACKENDS, other) == BACKENDS


def test_it_comes_back_from_json_as_it_was():
    """Every table."""
    assert parsed(plain(CALIBRATION)) == CALIBRATION


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"b": {"profile": "p", "engine": {"stepfixed": 1.0}}}, "calibration.b.engine: 'stepfixed' is none of"),
        ({"b": {"profile": "p", "engine": {"step_fixed_s": 0.0}}}, "calibration.b.engine.step_fixed_s: 0.0 is not between"),
        ({"b": {"profile": "p", "engine": {"step_fixed_s": float("nan")}}}, "calibration.b.engine.step_fixed_s: nan is not between"),
        ({"b": {"profile": "p", "quality": {"code": 1.2}}}, "calibration.b.quality.code: 1.2 is not between"),
        ({"b": {"profile": "p", "longer": {"code": 9}}}, "calibration.b.longer.code: 9 is not between"),
        ({"b": {"engine": {}}}, "profile"),
        ([1], "calibration"),
    ],
)
def test_what_cannot_be_believed_is_refused_by_name(raw, said):
    """The message leads to the field."""
    with pytest.raises(BadCalibration, match=said.replace(".", r"\.")):
        parsed(raw)


def test_another_speed_begins_at_a_pace_of_one_and_prices_stay():
    """What a pace was a ratio to is gone; who is not believed otherwise keeps theirs."""
    fleet = Fleet(BACKENDS)
    for b in (0, 1):
        fleet._kept.each.mean[b], fleet._kept.each.weight[b], fleet._kept.each.at[b] = 0.7, 50.0, 0.0
    fleet.set_prices([0.1, 0.2])
    fleet.replace(calibrated(BACKENDS, CALIBRATION))
    columns = fleet.view(0.0).columns
    assert columns.pace_each[0] > 1.5
    assert columns.pace_each[1] == 1.0
    assert list(columns.price) == [0.1, 0.2]


def test_a_pace_comes_back_with_the_belief_that_it_stood_beside():
    """Policies that take turns keep what was learnt in theirs, each its own."""
    fleet, otherwise = Fleet(BACKENDS), calibrated(BACKENDS, CALIBRATION)
    fleet._kept.each.mean[1], fleet._kept.each.weight[1] = 0.7, 50.0
    slow = fleet.view(0.0).columns.pace_each[1]
    fleet.replace(otherwise)
    fleet._kept.each.mean[1], fleet._kept.each.weight[1] = -0.3, 50.0
    fast = fleet.view(0.0).columns.pace_each[1]
    for beliefs, pace in ((BACKENDS, slow), (BACKENDS, slow), (otherwise, fast), (BACKENDS, slow)):
        fleet.replace(beliefs)
        assert fleet.view(0.0).columns.pace_each[1] == pace
    assert fast < 1.0 < slow


def test_what_was_predicted_by_one_belief_teaches_nothing_of_another():
    """An answer begun in the turn of a policy that believes the backend fast, and ended in the turn of one that does not."""
    fleet, otherwise = Fleet(BACKENDS), calibrated(BACKENDS, CALIBRATION)
    ticket = fleet.begin(decision(fleet, "b", allowed=frozenset("b")), 0.0)
    slow = outcome(ttft_s=9.0, total_s=99.0)
    fleet.replace(otherwise)
    fleet.end(ticket, slow, 99.0)
    assert fleet.view(99.0).columns.pace_first[1] == 1.0
    ticket = fleet.begin(decision(fleet, "b", allowed=frozenset("b")), 99.0)
    fleet.replace(otherwise)
    fleet.end(ticket, slow, 198.0)
    assert fleet.view(198.0).columns.pace_first[1] > 1.0


def test_what_a_backend_said_of_its_limits_outlasts_a_belief():
    """Policies take turns more often than backends report."""
    fleet = Fleet(BACKENDS)
    fleet.observe("b", Load(0, 0, 0, max_running=4, kv_tokens=1000), 0.0)
    fleet.replace(calibrated(BACKENDS, CALIBRATION))
    constants = fleet.view(0.0).constants
    assert (constants.max_running[1], constants.kv_capacity[1]) == (4.0, 1000.0)
    fleet.replace(reversed(BACKENDS))
    assert fleet.view(0.0).constants.max_running == [4.0, float(PROFILE.engine.max_running)]
