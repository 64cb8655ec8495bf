"""Lengths and the effect of budgets: complete, bounded, and refused by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.profiles import TASKS, Answers, BadProfile, BudgetEffect, Source, parse
from bestserve.profiles.answers import usual_lengths

from .test_schema import GOOD

TABLES = ("kept_when_cut", "kept_when_concise", "length_when_concise")


def with_tables(**tables: Any) -> dict[str, Any]:
    return {**GOOD, **tables}


def test_what_is_left_out_is_filled_in():
    """A profile without these tables has all of them, over every task; of thinking nothing is invented."""
    profile = parse(GOOD)

    assert profile.lengths == usual_lengths()
    assert profile.budget_effect == BudgetEffect()
    assert set(profile.lengths) == set(TASKS)
    assert profile.quality_thinking == {}
    assert profile.lengths_thinking == {}


def test_one_length_replaces_one():
    """The other tasks keep theirs; both numbers share the entry's source."""
    entry = {"median": 700, "sigma": 0.5, "source": "a log", "how": "measured", "error": 0.1}

    profile = parse(with_tables(lengths={"code": entry}))

    assert profile.lengths == {**usual_lengths(), "code": Answers(700.0, 0.5)}
    assert profile.sources["lengths.code"] == Source("a log", "measured", 0.1)


def test_a_length_needs_no_source():
    """As with every other number."""
    profile = parse(with_tables(lengths_thinking={"math": {"median": 4000, "sigma": 0.8}}))

    assert profile.lengths_thinking == {"math": Answers(4000.0, 0.8)}
    assert profile.sources == {}


def test_one_effect_replaces_one():
    """The tables are filled in number by number."""
    concise = {"chat": {"value": 0.97, "source": "AlpacaEval 2", "how": "published"}}

    effect = parse(with_tables(budget_effect={"kept_when_concise": concise})).budget_effect

    assert effect.kept_when_concise == {**BudgetEffect().kept_when_concise, "chat": 0.97}
    assert effect.kept_when_cut == BudgetEffect().kept_when_cut


def test_half_a_program_is_worth_nothing():
    """Nor is half a proof, half an extract, half a label; half an explanation is worth something, and less than a short whole one."""
    effect = BudgetEffect()

    for task in TASKS:
        assert (effect.kept_when_cut[task] == 0) == (task in ("code", "math", "extract", "classify"))
        assert effect.kept_when_cut[task] < effect.kept_when_concise[task]


@given(table=st.sampled_from(TABLES), task=st.sampled_from(TASKS), share=st.floats(1e-9, 1))
def test_any_share_is_read_where_it_stands(table, task, share):
    """Each of the three tables, at each task, and nowhere else."""
    effect = parse(with_tables(budget_effect={table: {task: share}})).budget_effect

    for name in TABLES:
        before = getattr(BudgetEffect(), name)
        assert getattr(effect, name) == ({**before, task: share} if name == table else before)
        assert list(getattr(effect, name)) == list(TASKS)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"lengths": {"codes": {}}}, r"^lengths\.codes: unknown key; did you mean lengths\.code\?$"),
        ({"lengths": {"code": 220}}, r"^lengths\.code: must be a table$"),
        ({"lengths": {"code": {"median": 3}}}, r"^lengths\.code\.sigma: is missing$"),
        ({"lengths": {"code": {"median": 0, "sigma": 1}}}, r"^lengths\.code\.median: must be greater than 0"),
        ({"lengths": {"code": {"median": 3, "sigma": 0}}}, r"^lengths\.code\.sigma: must be greater than 0"),
        ({"lengths": {"code": {"median": 3, "sigma": 1, "mean": 4}}}, r"^lengths\.code\.mean: unknown key; did you mean .*median"),
        ({"lengths": {"code": {"median": 3, "sigma": 1, "how": "fitted"}}}, r"^lengths\.code\.source: must be a text"),
        ({"lengths": {"code": {"median": 3, "sigma": 1, "source": "a"}}}, r"^lengths\.code\.how: must be one of"),
        ({"lengths_thinking": {"code": {"sigma": 1}}}, r"^lengths_thinking\.code\.median: is missing$"),
        ({"quality_thinking": {"code": 2}}, r"^quality_thinking\.code: must be in \[0, 1\], is 2\.0$"),
        ({"budget_effect": {"kept": {}}}, r"^budget_effect\.kept: unknown key"),
        ({"budget_effect": {"kept_when_cut": 1}}, r"^budget_effect\.kept_when_cut: must be a table$"),
        ({"budget_effect": {"kept_when_cut": {"chat": 1.5}}}, r"^budget_effect\.kept_when_cut\.chat: must be in \[0, 1\], is 1\.5$"),
        ({"budget_effect": {"length_when_concise": {"chat": 0}}}, r"^budget_effect\.length_when_concise\.chat: must be greater than 0"),
        ({"budget_effect": {"kept_when_concise": {"caht": 1}}}, r"kept_when_concise\.caht: unknown key; did you mean .*\.chat\?$"),
    ],
)
def test_what_cannot_be_used_is_named(tables, message):
    """By its whole path."""
    with pytest.raises(BadProfile, match=message):
        parse(with_tables(**tables))
