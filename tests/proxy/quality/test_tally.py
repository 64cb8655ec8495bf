"""From scored answers to what is known of the backend."""

import pytest

from bestserve.proxy.quality.budgets import parse
from bestserve.proxy.quality.ledger import Scored
from bestserve.proxy.quality.tally import tally

BUDGETS = parse("none,50,100:Short.")


def rows(*told):
    """(prompt, budget's place, score, cut, tokens) of `math`."""
    return {(p, k): Scored(f"{p}{k}", p, "math", "", score, cut, tokens, 0.0, "") for p, k, score, cut, tokens in told}


def test_quality_is_the_mean_score_of_each_budget():
    """With its interval, the share that was cut, and lengths where enough answers ended."""
    seen = tally(rows(*[(f"p{i}", 0, i % 2, False, 10 + i) for i in range(10)], ("p0", 1, 0.0, True, 50)), BUDGETS)

    free, capped = seen.cells["math", 0], seen.cells["math", 1]
    assert seen.tasks == ["math"]
    assert (free.quality.value, free.quality.n, free.cut) == (0.5, 10, 0.0)
    assert free.quality.low < 0.5 < free.quality.high
    assert free.length is not None
    assert free.length.median == pytest.approx(14, rel=0.05)
    assert (capped.cut, capped.length) == (1.0, None)
    assert ("math", 2) not in seen.cells


def test_a_cut_is_compared_with_the_same_prompts_free_answer():
    """Of two that were cut one kept its worth; the one that was not cut, and the one whose free answer was cut, do not count."""
    seen = tally(
        rows(
            *[(p, 0, 1.0, p == "d", 90) for p in "abcd"],
            ("a", 1, 1.0, True, 50),
            ("b", 1, 0.0, True, 50),
            ("c", 1, 1.0, False, 40),
            ("d", 1, 0.0, True, 50),
        ),
        BUDGETS,
    )

    kept = seen.effects["math"].kept_when_cut
    assert kept is not None
    assert (kept.value, kept.n) == (0.5, 2)
    assert seen.effects["math"].kept_when_concise is None


def test_an_instruction_is_judged_by_the_answers_that_ended():
    """What they kept, and how much shorter they are; one that broke off counts as cut."""
    seen = tally(
        rows(
            *[(p, 0, 1.0, False, 80) for p in "abcd"],
            *[(p, 2, 1.0 if p != "a" else 0.0, False, 40) for p in "abc"],
            ("d", 2, 0.0, True, 100),
        ),
        BUDGETS,
    )

    effect = seen.effects["math"]
    assert effect.kept_when_concise is not None
    assert effect.kept_when_concise.value == pytest.approx(2 / 3)
    assert effect.length_when_concise is not None
    assert (effect.length_when_concise.ratio, effect.length_when_concise.n) == (pytest.approx(0.5), 3)
    assert effect.kept_when_cut is not None
    assert effect.kept_when_cut.n == 1


def test_without_free_answers_nothing_is_compared():
    """Only qualities under the budgets that were tried."""
    seen = tally(rows(("a", 0, 1.0, True, 50)), parse("50,100:Short."))

    assert seen.free is None
    assert seen.effects["math"].kept_when_cut is None


def test_a_server_that_counts_no_tokens_gives_no_lengths():
    """The rest is as ever."""
    seen = tally(rows(*[(f"p{i}", 0, 1.0, False, None) for i in range(5)]), BUDGETS)

    assert seen.cells["math", 0].quality.value == 1.0
    assert seen.cells["math", 0].length is None
