"""Recorded arrivals."""

import numpy as np
import pytest

from bestserve.policy.traces import BadTrace, read_trace, tasks_of
from bestserve.policy.workload import Demand

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:48,879,55
"""
MOONCAKE = """{"timestamp": 2000, "input_length": 6758, "output_length": 500, "hash_ids": [1, 2]}
{"timestamp": 5000, "input_length": 7322, "output_length": 490}
"""


def test_azure_rows_are_read_in_the_order_of_time():
    """From time 0 on, in seconds."""
    seen = read_trace(AZURE.splitlines())
    assert seen.at == pytest.approx([0.0, 1.31941, 4.314579], abs=1e-5)
    assert seen.prompt.tolist() == [374, 879, 396]
    assert seen.tokens.tolist() == [44, 55, 109]


def test_mooncake_rows_count_milliseconds():
    """As lines of JSON, or as a CSV with the same names."""
    as_csv = "timestamp_ms,input_length,output_length\n2000,6758,500\n5000,7322,490\n"
    for text in (MOONCAKE, as_csv):
        seen = read_trace(text.splitlines())
        assert seen.at.tolist() == [0.0, 3.0]
        assert seen.prompt.tolist() == [6758, 7322]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("2023-11-16 18:15:46,374", "line 3: .*"),
        ("yesterday,374,44", "line 3: Invalid isoformat"),
        ("2023-11-16 18:15:46,-3,44", "line 3: ContextTokens of '-3'"),
        ("2023-11-16 18:15:46,nan,44", "line 3: ContextTokens of 'nan'"),
    ],
)
def test_a_bad_row_is_named_and_skipped_only_if_asked(row, why):
    """By the number of its line; what was skipped is told."""
    lines = [*AZURE.splitlines()[:2], row]
    with pytest.raises(BadTrace, match=why):
        read_trace(lines)
    seen = read_trace(lines, skip_bad=True)
    assert len(seen.at) == 1
    assert seen.skipped[0].startswith("line 3: ")


def test_a_file_of_another_kind_is_refused():
    """With the columns that it has."""
    with pytest.raises(BadTrace, match="line 2: there is no column 'timestamp' among a, b"):
        read_trace(["a,b", "1,2"])
    with pytest.raises(BadTrace, match="no request"):
        read_trace([])


def test_tasks_go_with_lengths():
    """Answers of a few tokens are sooner labels than stories."""
    seen = read_trace(["timestamp,input_length,output_length", *(f"{i},500,{8 if i % 2 else 500}" for i in range(400))])
    tasks = tasks_of(np.random.default_rng(0), seen, Demand())
    classify, write = 8, 7
    assert (tasks[1::2] == classify).mean() > 0.5 > (tasks[::2] == classify).mean()
    assert (tasks[::2] == write).mean() > (tasks[1::2] == write).mean()
