"""A better policy from a log: searched for from what decides now on, in scenes of the calibrated fleet and the log's own arrivals.

    the critic is fitted to decisions of the log, seen again with what is believed now, and to simulated ones        `outcomes`, `critic`
    the actor is looked for in stretches of the log over the calibrated fleet, and in other scenes of that fleet      `search`

What decides now is where the search begins: a checkpoint's network, or the bid-price prior where a heuristic decides. Half of the scenes
are not of the log, and their fleet is not quite as it was calibrated, so that what comes out does not hold for one day and one fit alone.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Floats
from bestserve.policy.network import Network
from bestserve.policy.policies import Mind

from . import critic
from .critic import CriticArgs, Epoch
from .ground import Ground, scene_outcomes, scene_rewards
from .outcomes import Outcomes, first, of_parts, stacked
from .search import N_PRIOR, PRIOR, Place, SearchArgs, Space, Step, search, space_of


@dataclass(frozen=True, slots=True)
class Args:
    """Everything that decides what comes out."""

    seed: int = 0
    scenes: int = 160  # that the critic learns from, beside the log's own decisions
    points: int = 80  # decisions of each
    requests: int = 2000  # of a scene
    prior: tuple[float, ...] = PRIOR  # where a search begins that has no checkpoint to begin at
    duels: int = 12  # seeds of the duel
    duel: int = 4000  # requests of each
    critic: CriticArgs = field(default_factory=CriticArgs)
    search: SearchArgs = field(default_factory=lambda: SearchArgs(iterations=16, scenes=12, pairs=8))


Telling = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""


class Improved(NamedTuple):
    """A challenger, and how it came about."""

    network: Network
    parameters: tuple[float, ...]
    low: Floats
    high: Floats
    gain: float  # share of reward over where the search began, in scenes that it had not seen
    kept: bool  # False: the search found nothing better than where it began, and that is it


def improve(
    ground: Ground,
    logged: Outcomes,
    begin: Network | None,
    parameters: tuple[float, ...],
    args: Args,
    pool: Executor,
    told: Telling,
) -> Improved:
    """Look for a better policy. `logged` are decisions of the log; `begin` is the network of what decides now, if it has one."""
    pieces = [logged]
    drawn = partial(scene_outcomes, ground, args.prior, args.requests, args.points)
    for i, piece in enumerate(pool.map(drawn, _seeds(args, 0, args.scenes))):
        pieces.append(piece)
        told("scenes for the critic", i + 1, args.scenes)
    seen = stacked(pieces)
    seen = _shuffled(seen, np.random.default_rng(args.seed))
    network = begin or critic.fit(seen, args.critic, _nobody)
    space, theta = _space(network, seen, args, parameters)
    dice = np.random.default_rng([args.seed, 1])

    def rewards(minds: Sequence[Mind], iteration: int) -> Floats:
        return np.array(
            list(pool.map(partial(scene_rewards, ground, args.requests, minds), _seeds(args, iteration + 1, args.search.scenes)))
        )

    def step(done: Step) -> None:
        told("searching", done.place.iteration, args.search.iterations)

    place = search(space, rewards, args.search, dice, step, theta)
    minds = [space.mind_at(theta.theta), space.mind_at(place.mean)]
    last = np.array(list(pool.map(partial(scene_rewards, ground, args.requests, minds), _seeds(args, 10_000, 2 * args.search.scenes))))
    gain = float((last[:, 1] - last[:, 0]).mean() / max(last[:, 0].mean(), 1e-9))
    best = place.mean if gain > 0 else theta.theta
    inputs = seen.rows[seen.allowed > 0]
    bounds = [np.concatenate((of(inputs, axis=0), of(seen.context, axis=0))).astype(np.float64) for of in (np.min, np.max)]
    return Improved(space.network_at(best), space.parameters_at(best), bounds[0], bounds[1], max(gain, 0.0), gain > 0)


def _space(network: Network, seen: Outcomes, args: Args, parameters: tuple[float, ...]) -> tuple[Space, Place]:
    """Where is searched, and where from: what the network's actor already says is one of the directions."""
    space = space_of(network, first(seen, 4000), args.search.width, parameters)
    actor = network.w3[:, 0]
    along = np.linalg.lstsq(space.basis, actor, rcond=None)[0] if actor.any() else np.zeros(space.basis.shape[1])
    beside = actor - space.basis @ along
    if np.abs(beside).max() > 1e-12:
        space = space._replace(basis=np.column_stack((space.basis, beside)))
        along = np.append(along, 1.0)
    theta = np.concatenate((along, np.zeros(N_PRIOR)))
    return space, Place(0, theta, np.zeros(len(theta)), theta)


def _shuffled(seen: Outcomes, dice: Generator) -> Outcomes:
    order = dice.permutation(len(seen.own))
    return of_parts(part[order] for part in seen)


def _nobody(_: Epoch) -> None:
    """Hears nothing."""


def _seeds(args: Args, iteration: int, n: int) -> Iterable[int]:
    return [int(seed) for seed in np.random.SeedSequence([args.seed, iteration]).generate_state(n)]
