"""Points are what the engine's formulas say, when there is no noise."""

from dataclasses import replace

import pytest

from bestserve.proxy.profiling import script
from bestserve.proxy.profiling.points import gather, together
from bestserve.proxy.profiling.runs import Stream
from tests.proxy.profiling.world import KNOWN, play


def test_a_lone_prompt_is_its_time_to_first_token() -> None:
    """400 tokens: overhead and prefill."""
    (point,) = gather([play(script.prefill(400, 1))]).lone

    assert (point.tokens, point.key) == (400, "prefill 400")
    assert point.seconds == pytest.approx(0.015 + KNOWN.prefill_s(400))


def test_a_stall_is_steps_and_the_prefill_alone() -> None:
    """Whatever moment a prompt comes at, the stretch around it is so many steps of one sequence, and its prefill."""
    stalls = gather([play(script.stall((16, 512, 2048, 64), 0.011, seed)) for seed in range(5)]).stalls

    assert len(stalls) >= 15
    for point in stalls:
        assert point.step_s == pytest.approx(KNOWN.step_s(1, 40), rel=0.01)
        assert point.seconds == pytest.approx(point.steps * point.step_s + KNOWN.prefill_s(point.tokens), rel=5e-3)


def test_a_late_first_token_does_not_move_a_stall() -> None:
    """An engine that tells a step late shows the same stretch, for it begins before and ends after."""
    late = gather([play(script.stall((512,), 0.011, 1), lag=lambda i: 0.012 if i else 0.0)]).stalls[0]

    assert late.seconds == pytest.approx(late.steps * late.step_s + KNOWN.prefill_s(512), rel=1e-3)


@pytest.mark.parametrize(("n", "prompt"), [(1, 32), (4, 256), (16, 1024)])
def test_steps_are_of_all_sequences_together(n: int, prompt: int) -> None:
    """Each block of eight tells the mean step of its company over the context that it had then."""
    steps = gather([play(script.decode(n, prompt, 34))]).steps

    assert len(steps) >= 3
    assert {point.n for point in steps} == {n}
    for point in steps:
        assert point.seconds == pytest.approx(KNOWN.step_s(n, point.context), rel=2e-3)


def test_tokens_that_came_late_and_in_one_piece_are_no_steps() -> None:
    """Our own process was held up: a block of no time is left out, the others stay."""
    run = play(script.decode(4, 32, 34))
    held = [replace(s, times=tuple(s.times[20] if 8 <= k <= 20 else t for k, t in enumerate(s.times))) for s in run.streams]

    steps = gather([replace(run, streams=tuple(held))]).steps

    assert len(steps) == len(gather([run]).steps) - 1
    assert min(point.seconds for point in steps) > 0.3 * KNOWN.step_s(4, 132)


def test_what_is_remembered_counts_apart() -> None:
    """Three repetitions of 1024 tokens with 16 new ones, which cost 16 and a quarter of 1024."""
    points = gather([play(script.remember(1024, 16, 1))])

    assert [point.tokens for point in points.lone] == [1024]
    assert [(point.tokens, point.remembered) for point in points.remembered] == [(16, 1024)] * 3
    assert points.remembered[0].seconds == pytest.approx(0.015 + KNOWN.prefill_s(16 + 256))


def test_runs_that_failed_or_were_disturbed_give_no_points() -> None:
    """Neither is believed."""
    run = play(script.prefill(400, 1))

    assert gather([replace(run, failed="closed"), replace(run, foreign=1)]).lone == ()


def test_a_company_that_was_never_together_gives_no_steps() -> None:
    """Five asked of an engine that runs four: no stretch has all of them."""
    run = play(script.decode(5, 32, 34), replace(KNOWN, max_running=4))

    assert together(run.streams) == 4
    assert gather([run]).steps == ()


def test_tokens_in_bunches_are_counted_as_many() -> None:
    """A stream that brings four tokens at a time shows steps of the same length."""
    run = play(script.decode(2, 32, 34))
    bunched = [Stream(s.sent, s.prompt_tokens, None, s.times[::4], s.counts[::4]) for s in run.streams]
    steps = gather([replace(run, streams=tuple(bunched))]).steps

    assert len(steps) >= 2
    assert steps[0].seconds == pytest.approx(KNOWN.step_s(2, steps[0].context), rel=5e-3)
