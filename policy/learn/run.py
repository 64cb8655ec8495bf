"""One policy on one workload, compiled, from the beginning to the last answer."""

from collections.abc import Callable

import numpy as np

from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, results_of, scene_of, scratch_of, world_of
from bestserve.policy.simulate import Results, Scene, Setting, Trace, finish, play

from .bound import bind
from .compiled import compiled

PIECE = 2000
"""Requests between two words of how far it is."""

AFTER_S = 120.0
"""Answers that are not there so long after the last arrival count as never given."""


def run(
    places: Places, trace: Trace, mind: Mind, *, seed: int = 0, setting: Setting | None = None, told: Callable[[int], None] | None = None
) -> Results:
    """What came of each request of a trace. `seed` is of the policy's own draws. `told(n)` hears of each PIECE of requests."""
    return played(scene_of(places, trace, mind, np.random.default_rng(seed), setting or Setting()), places, told)


def played(scene: Scene, places: Places, told: Callable[[int], None] | None = None) -> Results:
    """The same of a scene, by its own policy."""
    at = scene.trace.at
    results = results_of(len(at))
    world, there, into, scratch = map(bind, (world_of(scene, places), scene, results, scratch_of(places)))
    for until in [*range(PIECE, len(at), PIECE), len(at)]:
        compiled(play)(world, there, into, scratch, until)
        if told is not None:
            told(until)
    compiled(finish)(world, there, into, (float(at[-1]) if len(at) else 0.0) + AFTER_S)
    return results
