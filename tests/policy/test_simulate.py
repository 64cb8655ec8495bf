"""Virtual time: the same story each time, everybody accounted for, and what must happen happens."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bestserve.policy.facts import SLO, Budget
from bestserve.policy.scene import Places, Trouble, mind_of, results_of, scene_of, scratch_of, world_of
from bestserve.policy.simulate import BROKE, DONE, SHED, Results, Setting, World, finish, play
from bestserve.policy.workload import Demand, draw_trace, poisson
from tests.policy.facts_by_hand import BUDGETS, LADDER, backend

PLACES = Places(LADDER, BUDGETS)


def run(
    policy: str = "bid-price",
    *,
    rate: float = 20.0,
    seconds: float = 10.0,
    places: Places = PLACES,
    seed: int = 0,
    demand: Demand = Demand(),  # noqa: B008
    setting: Setting = Setting(),  # noqa: B008
    forgetful: bool = False,
) -> tuple[Results, World]:
    """One policy on one workload, uncompiled."""
    dice = np.random.default_rng(seed)
    trace = draw_trace(dice, poisson(rate), seconds, demand)
    if forgetful:
        trace = trace._replace(shared=np.zeros_like(trace.shared))
    scene = scene_of(places, trace, mind_of(policy, places), dice, setting)
    world, results, n = world_of(scene, places, 512), results_of(len(trace.at)), len(trace.at)
    play(world, scene, results, scratch_of(places), n)
    finish(world, scene, results, math.inf)
    return results, world


def test_the_same_seed_tells_the_same_story():
    """Every number of every request."""
    for one, other in zip(run()[0], run()[0], strict=True):
        assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("policy", ["static:large", "random", "least-loaded", "deadline-greedy", "weighted-score", "bid-price"])
def test_everybody_comes_to_an_end_and_nothing_remains(policy):
    """Books, slots and engines are as at the beginning."""
    results, world = run(policy, rate=60.0, seconds=5.0)
    assert set(np.unique(results.ending)) <= {SHED, DONE}
    assert np.abs(np.array(world.kept.open)).max() < 1e-6
    assert world.counter[0] == 512
    assert np.isinf(world.busy_until).all()


def test_an_idle_fleet_answers_as_its_profile_says():
    """One request alone takes what the encoder predicted for it, and is on time."""
    results, _ = run("static:small", rate=0.2, seconds=60.0)
    done = results.ending == DONE
    assert done.all()
    assert results.on_time.all()
    assert np.median(results.ttft_s / results.predicted_ttft) == pytest.approx(1.0, abs=0.02)


def test_without_a_cap_an_answer_claims_all_the_room_that_there_is():
    """As a real engine counts when it lets a request in (see test_engine): where memory is scarce, those that are capped wait less."""
    scarce = Places((backend("small", kv_tokens=9000),), (Budget(), Budget(256)))
    free, capped = (run(f"static:small{cap}", rate=8.0, seconds=20.0, places=scarce)[0] for cap in ("", "@256"))
    assert np.median(free.ttft_s) > 10 * np.median(capped.ttft_s)
    assert np.median(free.ttft_s / free.predicted_ttft) == pytest.approx(1.0, rel=0.3)


def test_what_memory_cannot_hold_is_refused_and_no_failure():
    """Prompts and answers of thousands of tokens at a memory of two thousand: the long prompts are turned away, the others end."""
    tiny = Places((backend("small", kv_tokens=2000),), BUDGETS)
    results, world = run("static:small", rate=8.0, seconds=20.0, places=tiny)
    assert set(np.unique(results.ending)) == {SHED, DONE}
    assert world.kept.circuits.failures[0] == 0
    assert np.abs(np.array(world.kept.open)).max() < 1e-6


def test_a_crowd_waits():
    """What is too much for one backend is late there; shared by price most of it is not."""
    alone, shared = (run(policy, rate=30.0, seconds=20.0)[0] for policy in ("static:large", "bid-price"))
    assert alone.on_time.mean() < 0.5
    assert shared.on_time.mean() > alone.on_time.mean() + 0.4


def test_a_backend_that_dies_breaks_what_it_held_and_is_left_alone():
    """What it held is broken; later requests go elsewhere; after its return it is used again."""
    places = replace(PLACES, troubles=(Trouble(0, down=(3.0, 6.0)),))
    results, _ = run("static:small", places=places, seconds=20.0)
    assert (results.ending == BROKE).any()
    chosen, began = results.action // len(BUDGETS), results.ended - results.total_s
    assert not ((chosen == 0) & (results.ending == DONE) & (began > 3.0) & (began < 6.0)).any()
    assert ((chosen == 0) & (results.ending == DONE) & (began > 13.0)).any()


def test_a_slow_backend_is_found_out():
    """Paces learn that tokens take four times as long, and the policy goes elsewhere."""
    slow = replace(PLACES, troubles=(Trouble(2, slow=(0.0, math.inf), slowness=4.0),))
    usual, _ = run(seconds=40.0)
    found, world = run(places=slow, seconds=40.0)
    late = slice(len(found.action) // 2, None)
    assert math.exp(world.kept.each.mean[2]) == pytest.approx(4.0, rel=0.3)
    assert (found.action[late] // 4 == 2).mean() < 0.8 * (usual.action[late] // 4 == 2).mean()


def test_a_cap_cuts_and_a_word_shortens():
    """Under a cap of 32 tokens nothing is longer; told to be short, answers end by themselves and are worth more."""
    cut, _ = run("static:small@32", places=Places(LADDER, (Budget(32),)))
    told, _ = run("static:small@32", places=Places(LADDER, (Budget(32, "Be brief."),)))
    assert cut.tokens.max() == 32
    assert told.tokens.max() <= 32
    assert told.quality.mean() > cut.quality.mean()


def test_what_is_late_is_worth_nothing_when_hard_and_something_when_soft():
    """The reward is the one of `reward`."""
    hard, soft = (run("static:large", rate=60.0, demand=Demand(slos=((1.0, SLO(hard=kind)),)))[0] for kind in (True, False))
    assert hard.reward[(hard.ending == DONE) & ~hard.on_time].max() == 0.0
    assert soft.reward[(soft.ending == DONE) & ~soft.on_time].max() > 0.0


def test_conversations_find_their_prompts_again():
    """Where a conversation goes on, the prompt that a backend remembers is not read again."""
    talk = Demand(follow=0.8, prompt_median=(4000.0,) * 10)
    kept, anew = (run("static:small", demand=talk, rate=1.0, seconds=60.0, forgetful=forgetful)[0] for forgetful in (False, True))
    assert np.mean(kept.ttft_s) < 0.7 * np.mean(anew.ttft_s)


def test_late_reports_are_survived():
    """A report that is one interval old changes choices, not the accounts."""
    results, world = run(setting=Setting(report_s=2.0, late_reports=1.0))
    assert set(np.unique(results.ending)) <= {SHED, DONE}
    assert np.abs(np.array(world.kept.open)).max() < 1e-6
