"""Rates, money and a provider's own refusals: who may be asked now, and what an attempt cost."""

from dataclasses import replace
from pathlib import Path

import pytest

from bestserve.policy.facts import Ask, Decision, Ending, Outcome
from bestserve.policy.fleet import Fleet
from bestserve.proxy.config import parse
from bestserve.proxy.errors import Refused
from bestserve.proxy.gates import Gates, Window
from tests.policy.facts_by_hand import LADDER, ask, decision, outcome

NOON = 1_795_000_000.0
PRICES = "usd_per_million_input: 10, usd_per_million_output: 100"


def gates(folder: Path, large: str = "", *, workers: int = 1) -> Gates:
    """Of a fleet whose large one may have limits."""
    rows = "\n".join(
        f"  - {{name: {name}, url: 'http://h', model: m, profile: smollm2-135m-cpu{more}}}"
        for name, more in (("small", ""), ("medium", ""), ("large", f", {large}" if large else ""))
    )
    made = Gates(lambda: NOON)
    made.adopt(parse(f"listen: {{workers: {workers}}}\nbackends:\n{rows}\n", {}, source=str(folder / "c.yaml")))
    return made


def chosen(name: str = "large", **changes: object) -> tuple[Decision, Ask]:
    return decision(Fleet(LADDER), name, **changes), ask(**changes)


def test_without_limits_everything_is_open(tmp_path):
    """Nothing is looked up, nothing is written."""
    made = gates(tmp_path)
    decided, asked = chosen()
    assert made.shut(asked, 0.0) == frozenset()
    assert made.enter(decided, asked, None, 0.0) is None
    assert not (tmp_path / "state").exists()


def test_a_window_is_over_any_minute():
    """Two minutes that overlap share what they have in common."""
    window = Window(10)
    window.take(0.0, 6)
    window.take(50.0, 4)
    assert not window.has_room(59.0, 1)
    assert window.has_room(60.0, 6)
    assert not window.has_room(60.0, 7)


def test_what_is_larger_than_a_whole_window_passes_alone():
    """It could never be let through otherwise."""
    window = Window(10)
    assert window.has_room(0.0, 50)
    window.take(0.0, 50)
    assert not window.has_room(1.0, 1)


def test_an_amount_may_be_put_right_while_it_counts():
    """What was expected becomes what it was."""
    window = Window(10)
    entry = window.take(0.0, 8)
    window.correct(entry, 3)
    assert window.has_room(1.0, 7)
    assert window.has_room(60.0, 10)
    window.correct(entry, 9)
    assert window.has_room(60.0, 10)


def test_requests_a_minute_are_shared_by_the_workers(tmp_path):
    """Each lets its share through, then masks the backend."""
    made = gates(tmp_path, "requests_per_minute: 4", workers=2)
    decided, asked = chosen()
    for now in (0.0, 1.0):
        assert made.shut(asked, now) == frozenset()
        made.enter(decided, asked, None, now)
    assert made.shut(asked, 2.0) == {"large"}
    with pytest.raises(Refused, match="rate_limit"):
        made.enter(decided, asked, None, 2.0)
    assert made.shut(asked, 60.0) == frozenset()


def test_tokens_a_minute_are_those_that_came(tmp_path):
    """Expected at first, corrected when the provider has counted."""
    made = gates(tmp_path, "tokens_per_minute: 1000")
    decided, asked = chosen()
    grant = made.enter(decided, asked, None, 0.0)
    made.leave(grant, outcome(tokens=600), 600)  # and 300 of the prompt
    assert made.shut(asked, 1.0) == {"large"}
    assert made.shut(ask(prompt_tokens=90), 1.0) == frozenset()


def test_only_backends_that_a_request_may_have_are_looked_at(tmp_path):
    """The others are masked anyway."""
    made = gates(tmp_path, "requests_per_minute: 1")
    decided, asked = chosen()
    made.enter(decided, asked, None, 0.0)
    assert made.shut(ask(allowed=frozenset({"small"})), 0.0) == frozenset()


@pytest.mark.parametrize(
    ("refusal", "until"),
    [(Refused("rate_limited", retry_after_s=7.0), 7.0), (Refused("rate_limited"), 1.0), (Refused("quota_spent"), 60.0)],
)
def test_a_provider_that_says_not_now_is_left_alone(tmp_path, refusal, until):
    """For as long as it said, or a while."""
    made = gates(tmp_path, PRICES)
    decided, asked = chosen()
    made.refused(decided, refusal, 100.0)
    assert made.shut(asked, 100.0 + until - 0.01) == {"large"}
    assert made.shut(asked, 100.0 + until) == frozenset()


def test_a_word_of_hours_is_not_taken_literally(tmp_path):
    """A wrong header does not take a backend away for the day."""
    made = gates(tmp_path, PRICES)
    decided, asked = chosen()
    made.refused(decided, Refused("rate_limited", retry_after_s=100_000.0), 0.0)
    assert made.shut(asked, 601.0) == frozenset()


