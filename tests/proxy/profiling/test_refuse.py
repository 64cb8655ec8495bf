"""What must not be believed is refused with the reason."""

from dataclasses import replace

import pytest

from bestserve.proxy.profiling import fit, script
from bestserve.proxy.profiling.plan import Plan
from bestserve.proxy.profiling.points import Points, gather
from bestserve.proxy.profiling.refuse import CannotMeasure, foreign, refuse_failures, refuse_too_few, refuse_unmoved
from bestserve.proxy.profiling.runs import Run
from tests.proxy.profiling.world import KNOWN, play, with_constants

RUNS = [play(one) for one in Plan(KNOWN, 600.0).round(("prefill", "decode"), 1)]


def mock(**constants: float) -> Points:
    engine = with_constants(**constants)
    return gather([play(one, engine) for one in Plan(KNOWN, 600.0).round(("prefill", "decode"), 1)])


def test_a_backend_is_believed() -> None:
    """None of the reasons holds for an engine that nobody else uses."""
    points = gather(RUNS)

    assert foreign(RUNS) is None
    refuse_failures(RUNS)
    refuse_too_few(points)
    refuse_unmoved(points, fit.constants(points, KNOWN.prefill_batch_tokens))


def test_a_mock_whose_first_token_always_takes_the_same_is_refused() -> None:
    """50 ms for 16 tokens as for 2048."""
    points = mock(prefill_tokens_per_s=1e9, prefill_fixed_s=0.05)

    with pytest.raises(CannotMeasure, match=r"the time to first token does not depend on the prompt: .* ms for 16 tokens"):
        refuse_unmoved(points, fit.constants(points, KNOWN.prefill_batch_tokens))


def test_a_mock_whose_tokens_always_take_the_same_is_refused() -> None:
    """10 ms a token for one sequence as for sixteen."""
    points = mock(step_per_seq_s=0.0, step_per_kv_token_s=0.0)

    with pytest.raises(CannotMeasure, match="the time of a step does not depend on the load"):
        refuse_unmoved(points, fit.constants(points, KNOWN.prefill_batch_tokens))


def test_others_in_one_run_are_told_and_in_many_refused() -> None:
    """One disturbed run of many is left out; a third of them is too much."""
    one = [replace(RUNS[0], foreign=2), *RUNS[1:]]
    many = [replace(run, foreign=3) if i % 3 == 0 else run for i, run in enumerate(RUNS)]

    assert foreign(one) == f"others used the backend: up to 2 requests beyond ours in 1 of {len(RUNS)} runs, which are left out"
    with pytest.raises(CannotMeasure, match="others used the backend: up to 3 requests beyond ours"):
        foreign(many)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (Points(), "too few points: 0 prefills"),
        (gather([run for run in RUNS if run.kind != "decode"]), "too few points: 0 stretches"),
        (
            gather([run for run in RUNS if run.key != "prefill" and (run.kind == "prefill" or run.key.startswith("decode 1x"))] * 3),
            "too few points",
        ),
    ],
)
def test_too_few_points_are_refused_with_their_number(points: Points, says: str) -> None:
    """No prefills, no steps, or steps of one sequence only."""
    with pytest.raises(CannotMeasure, match=says):
        refuse_too_few(points)


def test_three_failures_in_a_row_end_it() -> None:
    """The last one's reason is told; two are borne."""
    bad = replace(RUNS[0], failed="connect_failed")

    refuse_failures([*RUNS, bad, bad])
    with pytest.raises(CannotMeasure, match="three runs failed one after the other, the last because of: connect_failed"):
        refuse_failures([*RUNS, bad, bad, bad])


def test_answers_of_other_lengths_are_refused() -> None:
    """A backend that stops at its own end token shows other steps than were meant."""

    def shorter(run: Run) -> Run:
        return replace(run, streams=tuple(replace(s, times=s.times[:20], counts=s.counts[:20]) for s in run.streams))

    refuse_failures([*RUNS, shorter(play(script.prefill(64, 1)))])
    with pytest.raises(CannotMeasure, match=r"another length than was asked for \(20 tokens instead of 34"):
        refuse_failures([*map(shorter, RUNS)])
