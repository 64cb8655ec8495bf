"""Lines of a log as columns: nothing is lost on the way, and what does not encode to its digest is counted."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bestserve.policy.learn.logged import DONE, Ledger, Skew, hashed, joined, with_scores
from tests.policy.learn.log_by_simulation import lines, logged

pytestmark = pytest.mark.timeout(600)


def test_columns_say_what_lines_say():
    """Of a line, the backend by its name, its times, its tokens, its chance."""
    columns, names = logged()
    for i in range(0, len(lines()), 97):
        line = lines()[i]
        action = line.decision["action"]
        assert (names.backends[columns.backend[i]] if columns.backend[i] >= 0 else None) == (action and action["backend"])
        assert columns.took[i] == line.outcome.total_s
        assert columns.cap[i] == (math.inf if action is None or action["budget"] is None else action["budget"])
        if columns.ending[i] == DONE:
            assert columns.tokens[i] == line.outcome.completion_tokens


def test_a_line_that_encodes_to_something_else_is_counted():
    """And one that does not hold all that was encoded is unknown."""
    ledger, line = Ledger(), lines()[0]
    assert ledger.take(line) is Skew.SAME
    assert ledger.take(replace(line, decision={**line.decision, "digest": "0" * 16})) is Skew.OTHER
    assert ledger.take(replace(line, seen=None)) is Skew.UNKNOWN
    assert ledger.take(replace(line, decision={**line.decision, "encoder": 1})) is Skew.UNKNOWN
    assert len(ledger) == 4


def test_pieces_join_in_the_order_of_time():
    """Whatever order each has given its backends."""
    late, early = Ledger(), Ledger()
    some = [line for line in lines() if line.decision["action"] is not None]
    for line in reversed(some[50:100]):
        late.take(line)
    for line in some[:50]:
        early.take(line)
    pieces = [late.columns(), early.columns()]
    columns, names, order = joined(pieces)
    assert (np.concatenate([piece.wall for piece, _ in pieces])[order] == columns.wall).all()
    assert (np.diff(columns.wall) >= 0).all()
    assert [names.backends[b] for b in columns.backend.tolist()] == [line.decision["action"]["backend"] for line in some[:100]]


def test_a_score_counts_for_its_own_keys_decision():
    """Another key's word is none."""
    ledger = Ledger()
    for line in lines()[:3]:
        ledger.take(line, key="team-a")
    columns, _ = ledger.columns()
    ids = [str(line.decision["id"]) for line in lines()[:3]]
    scored = with_scores(columns, [(ids[0], "team-a", 1.0), (ids[1], "team-b", 1.0), ("unknown", "team-a", 0.0)])
    assert scored.score[0] == 1.0
    assert np.isnan(scored.score[1:]).all()


def test_every_name_has_its_own_number():
    """Different names have different ones."""
    assert len({hashed(f"key-{i}") for i in range(10_000)}) == 10_000