def test_a_request_that_the_cap_has_no_room_for_is_masked(tmp_path):
    """The worst it may cost: twice its prompt, and its ceiling."""
    made = gates(tmp_path, f"{PRICES}, spend: {{usd_per_hour: 0.1}}")
    asked = ask(prompt_tokens=500, max_tokens=900)  # 0.01 and 0.09
    assert made.shut(asked, 0.0) == frozenset()
    assert made.shut(replace(asked, max_tokens=901), 0.0) == {"large"}
    assert made.shut(replace(asked, n=2), 0.0) == {"large"}


def test_an_answer_without_a_ceiling_is_reckoned_at_answer_tokens(tmp_path):
    """And at its budget where it has one."""
    made = gates(tmp_path, f"{PRICES}, spend: {{usd_per_hour: 1}}, answer_tokens: 1000")
    decided, asked = chosen(prompt_tokens=500)
    made.enter(decided, asked, None, 0.0)
    assert spent(made) == pytest.approx(0.01 + 0.1)
    made.enter(decided, asked, 128, 0.0)
    assert spent(made) == pytest.approx(0.11 + 0.01 + 0.0128)


def spent(made: Gates) -> float:
    ((_, _, usd, _),) = made.spent()
    return usd


def test_what_is_begun_together_is_refused_together(tmp_path):
    """Each holds before it is sent: the last one that fits is the last one."""
    made = gates(tmp_path, f"{PRICES}, spend: {{usd_per_hour: 0.1}}")
    decided, asked = chosen(prompt_tokens=500, max_tokens=400)  # 0.05 each
    grants = [made.enter(decided, asked, 400, 0.0) for _ in range(2)]
    with pytest.raises(Refused, match="spend_cap"):
        made.enter(decided, asked, 400, 0.0)
    assert made.shut(asked, 0.0) == {"large"}

    assert made.leave(grants[0], outcome(prompt_tokens=500, tokens=10), 10) == pytest.approx(0.005 + 0.001)
    assert spent(made) == pytest.approx(0.056)


@pytest.mark.parametrize(
    ("ended", "seen", "usd"),
    [
        (outcome(prompt_tokens=1000, tokens=100), 99, 0.01 + 0.01),
        (outcome(prompt_tokens=1000, tokens=100, cached_tokens=400), 99, 0.006 + 0.0004 + 0.01),
        (outcome(Ending.ABANDONED, prompt_tokens=None, tokens=None), 20, 0.003 + 0.002),
        (outcome(Ending.ABANDONED, prompt_tokens=None, tokens=None), 0, 0.003),
        (outcome(Ending.BROKE, prompt_tokens=None, tokens=None), 20, 0.003 + 0.002),
        (outcome(Ending.REFUSED, prompt_tokens=None, tokens=None, reason="status_500"), 0, 0.0),
        (outcome(Ending.REFUSED, prompt_tokens=None, tokens=None, reason="timeout"), 0, 0.003),
        (outcome(Ending.REJECTED, prompt_tokens=None, tokens=None), 0, 0.0),
        (outcome(Ending.DONE, prompt_tokens=None, tokens=None), 50, 0.003 + 0.005),
        (outcome(Ending.DONE, prompt_tokens=None, tokens=None), 0, 0.006 + 0.05),
    ],
    ids=["counted", "cached", "left", "left-early", "broke", "refused", "hung", "rejected", "uncounted-stream", "uncounted-whole"],
)
def test_what_an_attempt_cost(tmp_path, ended: Outcome, seen, usd):
    """As the provider counted; else what we saw of it, and of an answer of which we saw nothing all that was held."""
    made = gates(tmp_path, f"{PRICES}, usd_per_million_cached: 1, spend: {{usd_per_hour: 10}}")
    decided, asked = chosen(prompt_tokens=300)
    grant = made.enter(decided, asked, 500, 0.0)
    assert made.leave(grant, ended, seen) == pytest.approx(usd)
    assert spent(made) == pytest.approx(usd)


def test_another_config_keeps_the_money_and_a_providers_word(tmp_path):
    """A reload is no way around a cap."""
    made = gates(tmp_path, f"{PRICES}, spend: {{usd_per_hour: 1}}")
    decided, asked = chosen(prompt_tokens=300, max_tokens=100)
    made.enter(decided, asked, 100, 0.0)
    before = spent(made)
    made.refused(decided, Refused("rate_limited", retry_after_s=50.0), 0.0)
    text = "backends:\n  - {name: large, url: 'http://h', model: m, profile: smollm2-135m-cpu, " + PRICES + ", spend: {usd_per_hour: 2}}\n"
    made.adopt(parse(text, {}, source=str(tmp_path / "c.yaml")))
    assert spent(made) == before > 0
    assert made.shut(asked, 49.0) == {"large"}


def test_where_there_is_no_book_nothing_is_paid(tmp_path, caplog):
    """Its folder cannot be made: said once in the log, and the backend is masked."""
    (tmp_path / "state").write_text("a file")
    made = gates(tmp_path, PRICES)
    decided, asked = chosen()
    assert made.shut(asked, 0.0) == {"large"}
    with pytest.raises(Refused, match="spend_unknown"):
        made.enter(decided, asked, None, 0.0)
    assert [r.message for r in caplog.records if "cannot be used" in r.message]
