"""A replay log played again: what came then comes again, what cannot be read is named."""

import numpy as np
import pytest

from bestserve.policy.workload import Demand
from bestserve.proxy.simulated_log import write
from bestserve.proxy.workloads import BadWorkload, Course, trace_for, workload_of
from tests.policy.learn.log_by_simulation import played
from tests.proxy.simulated import FLEETS, simulated


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A directory of one segment."""
    folder = tmp_path_factory.mktemp("log")
    write(folder, played(), wall=1_790_000_000.0, policy="bid-price", name="s0", feedback=0.0, dice=np.random.default_rng(0))
    return folder


def test_what_came_comes_again(log):
    """Every request once, when it came, with its prompt, deadlines, weight and what was foreseen of it; answers that ended are as long."""
    was, again = played().scene.trace, trace_for(Course(str(log)), Demand(), 3)

    assert len(again.at) == len(was.at)
    np.testing.assert_allclose(again.at, was.at - was.at[0], atol=1e-4)
    for name in ("prompt", "ttft_s", "tpot_s", "weight"):
        np.testing.assert_allclose(getattr(again, name), getattr(was, name))
    np.testing.assert_allclose(again.told, was.told, atol=1e-6)
    assert np.corrcoef(np.log(again.tokens), np.log(was.tokens))[0, 1] > 0.8


def test_a_seed_draws_what_nobody_saw(log):
    """Tasks and lengths of answers that were cut; the same seed, the same."""
    one, same, other = (trace_for(Course(str(log)), Demand(), seed) for seed in (1, 1, 2))
    assert np.array_equal(one.tokens, same.tokens)
    assert not np.array_equal(one.task, other.task)


def test_it_may_be_faster_shorter_and_for_a_smaller_context(log):
    """As any recorded trace."""
    whole, part = trace_for(Course(str(log)), Demand(), 1), trace_for(Course(str(log), 30.0, 2.0), Demand(longest=500.0), 1)
    assert part.at[-1] < 30.0
    assert len(part.at) == np.searchsorted(whole.at, 60.0)
    assert part.prompt.max() <= 500
    assert part.tokens.max() <= 500


def test_a_session_shares_what_its_last_request_had(log):
    """Prompt and answer, as far as the next prompt is that long."""
    trace = trace_for(Course(str(log)), Demand(), 1)
    assert ((trace.shared == 0) | (trace.session >= 0)).all()
    assert (trace.shared < trace.prompt).all()


def test_a_line_that_is_none_is_named_and_left_out_only_if_asked(log, tmp_path):
    """By file and line, with how many more there are."""
    (segment,) = log.glob("*.jsonl*")
    lines = segment.read_bytes().splitlines(keepends=True)
    bad = tmp_path / "20261101T000000000Z-host-1-00000000-000001.jsonl"
    bad.write_bytes(b"".join([*lines[:5], b"{}\n", b"nonsense\n", *lines[5:20]]))

    with pytest.raises(BadWorkload, match=r"000001\.jsonl:6: .*, and 1 more; --skip-bad-rows"):
        workload_of(Course(str(bad)))
    workload = workload_of(Course(str(bad), skip_bad=True))
    assert len(workload.skipped) == 2


def test_a_directory_without_requests_is_refused(tmp_path):
    """By its name."""
    with pytest.raises(BadWorkload, match="holds no request"):
        workload_of(Course(str(tmp_path)))


def test_it_is_simulated_from_the_command_line(log):
    """On a fleet that is not the one it comes from."""
    said = simulated(FLEETS / "qwen3.yaml", log, "--policy", "pretrained", "--duration", "20")

    assert said["requests"] == len(trace_for(Course(str(log), 20.0), Demand(), 0).at)
    assert said["on_time"] > 0.5
