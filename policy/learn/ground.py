"""Where policies are tried: the calibrated fleet, with stretches of the log's own requests or with others.

Processes that try policies import this, and nothing that learns from what they find: torch takes them seconds and memory.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Backend, Budget, Floats
from bestserve.policy.network import untaught
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, scene_of
from bestserve.policy.simulate import Scene, Setting

from .calibrate import Found
from .logged import Logged, Names, some
from .outcomes import Outcomes, gather
from .replayed import trace_of
from .run import played
from .scenes import Doubt, scene
from .search import drawn

DOUBT = Doubt(wrong=0.5, factor=1.15, quality=0.02, trouble=0.1)
"""How far the calibrated fleet may still be from the true one, in scenes that are not of the log."""


class Ground(NamedTuple):
    """Where policies are tried: the calibrated fleet, and the log's requests."""

    places: Places  # believed and true as the log says
    requests: Logged  # as `replayed.begun` gives them
    task: Floats  # (N, T) sharpened
    factors: dict[int, float]  # by the log's numbers of backends
    spread: float
    explore: float = 0.0


def ground_of(
    found: Sequence[Found],
    believed: tuple[Backend, ...],
    names: Names,
    budgets: tuple[Budget, ...],
    requests: Logged,
    task: Floats,
    explore: float = 0.0,
) -> Ground:
    """From what was calibrated; `believed` is the fleet by it."""
    factor = [float(np.exp(_mean_longer(each))) for each in found]
    places = Places(believed, budgets, true=tuple(b.profile for b in believed), length_factor=tuple(factor))
    pairs = list(zip(names.backends, names.profiles, strict=True))
    numbers = {pairs.index(pair): f for each, f in zip(found, factor, strict=True) if (pair := _pair(each.backend)) in pairs}
    sigmas = [(more.sigma, more.answers) for each in found for more in each.longer.values()]
    usual = float(np.average(requests.sigma)) if len(requests.sigma) else 1.0
    spread = sum(s * n for s, n in sigmas) / max(sum(n for _, n in sigmas), 1) / usual if sigmas else 1.0
    return Ground(places, requests, task, numbers, float(np.clip(spread, 0.3, 3.0)), explore)


def _pair(backend: Backend) -> tuple[str, str]:
    return backend.name, backend.profile.name


def _mean_longer(found: Found) -> float:
    n = sum(more.answers for more in found.longer.values())
    return sum(more.value * more.answers for more in found.longer.values()) / n if n else 0.0


def believing(ground: Ground, backends: Sequence[Backend]) -> Places:
    """The same fleet, by somebody who believes otherwise of it."""
    return replace(ground.places, backends=tuple(backends))


def of_log(ground: Ground, places: Places, mind: Mind, dice: Generator, n: int) -> Scene:
    """A stretch of the log, to be played by `mind` over `places`."""
    start = n * int(dice.integers(0, max(len(ground.requests.wall) // n, 1)))
    part = some(ground.requests, slice(start, start + n))
    trace = trace_of(part, ground.task[start : start + n], ground.factors, dice, sigma=ground.spread)
    return scene_of(places, trace, mind, dice, Setting(explore=ground.explore))


def _scene(ground: Ground, mind: Mind, n: int, dice: Generator) -> tuple[Scene, Places]:
    """Of the log, or another."""
    if dice.uniform() < 0.5:
        return of_log(ground, ground.places, mind, dice, n), ground.places
    return scene(dice, ground.places, mind, n, DOUBT)


def scene_outcomes(ground: Ground, prior: tuple[float, ...], n: int, points: int, seed: int) -> Outcomes:
    """Some decisions of one scene of n requests by the prior, its parameters drawn anew, and what came of them."""
    dice = np.random.default_rng(seed)
    here, places = _scene(ground, Mind.of("actor", drawn(dice, prior), untaught()), n, dice)
    return gather(dice, here, places, points)


def scene_rewards(ground: Ground, n: int, minds: Sequence[Mind], seed: int) -> Floats:
    """The reward of one scene of n requests under each policy, per request of weight 1, (len(minds),)."""
    here, places = _scene(ground, minds[0], n, np.random.default_rng(seed))
    weight = max(float(here.trace.weight.sum()), 1e-9)
    return np.array([float(np.sum(played(here._replace(mind=mind), places).reward)) / weight for mind in minds])
