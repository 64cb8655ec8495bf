"""Credit by branching: at some decisions of a rollout every likely action is tried, and the same future is played after each.

The difference of two branches is what the choice made of it: arrivals, lengths and draws are the same in both, so what is left is the
choice (TRPO's vine, Schulman et al. 2015, section 5.2, with common random numbers). What a branch earned apart from the request itself
tells the harm to all others, which is what the critic learns.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Floats, Mask
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.policies import Scratch, allowed_of
from bestserve.policy.scene import Places, results_of, scratch_of, world_of
from bestserve.policy.simulate import Results, Scene, World, consider, imagine, play

from .bound import bind
from .compiled import compiled, copy_into

MOST = 40
"""Actions that a point has room for; likelier ones first."""


class Points(NamedTuple):
    """Decisions and what each tried action came to. `tried` marks the columns that hold an action."""

    rows: Floats  # (P, MOST, N_ROW)
    context: Floats  # (P, N_CONTEXT)
    allowed: Floats  # (P, MOST) of 0 and 1: what the mask allows
    prior: Floats  # (P, MOST) logits; 0 where not allowed
    tried: Mask  # (P, MOST)
    worth: Floats  # (P, MOST): return / weight of the request
    own: Floats  # (P, MOST): of these, what the request itself earned


def gather(dice: Generator, scene: Scene, places: Places, n_points: int, branches: int, horizon_s: float) -> Points:
    """Play a scene by its own policy, and branch at `n_points` random arrivals, at up to `branches` actions each."""
    n = len(scene.trace.at)
    world, spare = world_of(scene, places), world_of(scene, places)
    results, scratch = results_of(n), scratch_of(places)
    bound = _Bound(world, spare, scene, results, scratch)
    last = np.searchsorted(scene.trace.at, scene.trace.at[-1] - horizon_s) if n else 0
    chosen: list[int] = np.sort(dice.choice(int(last), size=min(n_points, int(last)), replace=False)).tolist() if last > 0 else []
    points = [_point(bound, scene, i, branches, horizon_s) for i in chosen]
    return stacked([point for point in points if point is not None])


class _Bound:
    """What compiled functions are given, with the arrays behind it."""

    def __init__(self, world: World, spare: World, scene: Scene, results: Results, scratch: Scratch) -> None:
        self.world, self.spare, self.results, self.scratch = world, spare, results, scratch
        self.n_actions = len(scratch.p)
        self.main = [bind(part) for part in (world, scene, results, scratch)]
        self.other = [bind(part) for part in (spare, scene, results, scratch)]


def _point(bound: _Bound, scene: Scene, i: int, branches: int, horizon_s: float) -> Points | None:
    compiled(play)(*bound.main, i)
    copy_into(bound.spare, bound.world)
    rows, context, prior = np.zeros((bound.n_actions, N_ROW)), np.zeros(N_CONTEXT), np.zeros(bound.n_actions)
    compiled(consider)(*bound.other, rows, context, prior)
    mask, p = bound.scratch.mask.copy(), bound.scratch.p.copy()  # type: ignore[attr-defined]
    if mask.sum() < 3 or len(mask) > MOST:  # nothing to choose
        return None
    order = np.argsort(-np.where(mask, p, -1.0))
    tried = [a for a in order[:branches] if mask[a]]
    tried = sorted({*tried, len(mask) - 1})
    worth, own = np.zeros(MOST), np.zeros(MOST)
    weight = float(scene.trace.weight[i])
    for a in tried:
        copy_into(bound.spare, bound.world)
        bound.results.reward[i] = 0.0
        worth[a] = compiled(imagine)(*bound.other, int(a), horizon_s) / weight
        own[a] = bound.results.reward[i] / weight
    marks = np.zeros(MOST, dtype=np.bool_)
    marks[tried] = True
    allowed = allowed_of(mask)
    over_actions = (allowed, np.where(allowed > 0, prior, 0.0), marks, worth, own)
    return Points(_padded(rows)[None], context[None], *(_padded(values)[None] for values in over_actions))


def _padded(values: Any) -> Any:
    """Room for MOST actions."""
    full = np.zeros((MOST, *values.shape[1:]), dtype=values.dtype)
    full[: len(values)] = values
    return full


def stacked(points: Sequence[Points]) -> Points:
    """Many as one."""
    blank = Points(
        np.zeros((0, MOST, N_ROW)),
        np.zeros((0, N_CONTEXT)),
        *(np.zeros((0, MOST), dtype=kind) for kind in (float, float, bool, float, float)),
    )
    return Points(*(np.concatenate(parts) for parts in zip(blank, *points, strict=True)))
