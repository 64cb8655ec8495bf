"""The actor-critic, trained in simulation. Top to bottom, in the order in which it happens.

    start from the bid-price policy: its score is the prior, the network adds nothing yet
    repeat for `rounds`:
        play fresh scenes by the present policy, and branch at random decisions (`vine`)
        advantage of an action = its return less the mean over what the policy would do
        harm of an action      = what all others earn less than if this request had been shed
        fit the network to the points of the last `memory` rounds:
            the actor to   its present logits + step * advantage / spread of the returns over the actions
            the critic to  the harm
    return the weights

The step is a natural-gradient-like one in the space of logits: careful, because plain regression on advantages and acting greedily
loses beyond capacity what it wins below. What is logged is explained in docs/training.md.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator

from bestserve.policy.facts import Floats, Ints
from bestserve.policy.network import Network, untaught
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places

from .actor_critic import ActorCritic
from .scenes import Doubt, scene
from .vine import Points, gather, stacked


@dataclass(frozen=True, slots=True)
class Args:
    """Everything that decides what comes out."""

    rounds: int = 6
    scenes: int = 120  # a round
    points: int = 30  # branched decisions a scene
    seconds: float = 60.0  # of virtual time a scene
    branches: int = 6  # actions tried at a decision, Shed beside them
    horizon_s: float = 12.0  # two to four times the slowest model's service time
    step: float = 1.0  # of the logits, in normalised advantages
    memory: int = 3  # rounds that are fitted together
    epochs: int = 12
    batch: int = 256
    lr: float = 2e-3
    harm_weight: float = 0.3  # of the critic's loss
    shed_score: float = 0.02  # of the prior
    price_factor: float = 1.0  # of the prior
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """What is told of a round."""

    number: int
    points: int
    advantage: float  # mean of the best tried action's, in answers of quality 1
    actor_loss: float
    critic_loss: float
    weights: Network


PlacesOf = Callable[[Generator], Places]
"""Draws a fleet to train on."""


def fit(
    places_of: PlacesOf,
    args: Args,
    pool: Executor,
    told: Callable[[Round], None],
    *,
    begin: Network | None = None,
    doubt: Doubt = Doubt(),  # noqa: B008
    piece_told: Callable[[], None] | None = None,
) -> Network:
    """Train. `told` hears of each round, `piece_told` of each scene."""
    torch.manual_seed(args.seed)
    weights, past = begin or untaught(), list[tuple[Points, Floats]]()
    model = ActorCritic(begin, seed=args.seed)
    for number in range(args.rounds):
        seeds = [args.seed * 1_000_003 + number * 10_007 + i for i in range(args.scenes)]
        pieces = list[Points]()
        for piece in pool.map(partial(scene_points, places_of, args, weights, doubt), seeds):
            pieces.append(piece)
            if piece_told is not None:
                piece_told()
        points = stacked(pieces)
        past = [*past, (points, targets(points, weights, args))][-args.memory :]
        actor_loss, critic_loss = improve(model, past, args, np.random.default_rng(args.seed + number))
        weights = model.weights()
        told(Round(number, len(points.rows), _gain(points), actor_loss, critic_loss, weights))
    return weights


def scene_points(places_of: PlacesOf, args: Args, weights: Network, doubt: Doubt, seed: int) -> Points:
    """The branched decisions of one scene."""
    dice = np.random.default_rng(seed)
    mind = Mind.of("actor", (args.shed_score, args.price_factor), weights)
    here, places = scene(dice, places_of(dice), mind, args.seconds, doubt)
    return gather(dice, here, places, args.points, args.branches, args.horizon_s)


def advantages(points: Points) -> tuple[Floats, Floats]:
    """(P, MOST) each: returns of the tried actions less their mean, and divided by their spread; 0 where none was tried."""
    n = np.maximum(points.tried.sum(axis=1, keepdims=True), 1)
    mean = (points.worth * points.tried).sum(axis=1, keepdims=True) / n
    advantage = np.where(points.tried, points.worth - mean, 0.0)
    spread = np.sqrt((advantage**2).sum(axis=1, keepdims=True) / n)
    return advantage, advantage / np.maximum(spread, 1e-3)


def harms(points: Points) -> Floats:
    """(P, MOST): what all others lose by each tried action, beside shedding the request."""
    others = points.worth - points.own
    shed = np.take_along_axis(others, points.allowed.cumsum(axis=1).argmax(axis=1)[:, None], axis=1)  # Shed is the last that is allowed
    return np.where(points.tried, shed - others, 0.0)


def targets(points: Points, weights: Network, args: Args) -> Floats:
    """(P, MOST, 2): logits of a careful step from the present policy, centred over the tried actions; and the harm."""
    present = _now(points, weights)
    wanted = present + args.step * advantages(points)[1]
    return np.stack((np.where(points.tried, wanted, 0.0), harms(points)), axis=2)


def _now(points: Points, weights: Network) -> Floats:
    with torch.no_grad():
        out = ActorCritic(weights)(*_tensors(points, slice(None))[:3])
    now: Floats = out[:, :, 0].numpy().astype(np.float64)
    return now


def _tensors(points: Points, chosen: Ints | slice) -> tuple[torch.Tensor, ...]:
    parts: tuple[Any, ...] = points.rows, points.context, points.allowed, points.tried
    return tuple(torch.tensor(part[chosen], dtype=torch.float32) for part in parts)


def improve(model: ActorCritic, past: Sequence[tuple[Points, Floats]], args: Args, dice: Generator) -> tuple[float, float]:
    """Fit the network to the last rounds' targets. Returns the last epoch's losses of actor and critic."""
    points = stacked([p for p, _ in past])
    wanted = torch.tensor(np.concatenate([t for _, t in past]), dtype=torch.float32)
    optimiser = torch.optim.Adam(model.parameters(), lr=args.lr)
    losses = np.zeros(2)
    for _ in range(args.epochs):
        order, losses = dice.permutation(len(wanted)), np.zeros(2)
        for at in range(0, len(order), args.batch):
            chosen = order[at : at + args.batch]
            rows, context, allowed, tried = _tensors(points, chosen)
            out = model(rows, context, allowed)
            actor, critic = loss(out, wanted[chosen], tried)
            optimiser.zero_grad()
            (actor + args.harm_weight * critic).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            losses += np.array([actor.item(), critic.item()]) * len(chosen) / len(order)
    return float(losses[0]), float(losses[1])


def loss(out: torch.Tensor, wanted: torch.Tensor, tried: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared errors over the tried actions; of the actor up to a constant for each decision, because only differences of logits count."""
    n = tried.sum(1, keepdim=True).clamp(min=1.0)
    off = (out[:, :, 0] - wanted[:, :, 0]) * tried
    off = (off - off.sum(1, keepdim=True) / n) * tried
    harm = torch.nn.functional.smooth_l1_loss(out[:, :, 1] * tried, wanted[:, :, 1] * tried, reduction="sum")
    return (off**2).sum() / tried.sum(), harm / tried.sum()


def _gain(points: Points) -> float:
    best = np.where(points.tried, advantages(points)[0], -np.inf).max(axis=1, initial=-np.inf)
    return float(best.mean()) if len(best) else 0.0
