"""A whole measurement in no time: what is played, when it ends, and what it finds."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from bestserve.profiles.schema import Engine
from bestserve.proxy.dialects.sglang import Limits
from bestserve.proxy.profiling import fit
from bestserve.proxy.profiling.judge import judge
from bestserve.proxy.profiling.plan import PLAYS
from bestserve.proxy.profiling.points import gather
from bestserve.proxy.profiling.refuse import CannotMeasure
from bestserve.proxy.profiling.runs import Run
from bestserve.proxy.profiling.script import Script
from bestserve.proxy.profiling.session import Session
from tests.proxy.profiling.world import KNOWN, play, with_constants

LIMITS = Limits(max_running=16, kv_tokens=40_000, context=4_096, prefill_batch_tokens=2_048)


class World:
    """A backend whose time only passes while a script is played."""

    def __init__(self, engine: Engine = KNOWN, noise: float = 0.1, seed: int = 0) -> None:
        self.engine, self.noise, self.dice = engine, noise, random.Random(seed)
        self.now = 0.0
        self.runs: list[Run] = []
        self.kept: list[Run] = []
        self.change: Callable[[Run], Run] = lambda run: run

    async def play(self, script: Script) -> Run:
        run = self.change(play(script, self.engine, self.noise, self.dice.randrange(1 << 40)))
        self.now += run.took_s
        return run

    def measure(self, budget_s: float, said: Limits = LIMITS, **told: int) -> None:
        session = Session(
            self.runs,
            said,
            told,
            play=self.play,
            keep=self.kept.append,
            show=lambda *_: None,
            clock=lambda: self.now,
            budget_s=budget_s,
            seed=self.dice.randrange(1 << 30),
        )
        asyncio.run(session.measure())

    def kinds(self) -> Counter[str]:
        return Counter(run.kind for run in self.runs)


def test_ten_minutes_show_every_constant_within_a_twentieth() -> None:
    """Steps vary by 10 %; and what is predicted of the mixes is within 15 % in the median and 30 % for nine of ten."""
    world = World(seed=1)
    world.measure(600.0)

    found = fit.constants(gather(world.runs), KNOWN.prefill_batch_tokens).named()

    assert world.now <= 600.0
    assert {name: value / getattr(KNOWN, name) for name, value in found.items()} == {name: pytest.approx(1, abs=0.05) for name in found}
    for mix in judge(world.runs, replace(KNOWN, **found)).summary().values():
        assert mix.median < 0.15
        assert mix.p90 < 0.30


def test_a_quiet_backend_is_known_before_the_time_is_over() -> None:
    """Without noise two rounds are enough."""
    world = World(noise=0.0)
    world.measure(600.0)

    assert world.now < 400.0
    assert world.kinds()["mix"] == 12


def test_the_time_is_kept_whatever_the_backend() -> None:
    """A minute and a half is that for a slow one too, but for the warm-up and one script."""
    world = World(with_constants(prefill_tokens_per_s=300, step_fixed_s=0.1, step_per_seq_s=0.02))
    world.measure(90.0)

    assert world.now < 105.0
    assert world.kinds()["mix"] >= 1


def test_every_run_is_kept_when_it_is_over() -> None:
    """What is written down is what there is."""
    world = World()
    world.measure(30.0)

    assert world.kept == world.runs


def test_what_there_is_counts_when_it_goes_on() -> None:
    """Half of it is there, a mix too: the time is that of both, and the same mix is played as often as any other."""
    whole = World()
    whole.measure(90.0)
    there = next(run for run in whole.runs if run.kind == "mix")
    world = World(seed=5)
    world.runs = [*[run for run in whole.runs if run.kind != "mix"][:40], there]
    before = sum(run.took_s for run in world.runs)

    world.measure(90.0)

    assert before + world.now < 105.0
    again = [run for run in world.runs if run.key == there.key]
    assert len(again) == PLAYS
    assert {tuple((call.prompt, call.answer) for call in run.calls) for run in again} == {tuple((c.prompt, c.answer) for c in there.calls)}


def test_mixes_are_played_between_the_rounds_too() -> None:
    """Each as often as any other, and not all at the end; no prompt begins as another does."""
    world = World()
    world.measure(600.0)

    kinds = [run.kind for run in world.runs]
    assert "prefill" in kinds[kinds.index("mix") :]
    assert set(Counter(run.key for run in world.runs if run.kind == "mix").values()) == {PLAYS}
    seeds = [call.seed for run in world.runs if run.kind == "mix" for call in run.calls]
    assert len(set(seeds)) == len(seeds)


def test_most_effort_goes_where_least_is_known() -> None:
    """Where steps hardly vary in their company and prefills do, prefills are asked for most often."""
    world = World()
    world.measure(120.0)

    rounds = {kind: n / len({run.key for run in world.runs if run.kind == kind}) for kind, n in world.kinds().items()}
    assert rounds["prefill"] > rounds["decode"]


def test_a_mock_is_refused_before_the_mixes() -> None:
    """There is nothing to hold against what is not believed."""
    world = World(with_constants(step_per_seq_s=0.0, step_per_kv_token_s=0.0))

    with pytest.raises(CannotMeasure, match="does not depend on the load"):
        world.measure(60.0)

    assert world.kinds()["mix"] == 0


def test_a_backend_that_others_load_is_refused_soon() -> None:
    """After a few disturbed runs, not at the end."""
    world = World()
    world.change = lambda run: replace(run, foreign=1)

    with pytest.raises(CannotMeasure, match="others used the backend"):
        world.measure(600.0)

    assert len(world.runs) == 3


def test_a_backend_that_says_nothing_is_asked_for_less_at_once() -> None:
    """32 sequences at most, and its context only as assumed or as told."""
    world = World()
    world.measure(60.0, Limits(), context=4_096, kv_tokens=40_000)

    assert max(len(run.calls) for run in world.runs if run.kind == "decode") == 32
    assert max(call.prompt for run in world.runs for call in run.calls if run.kind == "prefill") <= 2_048
