"""Known constants come back: exactly without noise, and within their errors with it."""

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from bestserve.profiles.schema import Engine
from bestserve.proxy.profiling import fit
from bestserve.proxy.profiling.plan import Plan
from bestserve.proxy.profiling.points import Points, gather
from bestserve.proxy.profiling.runs import Run
from tests.proxy.profiling.world import KNOWN, play, with_constants

ALL = ("prefill", "decode", "remember")


def rounds(n: int, engine: Engine = KNOWN, noise: float = 0.0, seed: int = 0) -> list[Run]:
    """So many rounds of the plan for ten minutes."""
    plan, dice = Plan(engine, 600.0), random.Random(seed)
    return [play(one, engine, noise, dice.randrange(1 << 40)) for i in range(n) for one in plan.round(ALL, seed * 100 + i)]


def off(found: dict[str, float], engine: Engine) -> dict[str, float]:
    return {name: abs(value - getattr(engine, name)) / (getattr(engine, name) or 1.0) for name, value in found.items()}


@pytest.mark.parametrize(
    "engine",
    [
        KNOWN,
        with_constants(overhead_s=0.0, prefill_cached_cost=0.0),
        with_constants(step_per_kv_token_s=0.0),
        with_constants(
            prefill_tokens_per_s=30_000,
            step_fixed_s=0.007,
            step_per_seq_s=1e-5,
            step_per_kv_token_s=6e-8,
            max_running=256,
            kv_tokens=360_000,
        ),
    ],
    ids=["known", "nothing beside", "context is free", "like a GPU"],
)
def test_without_noise_the_constants_come_back(engine: Engine) -> None:
    """One round shows every constant to a hundredth; one that is 0 comes back as next to nothing."""
    found = fit.constants(gather(rounds(1, engine)), engine.prefill_batch_tokens).named()

    assert set(found) == set(fit.FITTED)
    least = {"overhead_s": 2e-4, "prefill_cached_cost": 5e-3, "step_per_kv_token_s": 2e-9}
    for name, value in found.items():
        assert value == pytest.approx(getattr(engine, name), rel=0.01, abs=least.get(name, 0.0)), name


def test_chunks_of_a_long_prompt_each_have_their_fixed_time() -> None:
    """Prompts of up to 2048 tokens in batches of 512: still the same constants."""
    engine = with_constants(prefill_batch_tokens=512, prefill_cached_cost=0.1)

    found = fit.constants(gather(rounds(1, engine)), 512).named()

    assert max(off(found, engine).values()) < 0.01


@pytest.fixture(scope="module")
def noisy() -> Points:
    return gather(rounds(8, noise=0.1, seed=4))


def test_with_a_tenth_of_noise_the_constants_are_within_a_twentieth(noisy: Points) -> None:
    """Eight rounds; and all of them are within three of their own errors."""
    estimates = fit.estimate(noisy, KNOWN.prefill_batch_tokens)

    found = off({name: estimate.value for name, estimate in estimates.items()}, KNOWN)
    assert max(found.values()) < 0.05, found
    assert all(found[name] < 3 * (estimate.error or 0.0) for name, estimate in estimates.items()), (found, estimates)
    assert all(0 < (estimate.error or 0.0) < 0.1 for estimate in estimates.values())


def test_intervals_are_two_errors_wide(noisy: Points) -> None:
    """95 in 100: 1.96 errors on either side, and never below nothing."""
    estimate = fit.Estimate(2.0, 0.1)

    assert estimate.interval == pytest.approx((1.608, 2.392))
    assert fit.Estimate(2.0, 0.9).interval[0] == 0.0
    assert fit.Estimate(0.0, None).interval == (0.0, 0.0)


def slowed(runs: Iterable[Run], every: int, factor: float) -> list[Run]:
    """Every so many-th run, some other work took the machine: all its times are longer."""

    def longer(run: Run) -> Run:
        streams = [replace(s, sent=s.sent * factor, times=tuple(t * factor for t in s.times)) for s in run.streams]
        return replace(run, streams=tuple(streams))

    return [longer(run) if i % every == 0 else run for i, run in enumerate(runs)]


def test_a_disturbed_run_in_ten_hardly_moves_the_fit() -> None:
    """Where a plain mean would be 10 % off, no constant that matters is by more than 6 %."""
    found = fit.constants(gather(slowed(rounds(6, noise=0.03, seed=2), every=10, factor=2.0)), KNOWN.prefill_batch_tokens).named()

    away = off(found, KNOWN)
    del away["overhead_s"], away["prefill_cached_cost"]
    assert max(away.values()) < 0.06, away


def test_what_is_not_linear_shows_in_the_error() -> None:
    """A prefill that grows faster than its prompt is fitted by a line, and the line says that it is none."""

    def curved(run: Run) -> Run:
        streams = [replace(s, times=tuple(t * (1 + s.prompt_tokens / 2048) for t in s.times)) for s in run.streams]
        return replace(run, streams=tuple(streams)) if run.kind in ("prefill", "remember") else run

    straight, bent = (
        fit.estimate(gather(runs), KNOWN.prefill_batch_tokens, draws=10) for runs in (rounds(2), list(map(curved, rounds(2))))
    )

    assert (straight["prefill_tokens_per_s"].error or 0.0) < 0.01
    assert (bent["prefill_tokens_per_s"].error or 0.0) > 0.05


def test_where_prompts_take_no_time_nothing_is_said_of_remembered_ones() -> None:
    """No row says anything then of what a remembered token costs; the process must live to tell it."""
    engine = with_constants(prefill_tokens_per_s=1e9, overhead_s=0.0)
    points = gather(rounds(1, engine))
    flat = replace(points, lone=tuple(replace(point, seconds=0.1 - 1e-6 * point.tokens) for point in points.lone), stalls=())

    found = fit.constants(flat, engine.prefill_batch_tokens)

    assert found.prefill_token_s == 0
    assert found.named()["prefill_cached_cost"] == 0
