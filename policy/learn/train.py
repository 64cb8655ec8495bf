"""The actor-critic, trained in simulation. Top to bottom, in the order in which it happens.

    play fresh scenes by the prior, and write down decisions and what came of them      `outcomes`
    fit the critic to them: what a request is worth itself under each action            `critic`
    repeat for `search.iterations`:
        play fresh scenes by the present policy and by others on either side of it      `search`
        step towards those that earned more
    keep as much of what was found as fresh scenes ask for                              `settle`

The prior is the bid-price policy's score (`network.prior_into`), so that training begins where the best heuristic is. Everything that is
drawn follows from the seed; what is logged is explained in docs/training.md.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import SLO, Floats
from bestserve.policy.network import Network, untaught
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, scratch_of

from . import critic
from .critic import CriticArgs, Epoch
from .outcomes import MOST, Outcomes, first, gather, stacked
from .run import played
from .scenes import Doubt, scene
from .search import PRIOR, Place, SearchArgs, Space, Step, changes, drawn, search, space_of


@dataclass(frozen=True, slots=True)
class Args:
    """Everything that decides what comes out."""

    seed: int = 0
    scenes: int = 1000  # that the critic learns from
    points: int = 80  # decisions of each
    requests: int = 2000  # of a scene
    prior: tuple[float, ...] = PRIOR
    critic: CriticArgs = field(default_factory=CriticArgs)
    search: SearchArgs = field(default_factory=lambda: SearchArgs(decay=0.03))
    doubt: Doubt = field(default_factory=Doubt)


SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the layer that was found, what may be kept."""

SETTLING = 8
"""Iterations' worth of scenes that say how much."""

SETTLED = 1 << 30
"""Theirs is the number of no iteration."""

FleetOf = Callable[[Generator], tuple[Places, SLO | None]]
"""Draws a fleet to train on, and what its requests are held to; None: to anything."""


class Taught(NamedTuple):
    """A policy, as far as it has come."""

    space: Space
    place: Place | None  # of the search
    low: Floats  # (N_ROW + N_CONTEXT,): between these lay what the critic saw
    high: Floats


def outcomes(fleet_of: FleetOf, args: Args, pool: Executor, told: Callable[[], None]) -> Outcomes:
    """What came of the prior's decisions in `args.scenes` scenes. `told` hears of each scene."""
    pieces = list[Outcomes]()
    for piece in pool.map(partial(scene_outcomes, fleet_of, args), _seeds(args, 0, args.scenes)):
        pieces.append(piece)
        told()
    return stacked(pieces)


def scene_outcomes(fleet_of: FleetOf, args: Args, seed: int) -> Outcomes:
    """Of one scene. The prior's parameters are drawn anew for each, so that all sorts of decisions are seen."""
    dice = np.random.default_rng(seed)
    mind = Mind.of("actor", drawn(dice, args.prior), untaught())
    places, slo = fleet_of(dice)
    here, places = scene(dice, places, mind, args.requests, args.doubt, slo)
    return gather(dice, here, places, args.points)


def learn(seen: Outcomes, args: Args, told: Callable[[Epoch], None], start: Network | None = None) -> Taught:
    """The critic, and where the actor is to be looked for."""
    network = critic.fit(seen, args.critic, told, start)
    space = space_of(network, first(seen, 4000), args.search.width, args.prior)
    inputs = seen.rows[seen.allowed > 0]
    bounds = [np.concatenate((of(inputs, axis=0), of(seen.context, axis=0))).astype(np.float64) for of in (np.min, np.max)]
    return Taught(space, None, *bounds)


def improve(taught: Taught, fleet_of: FleetOf, args: Args, pool: Executor, told: Callable[[Step], None]) -> Taught:
    """Search, from where it has come to. `told` hears of each iteration."""
    begin = 0 if taught.place is None else taught.place.iteration
    dice = np.random.default_rng([args.seed, begin])

    def rewards(minds: Sequence[Mind], iteration: int) -> Floats:
        return np.array(list(_rewards(fleet_of, args, pool, minds, _seeds(args, iteration + 1, args.search.scenes))))

    return taught._replace(place=search(taught.space, rewards, args.search, dice, told, taught.place))


def settle(taught: Taught, fleet_of: FleetOf, args: Args, pool: Executor, told: Callable[[], None]) -> tuple[Taught, float]:
    """Keep the least share of the layer that is within one standard error of the best one, over fresh scenes (the one-SE rule, Breiman et
    al. 1984): what helps no more where it was trained helps less elsewhere. With that share. `told` hears of each of `settling(args)`."""
    assert taught.place is not None
    layer = np.arange(len(taught.place.mean)) < taught.space.basis.shape[1]
    kept = [taught.place.mean * np.where(layer, share, 1.0) for share in SHARES]
    minds, found = [taught.space.mind_at(mean) for mean in kept], list[Floats]()
    for rewards in _rewards(fleet_of, args, pool, minds, _seeds(args, SETTLED, settling(args))):
        found.append(rewards)
        told()
    i = least_of(changes(np.array(found)))
    return taught._replace(place=taught.place._replace(mean=kept[i])), SHARES[i]


def settling(args: Args) -> int:
    """Scenes that say how much of the layer is kept."""
    return SETTLING * args.search.scenes


def least_of(gains: Floats) -> int:
    """The first column of (S, K) that is within one standard error of the best, scene by scene; 0 without scenes."""
    if not len(gains):
        return 0
    behind = gains[:, [int(gains.mean(axis=0).argmax())]] - gains
    error = behind.std(axis=0) / np.sqrt(len(gains))
    return int(np.argmax(behind.mean(axis=0) <= error))


def _rewards(fleet_of: FleetOf, args: Args, pool: Executor, minds: Sequence[Mind], seeds: Iterable[int]) -> Iterator[Floats]:
    return pool.map(partial(scene_rewards, fleet_of, args, minds), seeds)


def scene_rewards(fleet_of: FleetOf, args: Args, minds: Sequence[Mind], seed: int) -> Floats:
    """The reward of one scene under each policy, per request of weight 1, (len(minds),); 0 for all where the fleet is too large."""
    dice = np.random.default_rng(seed)
    places, slo = fleet_of(dice)
    here, places = scene(dice, places, minds[0], args.requests, args.doubt, slo)
    n, weight = len(here.trace.at), float(here.trace.weight.sum())
    if n == 0 or len(scratch_of(places).p) > MOST:
        return np.zeros(len(minds))
    found = np.zeros(len(minds))
    for i, mind in enumerate(minds):
        found[i] = float(np.sum(played(here._replace(mind=mind), places).reward)) / weight
    return found


def _seeds(args: Args, iteration: int, n: int) -> Iterable[int]:
    """Of one iteration's scenes: no two iterations share one."""
    return [int(seed) for seed in np.random.SeedSequence([args.seed, iteration]).generate_state(n)]
