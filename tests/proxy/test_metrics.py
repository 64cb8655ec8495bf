"""What is counted: every attempt once, and never under a name that a request has brought."""

import re
from dataclasses import replace

import pytest

from bestserve.policy import task
from bestserve.policy.decide import Chooser, actions_of, decide
from bestserve.policy.facts import SLO, Ask, Backend, Budget, Decision, Ending, Length, Outcome
from bestserve.policy.fleet import Fleet
from bestserve.policy.heuristics import by_name
from bestserve.policy.record import Record
from bestserve.profiles.schema import TASKS, Engine, Profile
from bestserve.proxy.metrics import TABLE, Metrics

ENGINE = Engine(
    prefill_tokens_per_s=50_000.0,
    prefill_fixed_s=0.004,
    step_fixed_s=0.004,
    step_per_seq_s=0.00005,
    step_per_kv_token_s=5e-8,
    max_running=64,
    kv_tokens=400_000,
    context=8192,
    prefill_batch_tokens=8192,
)
PROFILE = Profile(name="p", model="org/m", params_b=1.0, gpu="none", n_gpus=1, engine=ENGINE, quality=dict.fromkeys(TASKS, 0.5))
BACKEND = Backend("small", "org/m", PROFILE)
BUDGETS = (Budget(), Budget(128))
ASK = Ask(
    endpoint="chat",
    model="whatever the client wrote",
    allowed=frozenset({"small"}),
    stream=True,
    prompt_tokens=300,
    max_tokens=None,
    n=1,
    needs=frozenset(),
    task=task.prior("qa"),
    length=Length(129.0, 0.93),
    slo=SLO(),
    tier="default",
    weight=1.0,
)
DONE = Outcome(Ending.DONE, 200, 0.1, 0.5, 300, 11, None, "stop", cut=False)


def decision() -> tuple[Decision, Fleet]:
    fleet = Fleet((BACKEND,))
    actions = actions_of((BACKEND,), BUDGETS)
    chooser = Chooser("static", by_name("static:small@128", actions), actions, BUDGETS)
    return decide(ASK, fleet.view(0.0), chooser, draw=0.0, id="d")[0], fleet


def record(outcome: Outcome, ask: Ask = ASK) -> Record:
    made, fleet = decision()
    return Record("r", 0, 0.0, "live", ask, fleet.view(0.0), made, outcome)


