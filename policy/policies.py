"""Every policy behind one number: what a compiled loop can ask, where a live process holds a function."""

from typing import NamedTuple

import numpy as np

from .books import Look
from .encode import N_FEATURES, Seen
from .facts import Floats
from .heuristics import bid_price, deadline_greedy, least_loaded, random, share, static, weighted_score
from .inputs import context_of, rows_of
from .network import Network, forward, prior_into, softmax, stake_of, untaught
from .numeric import Cells, Column, FlagCells, Flags, numeric

KINDS = ("static", "random", "least-loaded", "deadline-greedy", "weighted-score", "bid-price", "actor")
STATIC, RANDOM, LEAST_LOADED, DEADLINE_GREEDY, WEIGHTED_SCORE, BID_PRICE, ACTOR = range(len(KINDS))


class Mind(NamedTuple):
    """Who decides."""

    kind: int  # of KINDS
    parameters: Column  # of the rule; of the actor: checkpoint.PARAMETERS
    network: Network  # of the actor

    @classmethod
    def of(cls, kind: str, parameters: Column = (), network: Network | None = None) -> "Mind":
        """By the kind's name."""
        return cls(KINDS.index(kind), np.array([*parameters, 0.0, 0.0, 0.0], dtype=np.float64), network or untaught())


class Scratch(NamedTuple):
    """Cells that one decision is made in."""

    x: Cells  # ((A - 1) * N_FEATURES,)
    mask: FlagCells  # (A,)
    p: Cells  # (A,)
    able: FlagCells  # (B,)
    cached: Cells  # (B,)
    look: Look  # (B,) each

    @classmethod
    def of(cls, n_backends: int, n_budgets: int) -> "Scratch":
        """Blank."""
        n = n_backends * n_budgets
        return cls(
            [0.0] * (n * N_FEATURES), [False] * (n + 1), [0.0] * (n + 1), [False] * n_backends, [0.0] * n_backends, Look.of(n_backends)
        )


@numeric
def think(mind: Mind, scratch: Scratch, seen: Seen, p: Cells) -> None:
    """Write the probability of each action into p (A,)."""
    x, mask, weight, parameters = scratch.x, scratch.mask, seen.asked.weight, mind.parameters
    if mind.kind == ACTOR:
        act(mind.network, parameters, x, mask, seen, p)
        return
    if mind.kind == STATIC:
        static(x, mask, weight, parameters, p)
    elif mind.kind == RANDOM:
        random(x, mask, weight, parameters, p)
    elif mind.kind == LEAST_LOADED:
        least_loaded(x, mask, weight, parameters, p)
    elif mind.kind == DEADLINE_GREEDY:
        deadline_greedy(x, mask, weight, parameters, p)
    elif mind.kind == WEIGHTED_SCORE:
        weighted_score(x, mask, weight, parameters, p)
    else:
        bid_price(x, mask, weight, parameters, p)
    share(p)


@numeric
def act(network: Network, parameters: Column, x: Column, mask: Flags, seen: Seen, p: Cells) -> None:
    """The actor: its prior and what it has learnt, as probabilities."""
    rows = rows_of(seen, x, mask)
    context = context_of(seen, rows, x, mask)
    out = forward(network, rows, context, allowed_of(mask))
    prior_into(p, x, mask, seen.asked.weight, parameters)
    stake = stake_of(x, mask)
    for a in range(len(p)):
        p[a] = (p[a] + stake * float(out[a, 0])) * parameters[5]
    softmax(p)


@numeric
def allowed_of(mask: Flags) -> Floats:
    """A mask as numbers."""
    allowed = np.zeros(len(mask))
    for a in range(len(mask)):
        allowed[a] = 1.0 if mask[a] else 0.0
    return allowed
