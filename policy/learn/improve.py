"""A better policy from a log: searched for from what decides now on, in scenes of the calibrated fleet and the log's own arrivals.

    the critic is fitted to decisions of the log, seen again with what is believed now, and to simulated ones        `outcomes`, `critic`
    the actor is looked for in stretches of the log over the calibrated fleet, and in other scenes of that fleet      `search`

What decides now is where the search begins: a checkpoint's network, or the bid-price prior where a heuristic decides. Half of the scenes
are not of the log, and their fleet is not quite as it was calibrated, so that what comes out does not hold for one day and one fit alone.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Backend, Budget, Floats
from bestserve.policy.network import Network, untaught
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, results_of, scene_of, scratch_of, world_of
from bestserve.policy.simulate import Scene, Setting, finish, play

from . import critic, train
from .bound import bind
from .calibrate import Found
from .compiled import compiled
from .critic import CriticArgs, Epoch
from .logged import Logged, Names, some
from .outcomes import AFTER_S, Outcomes, first, gather, of_parts, stacked
from .replayed import trace_of
from .scenes import Doubt, scene
from .search import N_PRIOR, Place, SearchArgs, Space, Step, search, space_of

DOUBT = Doubt(wrong=0.5, factor=1.15, quality=0.02, trouble=0.1)
"""How far the calibrated fleet may still be from the true one, in scenes that are not of the log."""


@dataclass(frozen=True, slots=True)
class Args:
    """Everything that decides what comes out."""

    seed: int = 0
    scenes: int = 160  # that the critic learns from, beside the log's own decisions
    points: int = 80  # decisions of each
    requests: int = 2000  # of a scene
    prior: tuple[float, ...] = train.PRIOR  # where a search begins that has no checkpoint to begin at
    duels: int = 12  # seeds of the duel
    duel: int = 4000  # requests of each
    critic: CriticArgs = field(default_factory=CriticArgs)
    search: SearchArgs = field(default_factory=lambda: SearchArgs(iterations=16, scenes=12, pairs=8))


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


def played(scene: Scene, places: Places) -> Floats:
    """The reward of each request, (N,)."""
    n = len(scene.trace.at)
    results = results_of(n)
    world, there, into, scratch = map(bind, (world_of(scene, places), scene, results, scratch_of(places)))
    compiled(play)(world, there, into, scratch, n)
    compiled(finish)(world, there, into, (float(scene.trace.at[-1]) if n else 0.0) + AFTER_S)
    return np.asarray(results.reward)


def _scene(ground: Ground, args: Args, mind: Mind, dice: Generator) -> tuple[Scene, Places]:
    if dice.uniform() < 0.5:
        return of_log(ground, ground.places, mind, dice, args.requests), ground.places
    return scene(dice, ground.places, mind, args.requests, DOUBT)


def scene_outcomes(ground: Ground, args: Args, seed: int) -> Outcomes:
    """Decisions of one scene by the prior, its parameters drawn anew, and what came of them."""
    dice = np.random.default_rng(seed)
    here, places = _scene(ground, args, Mind.of("actor", train.drawn(dice, args.prior), untaught()), dice)
    return gather(dice, here, places, args.points)


def scene_rewards(ground: Ground, args: Args, minds: Sequence[Mind], seed: int) -> Floats:
    """The reward of one scene under each policy, per request of weight 1, (len(minds),)."""
    here, places = _scene(ground, args, minds[0], np.random.default_rng(seed))
    weight = max(float(here.trace.weight.sum()), 1e-9)
    return np.array([float(played(here._replace(mind=mind), places).sum()) / weight for mind in minds])


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
    for i, piece in enumerate(pool.map(partial(scene_outcomes, ground, args), _seeds(args, 0, args.scenes))):
        pieces.append(piece)
        told("scenes for the critic", i + 1, args.scenes)
    seen = stacked(pieces)
    seen = _shuffled(seen, np.random.default_rng(args.seed))
    network = begin or critic.fit(seen, args.critic, _nobody)
    space, theta = _space(network, seen, args, parameters)
    dice = np.random.default_rng([args.seed, 1])

    def rewards(minds: Sequence[Mind], iteration: int) -> Floats:
        return np.array(list(pool.map(partial(scene_rewards, ground, args, minds), _seeds(args, iteration + 1, args.search.scenes))))

    def step(done: Step) -> None:
        told("searching", done.place.iteration, args.search.iterations)

    place = search(space, rewards, args.search, dice, step, theta)
    minds = [space.mind_at(theta.theta), space.mind_at(place.mean)]
    last = np.array(list(pool.map(partial(scene_rewards, ground, args, minds), _seeds(args, 10_000, 2 * args.search.scenes))))
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
