"""The actor-critic as arithmetic: rows and context in, a logit and a worth for every action out.

One scorer is shared by all actions, so nothing depends on how many backends or budgets there are, or in which order they stand:

    h_a = relu(W1 row_a + Wc context + b1)              each action by itself
    g_a = relu(W2 h_a + Wp mean over allowed h + b2)    beside the others (Deep Sets, Zaheer et al. 2017)
    logit_a = prior_a + stake w_actor g_a               the prior is the bid-price policy's score
    worth_a = predicted_a + w_critic g_a                what the request itself earns, in answers of quality 1

The stake is the best quality that is to be had: what is learnt where answers are good does not outvote the prior where none is.

What it costs all others is in the prior: the dual price of the work (`price`); more where a backend is crowded, since a queue of any
length serves no more than a short one, only later (docs/decisions/0023); and the answers there that reading its prompt makes late
(docs/decisions/0028). With a network of zeros the policy is its prior.
"""

import math
from typing import NamedTuple

import numpy as np

from .encode import HARM, LOAD, N_FEATURES, P_ON_TIME, PAY, PRICE, QUALITY, WORK
from .facts import Floats
from .heuristics import soonest, spare
from .inputs import N_CONTEXT, N_ROW
from .numeric import Cells, Column, Flags, numeric

WIDTH = 48

TEMPERATURE = 0.05
"""So much quality is one nat of prior."""

NEVER = 1000.0
"""Nats against Shed while there is time to spare: more than any training adds."""


class Network(NamedTuple):
    """Weights. H = WIDTH."""

    w1: Floats  # (N_ROW, H)
    wc: Floats  # (N_CONTEXT, H)
    b1: Floats  # (H,)
    w2: Floats  # (H, H)
    wp: Floats  # (H, H)
    b2: Floats  # (H,)
    w3: Floats  # (H, 2): actor, critic
    b3: Floats  # (2,)


SHAPES = {
    "w1": (N_ROW, WIDTH),
    "wc": (N_CONTEXT, WIDTH),
    "b1": (WIDTH,),
    "w2": (WIDTH, WIDTH),
    "wp": (WIDTH, WIDTH),
    "b2": (WIDTH,),
    "w3": (WIDTH, 2),
    "b3": (2,),
}


def untaught() -> Network:
    """A network of zeros: the policy is its prior."""
    return Network(**{name: np.zeros(shape) for name, shape in SHAPES.items()})


@numeric
def forward(net: Network, rows: Floats, context: Floats, mask: Floats) -> Floats:
    """(A, 2): the actor's part of each logit, and what the critic adds to the predicted worth. `mask` is (A,) of 0 and 1."""
    hidden = np.maximum(np.dot(rows, net.w1) + (np.dot(context, net.wc) + net.b1), 0.0)
    pooled = np.dot(mask, hidden) / mask.sum()
    hidden = np.maximum(np.dot(hidden, net.w2) + (np.dot(pooled, net.wp) + net.b2), 0.0)
    out: Floats = np.dot(hidden, net.w3) + net.b3
    return out


@numeric
def prior_into(logits: Cells, x: Column, mask: Flags, weight: float, parameters: Column) -> None:
    """The bid-price policy's scores as logits (A,), under prices that rise with each backend's crowd; -inf where nobody goes.

    Parameters: the score of Shed; what prices are multiplied by; how much more for each further share of a backend's places that is taken;
    beyond which share; the price of a reward that is lost there in late answers. Nothing is shed while somebody has time to `spare`: what
    has no hope goes where it ends soonest.
    """
    last, best = len(mask) - 1, -math.inf
    for a in range(last):
        i = a * N_FEATURES
        factor = parameters[1] + parameters[2] * max(x[i + LOAD] - parameters[3], 0.0)
        cost = factor * x[i + PRICE] * x[i + WORK] + x[i + PAY] + parameters[4] * x[i + HARM]
        logits[a] = x[i + QUALITY] * x[i + P_ON_TIME] - cost / weight
        logits[a] = logits[a] if mask[a] else -math.inf
        best = max(best, logits[a])
    logits[last] = parameters[0]
    if spare(x, mask):
        if best < parameters[0]:
            soonest(x, mask, weight, logits)
        logits[last] = -NEVER * TEMPERATURE
    for a in range(last + 1):
        logits[a] = logits[a] / TEMPERATURE


@numeric
def stake_of(x: Column, mask: Flags) -> float:
    """The best quality of those who can be asked; 0 where nobody can."""
    best = 0.0
    for a in range(len(mask) - 1):
        if mask[a]:
            best = max(best, x[a * N_FEATURES + QUALITY])
    return best


@numeric
def softmax(logits: Cells) -> None:
    """Logits to probabilities, in place; -inf to 0."""
    top, total = -math.inf, 0.0
    for a in range(len(logits)):
        top = max(top, logits[a])
    for a in range(len(logits)):
        logits[a] = math.exp(max(logits[a] - top, -700.0)) if logits[a] > -math.inf else 0.0
        total += logits[a]
    for a in range(len(logits)):
        logits[a] = logits[a] / total