def series(metrics: Metrics) -> dict[str, float]:
    """What Prometheus would read, by series."""
    lines = [line for line in metrics.exposition().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_every_metric_is_exposed_with_a_word_on_what_it_is():
    """By the name in the table, and no other."""
    metrics = Metrics()
    metrics.gauge("bestserve_policy_info", 1, "x")

    text = metrics.exposition().decode()

    for name, (kind, _, words) in TABLE.items():
        assert f"# HELP {name} {words}" in text
        assert f"# TYPE {name} {kind}" in text
    assert set(re.findall(r"# TYPE (\S+)", text)) == set(TABLE)


def test_an_answer():
    """Counted where it was decided, where it ended, and by what it was worth."""
    metrics, made = Metrics(), decision()[0]
    metrics.decided(made, "qa", 0.0001, 0.001)
    metrics.ended(record(DONE), 0.7)

    seen = series(metrics)

    assert seen['bestserve_decisions_total{backend="small",budget="128",task="qa"}'] == 1
    assert seen['bestserve_attempts_total{backend="small",ending="done"}'] == 1
    assert seen['gen_ai_server_request_duration_seconds_sum{error_type="",model="org/m"}'] == pytest.approx(0.7)
    assert seen['gen_ai_server_time_to_first_token_seconds_sum{model="org/m"}'] == pytest.approx(0.3)  # 0.2 before the attempt
    assert seen['gen_ai_server_time_per_output_token_seconds_sum{model="org/m"}'] == pytest.approx(0.04)
    assert seen['gen_ai_client_token_usage_sum{model="org/m",token_type="input"}'] == 300
    assert seen['gen_ai_client_token_usage_sum{model="org/m",token_type="output"}'] == 11
    assert seen['bestserve_slo_total{met="true"}'] == 1
    assert seen["bestserve_quality_served_sum"] == pytest.approx(0.5)
    assert seen["bestserve_replay_records_total"] == 1
    assert seen["bestserve_decision_seconds_count"] == seen["bestserve_overhead_seconds_count"] == 1


def test_a_late_answer_misses_its_slo():
    """And is still an answer."""
    metrics = Metrics()
    metrics.ended(record(replace(DONE, ttft_s=2.0, total_s=3.0)), 3.0)

    assert series(metrics)['bestserve_slo_total{met="false"}'] == 1


@pytest.mark.parametrize("ending", [Ending.BROKE, Ending.ABANDONED, Ending.REJECTED])
def test_what_is_no_answer_has_an_error_type(ending):
    """It has a duration, and neither tokens nor quality."""
    metrics = Metrics()
    metrics.ended(record(replace(DONE, ending=ending)), 0.7)

    seen = series(metrics)

    assert seen[f'gen_ai_server_request_duration_seconds_count{{error_type="{ending}",model="org/m"}}'] == 1
    assert not any(name.startswith(("gen_ai_client_token_usage_", "bestserve_slo_")) for name in seen)


def test_a_refusal_is_an_attempt_and_no_request():
    """The request goes on elsewhere."""
    metrics = Metrics()
    metrics.ended(record(replace(DONE, ending=Ending.REFUSED)), 0.1)

    seen = series(metrics)

    assert seen['bestserve_attempts_total{backend="small",ending="refused"}'] == 1
    assert not any(name.startswith("gen_ai_server_request_duration_seconds_") for name in seen)


@pytest.mark.parametrize("tokens", [None, 0, 1])
def test_an_answer_of_hardly_a_token_has_no_time_per_token(tokens):
    """There is nothing between one token and none."""
    metrics = Metrics()
    metrics.ended(record(replace(DONE, completion_tokens=tokens)), 0.7)

    assert not any(name.startswith("gen_ai_server_time_per_output_token_seconds_") for name in series(metrics))


def test_an_answer_that_was_not_streamed_has_no_first_token():
    """Nobody has seen it come."""
    metrics = Metrics()
    metrics.ended(record(replace(DONE, ttft_s=None)), 0.7)

    assert not any(name.startswith("gen_ai_server_time_to_first_token_seconds_") for name in series(metrics))


def test_a_shed_and_a_fallback_are_counted():
    """By reason and tier."""
    metrics = Metrics()
    metrics.shed("overloaded", "flex")
    metrics.shed("overloaded", "flex")
    metrics.fell_back()

    seen = series(metrics)

    assert seen['bestserve_shed_total{reason="overloaded",tier="flex"}'] == 2
    assert seen["bestserve_policy_fallback_total"] == 1


def test_a_gauge_is_set_and_forgotten():
    """A backend that has left the config leaves the metrics, and may come back."""
    metrics = Metrics()
    metrics.gauge("bestserve_inflight", 3, "a")
    metrics.gauge("bestserve_inflight", 4, "b")
    metrics.forget("bestserve_inflight", "a")
    metrics.forget("bestserve_inflight", "never there")

    assert {name: v for name, v in series(metrics).items() if "inflight" in name} == {'bestserve_inflight{backend="b"}': 4}

    metrics.gauge("bestserve_inflight", 5, "a")
    assert series(metrics)['bestserve_inflight{backend="a"}'] == 5


def test_nothing_that_a_client_writes_becomes_a_label():
    """Model, session, user and id come from anywhere; series come from the config."""
    metrics = Metrics()
    made, fleet = decision()
    for i in range(200):
        ask = replace(ASK, model=f"m{i}", session=f"s{i}")
        metrics.decided(replace(made, id=f"d{i}"), "qa", 0.0001, 0.001)
        metrics.ended(Record(f"r{i}", 0, 0.0, "live", ask, fleet.view(0.0), made, DONE), 0.7)
        if i == 0:
            once = set(series(metrics))

    assert set(series(metrics)) == once


def test_each_process_has_its_own_registry():
    """Two of them in one program do not count each other's."""
    one, other = Metrics(), Metrics()
    one.fell_back()

    assert series(other)["bestserve_policy_fallback_total"] == 0


def test_what_was_counted_is_handed_over_once():
    """Asking twice tells the same numbers, and a bucket holds what is at most its bound."""
    metrics = Metrics()
    made, _ = decision()
    for seconds in (0.0, 1e-5, 1.1e-5, 1.0, 7.0):
        metrics.decided(made, "qa", seconds, 0.0)
    once = series(metrics)

    assert series(metrics) == once
    assert once["bestserve_decision_seconds_count"] == 5
    assert once["bestserve_decision_seconds_sum"] == pytest.approx(8.000021)
    assert once['bestserve_decision_seconds_bucket{le="1e-05"}'] == 2
    assert once['bestserve_decision_seconds_bucket{le="2.5e-05"}'] == 3
    assert once['bestserve_decision_seconds_bucket{le="1.0"}'] == 4
