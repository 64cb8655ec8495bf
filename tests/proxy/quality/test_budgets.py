"""The budgets, as the command line says them."""

import pytest

from bestserve.policy.facts import Budget
from bestserve.proxy.quality.budgets import is_free, name, parse


@pytest.mark.parametrize(
    ("said", "budgets"),
    [
        ("none", [(None, None)]),
        ("none,128", [(None, None), (128, None)]),
        ('none,384:"Answer in at most 200 words.",128', [(None, None), (384, "Answer in at most 200 words."), (128, None)]),
        ("384:Be brief, be kind, in 5 words.,none", [(384, "Be brief, be kind, in 5 words."), (None, None)]),
        ("128, 128:Short., none:Short.", [(128, None), (128, "Short."), (None, "Short.")]),
    ],
)
def test_budgets_stand_between_commas(said, budgets):
    """With or without quotation marks, which a shell takes away; a comma within an instruction is no border."""
    assert [(b.tokens, b.instruction) for b in parse(said)] == budgets


@pytest.mark.parametrize("said", ["", "0", "many", "none,none", "128:Short.,128:Short.", "none,,128", "-5"])
def test_what_is_no_budget_is_refused(said):
    """With the word that is wrong."""
    with pytest.raises(ValueError, match="budget"):
        parse(said)


def test_names_tell_instructions():
    """By a star."""
    assert [name(b) for b in parse("none,128,128:Short.")] == ["none", "128", "128*"]
    assert [is_free(b) for b in parse("none,128,none:Short.")] == [True, False, False]
    assert is_free(Budget())
