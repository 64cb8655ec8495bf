"""Signals of traffic become rows: words by number, what the answer said of the task, how long it was."""

from pathlib import Path

import pytest

from bestserve.policy import signals
from bestserve.policy.classify import Classifier
from bestserve.policy.facts import TASKS
from bestserve.policy.features import Prompt
from bestserve.policy.learn.traffic import rows_of

SHIPPED = Classifier.from_bytes((Path(__file__).parent.parent.parent.parent / "policy/weights/task.bin").read_bytes())
EVEN = (0.1,) * len(TASKS)


def kept(text: str, weights: str = SHIPPED.id) -> dict:
    return signals.signal(SHIPPED.rows(Prompt.of(text), 64), EVEN, fence=True, json=False, tokens=40, weights=weights)


def test_a_signal_is_a_row():
    """Without a text."""
    (row,), left = rows_of([kept("please translate the function")], SHIPPED)

    assert left == 0
    assert {"translate", "function"} <= set(row.words)
    assert (row.prompt.text, row.task, row.tokens) == ("", None, 40)
    assert row.soft is not None
    assert TASKS[row.soft.index(max(row.soft))] == "code"


def test_signals_of_other_weights_are_left_out():
    """Their numbers mean other words; they are counted."""
    assert rows_of([kept("hello", weights="0" * 16)], SHIPPED) == ([], 1)


@pytest.mark.parametrize("wrong", [{}, {"weights": SHIPPED.id}, {**kept("hello"), "rows": None}, {**kept("hello"), "task": None}])
def test_what_is_no_signal_is_refused(wrong):
    """With a ValueError."""
    with pytest.raises(ValueError, match="no signal"):
        rows_of([wrong], SHIPPED)


def test_a_number_beyond_the_words_is_refused():
    """It cannot have been written by these weights."""
    with pytest.raises(ValueError, match="row is not in"):
        rows_of([{**kept("hello"), "rows": [10**9]}], SHIPPED)
