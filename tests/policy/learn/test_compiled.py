"""Compiled or not, the same numbers. (The first run on a machine compiles for about a minute.)"""

import math
from pathlib import Path

import numpy as np
import pytest

from bestserve.policy import encode, facts, fleet, heuristics, simulate
from bestserve.policy.decide import actions_of
from bestserve.policy.fleet import Fleet
from bestserve.policy.learn.bound import bind
from bestserve.policy.learn.compiled import arrays, compiled, sources
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, mind_of, results_of, scene_of, scratch_of, world_of
from bestserve.policy.simulate import finish, play
from bestserve.policy.workload import Demand, draw_trace, poisson
from tests.policy.facts_by_hand import BUDGETS, LADDER, ask

PLACES = Places(LADDER, BUDGETS)
TRACE = draw_trace(np.random.default_rng(3), poisson(30.0), 4.0, Demand(follow=0.3))


def test_an_observation_is_the_same_to_the_bit():
    """What a live process encodes and what a simulation does."""
    plain = encode.encode(ask(), Fleet(LADDER).view(1.0), BUDGETS)
    x, mask = np.zeros(len(plain.features)), np.zeros(len(plain.mask), dtype=np.bool_)

    compiled(encode.fill)(x, mask, arrays(plain.seen))

    assert x.tolist() == list(plain.features)
    assert mask.tolist() == plain.mask


def test_what_was_compiled_is_of_the_constants_as_they_stand_now():
    """Numbers that are compiled in come from files without a numeric function, too: the smoothing of rates, the rows of knowledge."""
    assert {Path(fleet.__file__), Path(facts.__file__), Path(simulate.__file__)} <= set(sources())


@pytest.mark.parametrize("name", [*heuristics.RULES, "static:medium@384"])
def test_a_rule_scores_the_same_to_the_bit(name):
    """Every reference policy."""
    plain = encode.encode(ask(), Fleet(LADDER).view(1.0), BUDGETS)
    rule = mind_of(name, PLACES)
    cells = np.zeros(len(plain.mask))
    live = heuristics.by_name(name, actions_of(LADDER, BUDGETS))

    compiled(live.score)(np.array(plain.features), np.array(plain.mask), plain.weight, rule.parameters, cells)
    compiled(heuristics.share)(cells)

    assert cells.tolist() == live(plain)


@pytest.mark.parametrize("name", ["bid-price", "actor"])
@pytest.mark.timeout(600)
def test_a_simulation_tells_the_same_story(name):
    """Who answered what, when, and what it was worth."""
    mind = Mind.of("actor", (0.02, 1.0, 5.0, 1.0, 0.5, 1.0)) if name == "actor" else mind_of(name, PLACES)
    scene = scene_of(PLACES, TRACE, mind, np.random.default_rng(0))
    stories = []
    for speed in ("plain", "compiled"):
        world, results, scratch = world_of(scene, PLACES, 256), results_of(len(TRACE.at)), scratch_of(PLACES)
        if speed == "plain":
            play(world, scene, results, scratch, len(TRACE.at))
            finish(world, scene, results, math.inf)
        else:
            bound = [bind(part) for part in (world, scene, results, scratch)]
            compiled(play)(*bound, len(TRACE.at))
            compiled(finish)(*bound[:3], math.inf)
        stories.append(results)
    for plain, fast in zip(*stories, strict=True):
        np.testing.assert_allclose(plain, fast, rtol=1e-9)
