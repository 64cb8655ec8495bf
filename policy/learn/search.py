"""The actor, found by trying: evolution strategies with common random numbers (Salimans et al. 2017; Mania et al. 2018).

Facts
    What a decision does to all other requests is a few hundredths of an answer; what else happens in the same seconds changes by several
    answers, since one request more or less lets every later choice fall differently. So credit for single decisions is noise: of
    1,200 decisions branched over the next 12 s, the harm of an action was 0.2 ± 8.3 answers (docs/decisions/0020). The sum over
    thousands of requests, in the same scene under two policies, differs by what the policies are worth and by half a percent of noise.

Plan
    The actor is the last layer over what the critic has learnt to see, in the directions in which that differs most among the actions
    of one request; beside it, the numbers of the prior. Every iteration draws fresh scenes and some directions, plays each scene once
    under the policy moved to either side, and takes a step of fixed length along the differences, with momentum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Floats
from bestserve.policy.network import Network
from bestserve.policy.policies import Mind

from .outcomes import Outcomes

PRIOR = (0.05, 0.5, 5.0, 1.0, 0.8, 20.0)
"""checkpoint.PARAMETERS, where a search begins."""

PRIOR_SCALES = (3.0, 1.0, 1.5, 0.5, 1.5, 1.0)
"""How much the logarithms of the prior's parameters (checkpoint.PARAMETERS) are moved for a unit of any other direction."""

N_PRIOR = len(PRIOR_SCALES)

BOUND = 0.3
"""A scene's reward counts as changed by no more than this share, so that one hopeless scene does not outvote the rest."""


@dataclass(frozen=True, slots=True)
class SearchArgs:
    """How it is looked for."""

    iterations: int = 60
    scenes: int = 24  # an iteration
    pairs: int = 8  # of opposite directions an iteration
    reach: float = 0.12  # how far to either side
    step: float = 0.1
    momentum: float = 0.7
    width: int = 16  # directions of the last layer
    decay: float = 0.0  # share of the last layer that each step takes back: directions that nothing speaks for stay small


def drawn(dice: Generator, prior: tuple[float, ...]) -> tuple[float, ...]:
    """Parameters about those of a prior."""
    shed, factor, *rest, sharpness = prior
    made = shed * dice.choice([0.0, 1.0, 2.0]), factor * np.exp(dice.uniform(-0.8, 0.8)), *rest, sharpness * dice.choice([0.1, 0.3, 1.0])
    return tuple(float(each) for each in made)


class Space(NamedTuple):
    """What is searched: theta (K + P,) -> a policy, P = len(PARAMETERS)."""

    network: Network
    basis: Floats  # (H, K)
    parameters: tuple[float, ...]  # of the prior, where theta is 0

    def parameters_at(self, theta: Floats) -> tuple[float, ...]:
        """Of the prior."""
        return tuple((np.array(self.parameters) * np.exp(theta[-N_PRIOR:])).tolist())

    def network_at(self, theta: Floats) -> Network:
        """With the actor's column in its place."""
        w3, b3 = self.network.w3.copy(), self.network.b3.copy()
        w3[:, 0], b3[0] = self.basis @ theta[:-N_PRIOR], 0.0
        return self.network._replace(w3=w3, b3=b3)

    def mind_at(self, theta: Floats) -> Mind:
        """As a simulation asks it."""
        return Mind.of("actor", self.parameters_at(theta), self.network_at(theta))


class Place(NamedTuple):
    """How far the search has come."""

    iteration: int
    theta: Floats  # (K + P,)
    momentum: Floats
    mean: (
        Floats  # of the thetas so far, late ones weighing more: what a step overshoots, the next ones take back (Polyak and Juditsky 1992)
    )


@dataclass(frozen=True, slots=True)
class Step:
    """What is told of an iteration."""

    place: Place
    reward: float  # mean of the scenes under the policy in the middle
    noise: float  # deviation of the pairs' differences, in shares of the reward


def space_of(network: Network, seen: Outcomes, width: int, parameters: tuple[float, ...]) -> Space:
    """The directions in which the critic's features differ most among the allowed actions of one request; a unit of theta moves
    logits by about one."""
    features, allowed = hidden(network, seen), seen.allowed > 0
    mean = (features * seen.allowed[:, :, None]).sum(1) / seen.allowed.sum(1)[:, None]
    beside = (features - mean[:, None])[allowed]
    _, spread, directions = np.linalg.svd(beside / np.sqrt(len(beside)), full_matrices=False)
    return Space(network, (directions[:width] / np.maximum(spread[:width, None], 1e-2)).T, parameters)


def hidden(net: Network, seen: Outcomes) -> Floats:
    """What the last layer reads (P, A, H): `network.forward`, over many decisions."""
    first = np.maximum(seen.rows @ net.w1 + (seen.context @ net.wc + net.b1)[:, None], 0.0)
    pooled = (seen.allowed[:, :, None] * first).sum(1) / seen.allowed.sum(1)[:, None]
    features: Floats = np.maximum(first @ net.w2 + (pooled @ net.wp + net.b2)[:, None], 0.0)
    return features


Rewards = Callable[[Sequence[Mind], int], Floats]
"""Policies, the number of an iteration -> rewards (S, len(policies)) of fresh scenes, the same for all of them."""


def search(
    space: Space, rewards: Rewards, args: SearchArgs, dice: Generator, told: Callable[[Step], None], begin: Place | None = None
) -> Place:
    """Look for a better theta, from `begin` or from the prior on."""
    size = space.basis.shape[1] + N_PRIOR
    place = begin or Place(0, *np.zeros((3, size)))
    scales = np.concatenate((np.ones(size - N_PRIOR), PRIOR_SCALES))
    layer = np.arange(size) < size - N_PRIOR
    while place.iteration < args.iterations:
        directions = dice.standard_normal((args.pairs, size)) * scales
        tried = [place.theta, *(place.theta + side * args.reach * d for d in directions for side in (1.0, -1.0))]
        found = rewards([space.mind_at(theta) for theta in tried], place.iteration)
        difference = np.subtract(*_gains(found).T)
        noise = float(difference.std())
        slope = (difference[:, None] * directions).mean(axis=0) / max(noise, 1e-9)
        momentum = args.momentum * place.momentum + (1.0 - args.momentum) * slope
        back = args.decay * np.where(layer, place.theta, 0.0)
        place = _moved(place, args.step * momentum - back, momentum)
        told(Step(place, float(found[:, 0].mean()), noise))
    return place


def _moved(place: Place, step: Floats, momentum: Floats) -> Place:
    n, theta = place.iteration + 1, place.theta + step
    return Place(n, theta, momentum, place.mean + (theta - place.mean) * 2.0 / (n + 1))


def _gains(found: Floats) -> Floats:
    """(pairs, 2): the mean change to either side, in shares of the middle's reward."""
    change = changes(found)[:, 1:]
    gains: Floats = (change.sum(axis=0) / max(len(change), 1)).reshape(-1, 2)
    return gains


def changes(found: Floats) -> Floats:
    """Rewards (S, K) in shares of the first column's, less 1 and bounded, (S', K): of the scenes in which that earned anything."""
    first = found[:, :1]
    counts = first[:, 0] > 0.02
    bounded: Floats = np.clip((found[counts] - first[counts]) / first[counts], -BOUND, BOUND)
    return bounded
