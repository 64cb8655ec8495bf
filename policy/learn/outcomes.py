"""Decisions of a simulated scene, and what came of each: what the critic learns from."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Floats, Ints, Mask
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.policies import allowed_of
from bestserve.policy.scene import Places, results_of, scratch_of, world_of
from bestserve.policy.simulate import Scene, consider, finish, play

from .bound import bind
from .compiled import compiled, copy_into
from .run import AFTER_S

MOST = 41
"""Actions that a decision has room for, Shed among them; larger fleets are not trained on."""


class Outcomes(NamedTuple):
    """P decisions. Columns behind a decision's own actions are blank."""

    rows: Floats  # (P, MOST, N_ROW)
    context: Floats  # (P, N_CONTEXT)
    allowed: Floats  # (P, MOST) of 0 and 1
    action: Ints  # (P,) that was taken at the last attempt
    sent: Mask  # (P,): somebody was asked
    own: Floats  # (P,): what the request itself earned, in answers of quality 1


def gather(dice: Generator, scene: Scene, places: Places, n_points: int) -> Outcomes:
    """Play a scene by its own policy and write down `n_points` of its decisions, drawn at random. None of a fleet that is too large."""
    n, n_actions = len(scene.trace.at), len(scratch_of(places).p)
    if n == 0 or n_actions > MOST:
        return blank(0)
    world, spare, results, scratch = world_of(scene, places), world_of(scene, places), results_of(n), scratch_of(places)
    main = [bind(part) for part in (world, scene, results, scratch)]
    other = [bind(part) for part in (spare, scene, results, scratch)]
    chosen: Ints = np.sort(dice.choice(n, size=min(n_points, n), replace=False))
    found, rows, context = blank(len(chosen)), np.zeros((n_actions, N_ROW)), np.zeros(N_CONTEXT)
    for k, i in enumerate(chosen.tolist()):
        compiled(play)(*main, i)
        copy_into(spare, world)
        compiled(consider)(*other, rows, context)
        found.rows[k, :n_actions], found.context[k], found.allowed[k, :n_actions] = rows, context, allowed_of(scratch.mask)
    compiled(play)(*main, n)
    compiled(finish)(*main[:3], float(scene.trace.at[-1]) + AFTER_S)
    found.action[:], found.own[:] = np.asarray(results.action)[chosen], np.asarray(results.reward)[chosen] / scene.trace.weight[chosen]
    found.sent[:] = found.action != n_actions - 1
    return found


def blank(n: int) -> Outcomes:
    """Room for so many."""
    return Outcomes(
        rows=np.zeros((n, MOST, N_ROW), dtype=np.float32),  # half the memory, and what torch reads
        context=np.zeros((n, N_CONTEXT), dtype=np.float32),
        allowed=np.zeros((n, MOST), dtype=np.float32),
        action=np.zeros(n, dtype=np.int64),
        sent=np.zeros(n, dtype=np.bool_),
        own=np.zeros(n),
    )


def first(of: Outcomes, n: int) -> Outcomes:
    """The first n decisions."""
    return Outcomes(of.rows[:n], of.context[:n], of.allowed[:n], of.action[:n], of.sent[:n], of.own[:n])


def of_parts(parts: Iterable[Any]) -> Outcomes:
    """From its parts, in their order."""
    return Outcomes(*parts)


def stacked(pieces: Sequence[Outcomes]) -> Outcomes:
    """Many as one, without columns that none of them uses."""
    whole = Outcomes(*(np.concatenate(parts) for parts in zip(blank(0), *pieces, strict=True)))
    used = int(np.flatnonzero(whole.allowed.any(axis=0)).max(initial=0)) + 1
    return whole._replace(rows=whole.rows[:, :used], allowed=whole.allowed[:, :used])
