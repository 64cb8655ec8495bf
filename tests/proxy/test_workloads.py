"""Workloads by name: what arrives, and what is said of a wrong one."""

import numpy as np
import pytest

from bestserve.policy.facts import TASKS
from bestserve.policy.workload import Demand
from bestserve.proxy.workloads import BadWorkload, Course, trace_for, with_mix, workload_of


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("poisson:20", 18, 22),
        ("bursty:20", 14, 27),
        ("bursty:20:2:weibull", 16, 24),
        ("unpredictable:10-40", 12, 38),
        ("unpredictable:10-40:5", 14, 30),
        ("diurnal:10-30", 18, 22),
        ("diurnal:10-30:60", 18, 22),
    ],
)
def test_a_workload_arrives_at_its_rate(name, low, high):
    """Within the noise, and half as much again at a rate scale of 1.5."""
    plain, scaled = (len(trace_for(Course(name, 300.0, scale), Demand(), 1).at) / 300 for scale in (1.0, 1.5))
    assert low < plain < high
    assert 1.2 < scaled / plain < 1.8


def test_the_same_seed_is_the_same_trace():
    """And another seed is another."""
    one, same, other = (trace_for(Course("bursty:5", 60.0), Demand(), seed) for seed in (1, 1, 2))
    assert np.array_equal(one.at, same.at)
    assert not np.array_equal(one.at[:50], other.at[:50])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("poison:3", "did you mean poisson?"),
        ("poisson", "is not a workload, a file or a directory"),
        ("poisson:fast", "a rate must be a number above 0, is 'fast'"),
        ("poisson:1:2", "is not of the form poisson:RATE"),
        ("poisson:-1", "above 0"),
        ("poisson:inf", "above 0"),
        ("poisson:1e9", "more than 5,000,000"),
        ("poisson:1e-9", "nobody arrives"),
        ("bursty:3:99", "not between 0.1 and 20"),
        ("bursty:3:2:gama", "did you mean gamma?"),
        ("unpredictable:5", "LOW-HIGH"),
        ("unpredictable:5-2", "the lower rate 5 is above the higher one 2"),
        ("nowhere.csv", "is not a workload, a file or a directory"),
    ],
)
def test_a_wrong_workload_is_refused_in_words(name, said):
    """What is wrong, and what there is."""
    with pytest.raises(BadWorkload, match=said):
        trace_for(Course(name), Demand(), 0)


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.6805900,396,109\n"


def test_a_trace_plays_so_many_times_as_fast(tmp_path):
    """Times are scaled, sizes are not, and what is after the duration is left out."""
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    assert trace_for(Course(str(path), rate_scale=2.0), Demand(), 0).at.tolist() == pytest.approx([0.0, 2.0])
    assert trace_for(Course(str(path), seconds=3.0), Demand(), 0).prompt.tolist() == [374]


def test_a_bad_row_is_named_and_left_out_only_if_asked(tmp_path):
    """By its line."""
    path = tmp_path / "azure.csv"
    path.write_text(AZURE + "yesterday,1,2\n")
    with pytest.raises(BadWorkload, match=r"azure.csv: line 4: .*--skip-bad-rows"):
        workload_of(Course(str(path)))
    recorded = workload_of(Course(str(path), skip_bad=True)).recorded
    assert recorded is not None
    assert len(recorded.skipped) == 1
    assert recorded.skipped[0].startswith("line 4")


def test_a_mix_is_read_and_may_drift():
    """Shares are of the sum; after a colon stands what the mix becomes."""
    demand = with_mix(Demand(), "code=1,qa=3:chat=1")
    assert demand.mix[TASKS.index("qa")] == 0.75
    assert demand.later_mix is not None
    assert demand.later_mix[TASKS.index("chat")] == 1.0


@pytest.mark.parametrize(
    ("text", "said"), [("cod=1", "did you mean code?"), ("qa=0", "above 0"), ("qa=1,qa=2", "twice"), ("qa=1:qa=1:qa=1", "one other")]
)
def test_a_wrong_mix_is_refused_in_words(text, said):
    """What is wrong, and what there is."""
    with pytest.raises(BadWorkload, match=said):
        with_mix(Demand(), text)
