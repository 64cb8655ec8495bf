"""(Ask, FleetView, budgets) -> Observation: what a request would meet at each backend under each budget.

Facts
    A backend that batches continuously reads new prompts before it goes on writing, so a new request waits for the step that is under
    way, for the prompts ahead of it, for a place where every one is taken, and for memory for all that it may say. Reading brings the
    first token. Once it runs, every step of the batch gives it one token; a step gets longer with the batch and with the context that it
    holds, and is put off by the prompts that arrive meanwhile.

Plan
    A row of FEATURES for each action that asks somebody, backend-major, in one flat list: every heuristic and every network reads this
    one Observation, live, in simulation and in retraining. What depends on the backend alone is worked out once a backend, what depends
    on length and budget once for backends of which the same length is expected.

    Where there was a compiler when the package was built, `_encode.c` does the same, to the bit (docs/decisions/0025).

What is not handled
    Where a prediction has been off lately it is corrected (`pace`), as a whole and not constant by constant.
"""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np

from .batching import CLIP, PROMISE
from .facts import (
    BRIEF,
    BRIEF_LENGTH,
    CUT,
    KNOWN,
    LONGER,
    SLO,
    WHOLE,
    Ask,
    Backend,
    Budget,
    Columns,
    Constants,
    FleetView,
    Floats,
    Length,
)
from .numeric import Cells, Column, FlagCells, Flags, numeric

ENCODER = 4
"""Version of this file's arithmetic. A change that moves any feature raises it."""

FEATURES = (
    "ttft_s",  # predicted time to first token
    "tpot_s",  # predicted time per output token after the first
    "tokens",  # expected answer tokens under the cap, per choice
    "latency_s",  # predicted time of the whole answer at its expected length
    "p_whole",  # probability that the answer ends by itself before the cap
    "p_on_time",  # probability that it meets its SLO
    "quality",  # expected quality if on time: of the model at this task, less what a cut or a brief answer costs
    "work_s",  # backend-seconds that it takes from others
    "load",  # requests there, as a share of the places
    "price",  # reward per backend-second
    "usd",  # money: its share of what the hardware costs an hour, and what is paid to others
    "pay",  # reward that the money paid to others is worth
    "harm",  # reward there that is expected to be lost because its prompt is read before answers are written
)
N_FEATURES = len(FEATURES)
F = {name: i for i, name in enumerate(FEATURES)}
TTFT, TPOT, TOKENS, LATENCY, P_WHOLE, P_ON_TIME, QUALITY, WORK, LOAD, PRICE, USD, PAY, HARM = range(N_FEATURES)

SURE_SHARE = 0.5
"""Of an estimated prompt's tokens, those that are surely there. The backend has the last word."""

TOLD_SHARE = 0.7
"""An answer that is asked to be short is expected to aim at this share of the cap that stands behind the words."""

TOLD_SIGMA = 0.75
"""The spread of an answer that is asked to be short, beside a free one's."""

_SPREAD = 0.25  # relative one-sigma error of a predicted latency
_STEEP = 1.702 / _SPREAD  # of the logistic curve that is nearest to the normal one
_SAME = 1e-9  # what is known of two backends by the same numbers may differ by the order of summing
_FAR = 1e6  # times a deadline; beyond it everything is equally hopeless


Filled = tuple["array[float]", list[bool]]
"""Features and mask, as `fill` writes them."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a policy sees: a flat row of FEATURES for each of the A - 1 actions that ask somebody, a mask over all A, Shed last."""

    features: Column  # ((A - 1) * N_FEATURES,)
    mask: Flags  # (A,)
    weight: float  # what this request on time is worth, relative to others
    seen: "Seen"  # what it is made of

    def __getitem__(self, feature: str) -> Column:
        """One feature over the actions that ask somebody, (A - 1,), backend-major."""
        return self.features[F[feature] :: N_FEATURES]

    def digest(self) -> str:
        """Names this observation: 16 hex digits of a hash over encoder, features as float32, and mask."""
        digest = blake2b(digest_size=8, person=b"encode%d" % ENCODER)
        digest.update(array("f", self.features).tobytes())
        digest.update(bytes(self.mask))
        return digest.hexdigest()


class Asked(NamedTuple):
    """An Ask in numbers."""

    prompt: float  # tokens
    n: float  # choices
    ceiling: float  # the client's, inf where there is none
    mu: float  # of the log of the answer's tokens
    sigma: float
    ttft_s: float  # deadlines; inf where one does not bind
    tpot_s: float
    e2e_s: float
    weight: float
    usd_weight: float  # reward per USD


class Caps(NamedTuple):
    """A list of budgets in numbers, (K,) each."""

    tokens: Column  # inf where there is no cap
    told: Flags  # whether the model is told to be short


class Seen(NamedTuple):
    """Everything that an Observation is made of."""

    asked: Asked
    caps: Caps
    fleet: Columns
    constants: Constants
    worth: Column  # (B * KNOWN,): what is known of each backend (`facts.knowledge_of`), weighed by the task's probabilities
    able: Flags  # (B,): admitted by the model name, and with every capability that the request's fields call for
    cached: Column  # (B,): tokens of the prompt that are expected in the backend's prefix cache


def encode(ask: Ask, view: FleetView, budgets: tuple[Budget, ...], cached: Column | None = None) -> Observation:
    """See the head of this file. `cached` are the tokens of the prompt expected in each backend's prefix cache, (B,); none when None."""
    return observe(seen_of(ask, view, budgets, cached))


def seen_of(ask: Ask, view: FleetView, budgets: tuple[Budget, ...], cached: Column | None = None) -> Seen:
    """The facts as numbers."""
    worth: Column | None = quick.worth_of(view.knowledge, ask.task) if quick is not None else None
    if worth is None:
        worth = worth_of(view.knowledge, np.array(ask.task)).tolist()
    able = admitted(ask.allowed, ask.needs, view.backends)
    return Seen(asked_of(ask), caps_of(budgets), view.columns, view.constants, worth, able, cached or [0.0] * len(view.backends))


def observe(seen: Seen, *, compiled: bool = True) -> Observation:
    """The facts as features. Compiled code and plain Python give the same, to the bit."""
    made = quick.fill(seen) if compiled and quick is not None else None
    features, mask = _plain(seen) if made is None else made
    return Observation(features, mask, seen.asked.weight, seen)


def _plain(seen: Seen) -> Filled:
    n = len(seen.able) * len(seen.caps.tokens)
    features, mask = [0.0] * (n * N_FEATURES), [True] * (n + 1)
    fill(features, mask, seen)
    return array("d", features), mask


def asked_of(ask: Ask) -> Asked:
    """An Ask in numbers."""
    length, slo = ask.length, ask.slo
    ceiling = math.inf if ask.max_tokens is None else float(ask.max_tokens)
    shape = float(ask.prompt_tokens), float(ask.n), ceiling, math.log(length.median), length.sigma
    return Asked(*shape, *limits(slo), ask.weight, ask.usd_weight)


def limits(slo: SLO) -> tuple[float, float, float]:
    """The deadlines for first token, each token and the whole answer in seconds; inf where one does not bind."""
    return (
        math.inf if slo.ttft_s is None else slo.ttft_s,
        math.inf if slo.tpot_s is None else slo.tpot_s,
        math.inf if slo.e2e_s is None else slo.e2e_s,
    )


@lru_cache(maxsize=64)
def caps_of(budgets: tuple[Budget, ...]) -> Caps:
    """Budgets in numbers."""
    return Caps(
        tuple(math.inf if b.tokens is None else float(b.tokens) for b in budgets), tuple(b.instruction is not None for b in budgets)
    )


@lru_cache(maxsize=1024)
def admitted(allowed: frozenset[str], needs: frozenset[str], backends: tuple[Backend, ...]) -> Flags:
    """Backends that a model name admits and that can do what a request's fields call for, up or not, (B,)."""
    return tuple(b.name in allowed and needs <= b.capabilities for b in backends)


def lengths(length: Length, caps: Sequence[float]) -> tuple[list[float], list[float]]:
    """Expected tokens of an answer under each cap, and the probability that it ends by itself, (K,) each."""
    pairs = [capped(math.log(length.median), length.sigma, cap) for cap in caps]
    return [tokens for tokens, _ in pairs], [p_whole for _, p_whole in pairs]


@numeric
def worth_of(knowledge: Floats, task: Floats) -> Floats:
    """What is known of each backend at a task of these probabilities: (B * KNOWN, T) and (T,) give (B * KNOWN,)."""
    worth: Floats = np.dot(knowledge, task)
    return worth


@numeric
def fill(x: Cells, mask: FlagCells, seen: Seen) -> None:
    """Write the features ((A - 1) * N_FEATURES,) and the mask (A,) of what is seen."""
    asked, caps, fleet, c, worth = seen.asked, seen.caps, seen.fleet, seen.constants, seen.worth
    n_budgets, told, usd_weight, ends = len(caps.tokens), caps.told, asked.usd_weight, asked.e2e_s < math.inf
    ladder = [0.0] * (n_budgets * N_RUNG)
    longer, shorter = math.inf, math.inf
    for b in range(len(seen.able)):
        at = b * KNOWN
        if abs(worth[at + LONGER] - longer) > _SAME or abs(worth[at + BRIEF_LENGTH] - shorter) > _SAME:
            longer, shorter = worth[at + LONGER], worth[at + BRIEF_LENGTH]
            climb(ladder, asked, caps, longer, shorter)
        ttft, tpot, step, places = speed(asked, fleet, c, b, seen.cached[b])
        new = to_read(asked.prompt, seen.cached[b], c.cached_cost[b])
        reading = new / c.prefill_rate[b] * fleet.pace_first[b]
        writing = (c.step_shared[b] + c.step_per_kv[b] * asked.prompt) * asked.n * fleet.pace_each[b]
        each = in_time(tpot, asked.tpot_s)
        soon = in_time(ttft, asked.ttft_s) * each
        crowd, price, usd_per_s = fleet.in_flight[b] / places, fleet.price[b], c.usd_per_s[b]
        harm = harm_of(asked, fleet, c, b, new, step)
        up, room = seen.able[b] and fleet.usable[b], c.context[b] - SURE_SHARE * asked.prompt
        read_usd, write_usd = asked.prompt * c.usd_per_prompt_token[b], asked.n * c.usd_per_token[b]
        for k in range(n_budgets):
            row, rung = b * n_budgets + k, k * N_RUNG
            tokens, whole = ladder[rung + _TOKENS], ladder[rung + _WHOLE]
            wait = memory_wait(asked, fleet, c, b, ladder[rung + _CAP], step)
            first = ttft + wait
            here = soon if wait == 0.0 else in_time(first, asked.ttft_s) * each
            work, paid = reading + writing * tokens, read_usd + write_usd * tokens
            best = at + (BRIEF if told[k] else WHOLE)
            cut = worth[best + CUT - WHOLE]
            x[row * N_FEATURES : (row + 1) * N_FEATURES] = (  # in the order of FEATURES
                first,
                tpot,
                tokens,
                first + tpot * (tokens - 1.0),
                whole,
                here * ends_in_time(asked.e2e_s, first, tpot, ladder, rung) if ends else here,
                cut + (worth[best] - cut) * whole,
                work,
                crowd,
                price,
                work * usd_per_s + paid,
                paid * usd_weight,
                harm,
            )
            mask[row] = up and ladder[rung + _DISTINCT] > 0.0 and ladder[rung + _SURE] <= room
    mask[len(seen.able) * n_budgets] = True
    hold_back(mask, fleet.held, n_budgets)


@numeric
def hold_back(mask: FlagCells, held: Flags, n_budgets: int) -> None:
    """Leave out backends whose queue was full a moment ago, while anybody else can answer."""
    some, others = False, False
    for b in range(len(held)):
        some = some or held[b]
        for k in range(n_budgets):
            others = others or (mask[b * n_budgets + k] and not held[b])
    if some and others:
        for b in range(len(held)):
            for k in range(n_budgets):
                mask[b * n_budgets + k] = mask[b * n_budgets + k] and not held[b]


_CAP, _MU, _SIGMA, _TOKENS, _WHOLE, _SURE, _DISTINCT = range(7)
N_RUNG = 7


@numeric
def climb(ladder: Cells, asked: Asked, caps: Caps, longer: float, shorter: float) -> None:
    """What the budgets come to, a rung of N_RUNG numbers each: the cap, the length expected under it, whether it repeats another.

    The client's ceiling is only ever lowered. `longer` is added to the log of the length; `shorter` is a told answer's share of a free one.
    """
    for k in range(len(caps.tokens)):
        told, cap = caps.told[k], caps.tokens[k]
        mu, sigma = asked.mu + longer, asked.sigma
        if told:
            mu, sigma = mu + math.log(shorter), sigma * TOLD_SIGMA
            if cap < math.inf:
                mu = min(mu, math.log(TOLD_SHARE * cap))
        cap = min(cap, asked.ceiling)
        tokens, whole = capped(mu, sigma, cap)
        sure, distinct = 1.0 if cap == math.inf else cap, 1.0
        for j in range(k):
            if ladder[j * N_RUNG + _CAP] == cap and caps.told[j] == told:
                distinct = 0.0
        ladder[k * N_RUNG : (k + 1) * N_RUNG] = [cap, mu, sigma, tokens, whole, sure, distinct]


@numeric
def capped(mu: float, sigma: float, cap: float) -> tuple[float, float]:
    """Expected tokens of a log-normal length under a cap, and the probability that it ends by itself."""
    mean = math.exp(mu + sigma * sigma / 2.0)
    if cap == math.inf:
        return max(mean, 1.0), 1.0
    z = (math.log(cap) - mu) / sigma
    whole = phi(z)
    return max(mean * phi(z - sigma) + cap * (1.0 - whole), 1.0), whole


@numeric
def speed(asked: Asked, fleet: Columns, c: Constants, b: int, cached: float) -> tuple[float, float, float, float]:
    """If the request were given to backend b now: seconds to first token, but for `memory_wait`, and per token after it; of a step
    by itself; and the places that it would compete for: by limit, by report, and by memory when every request there is done."""
    present, prompt = fleet.in_flight[b] + asked.n, asked.prompt
    kv = fleet.kv_tokens[b] + prompt
    places = min(fleet.places[b], c.kv_capacity[b] * present / (kv + fleet.decode_tokens[b]))
    running = min(present, places)
    step = (c.step_fixed[b] + running * c.step_per_seq[b] + min(kv, c.kv_capacity[b]) * c.step_per_kv[b]) * fleet.pace_each[b]
    new = to_read(prompt, cached, c.cached_cost[b])
    begun = 0.5 * step if fleet.in_flight[b] > 0.0 else 0.0  # the rest of the step that is under way
    ttft = (c.overhead[b] + c.prefill_fixed[b] + (fleet.prefill_tokens[b] + new) / c.prefill_rate[b]) * fleet.pace_first[b] + begun
    if present > fleet.places[b]:  # those ahead have to write theirs first
        ttft += (present - fleet.places[b]) / fleet.places[b] * (fleet.decode_tokens[b] / present) * step
    reading = min(fleet.arrival_rate * new / len(c.context) / c.prefill_rate[b], 0.5)
    return ttft, step / (1.0 - reading), step, places


@numeric
def memory_wait(asked: Asked, fleet: Columns, c: Constants, b: int, cap: float, step: float) -> float:
    """Seconds until backend b has memory for the prompt and for all that the answers may come to, up to CLIP tokens each (`engine`).

    A share of PROMISE of that stays set aside for each who runs: taken for all as if they had claimed as much as this one, so that a claim
    also costs what it will cost others. What those who run hold comes free as they end: evenly, until all have written what is expected.
    """
    n, claim = fleet.in_flight[b], asked.n * min(min(cap, CLIP), max(c.context[b] - asked.prompt, 1.0))
    held = fleet.kv_tokens[b] + PROMISE * claim * n
    lacking = held + asked.prompt + claim - c.kv_capacity[b]
    if n <= 0.0 or lacking <= 0.0:
        return 0.0
    return min(lacking / max(held - fleet.prefill_tokens[b], 1.0), 1.0) * (fleet.decode_tokens[b] / n) * step


@numeric
def to_read(prompt: float, cached: float, cached_cost: float) -> float:
    """Tokens that reading a prompt comes to, of which so many are expected in a backend's prefix cache."""
    return prompt - cached * (1.0 - cached_cost)


@numeric
def harm_of(asked: Asked, fleet: Columns, c: Constants, b: int, new: float, step: float) -> float:
    """Reward at backend b that is expected to be lost, in answers that come late, if `new` more tokens are read there; by the deadline of
    this request.

    Nobody writes while a prompt is read. An answer of few tokens bears little of that: standing still is spread over its tokens (`haste`).
    Those who write have stood still for what they took beyond their steps, and will for all that is still to be read; those who wait for
    their first token, for half of it in the mean.
    """
    n = fleet.in_flight[b]
    writing, haste, deadline = min(fleet.writing[b], n), fleet.haste[b], asked.tpot_s
    ahead = fleet.prefill_tokens[b] / c.prefill_rate[b] * fleet.pace_first[b]
    more = (c.prefill_fixed[b] + new / c.prefill_rate[b]) * fleet.pace_first[b] * haste
    harm = 0.0
    if writing > 0.0:
        each = step + (max(fleet.writing_s[b] - fleet.written[b] * step, 0.0) / writing + ahead) * haste
        harm += writing * (in_time(each, deadline) - in_time(each + more, deadline))
    if n > writing:
        each = step + 0.5 * ahead * haste
        harm += (n - writing) * (in_time(each, deadline) - in_time(each + more, deadline))
    return harm * fleet.worth[b]


@numeric
def in_time(predicted: float, deadline: float) -> float:
    """Probability that something predicted is done by its deadline. A predicted time is off by a log-logistic factor of spread _SPREAD,
    which is the log-normal one to a hundredth and much cheaper."""
    ratio = min(predicted / deadline, _FAR)
    return float(1.0 / (1.0 + ratio**_STEEP))


@numeric
def ends_in_time(e2e_s: float, ttft: float, tpot: float, ladder: Column, rung: int) -> float:
    """Probability that the whole answer is there by its deadline: that it ends before the time does, or at its cap."""
    room = max(e2e_s - ttft, 1e-9) / tpot  # tokens that can be written in time
    if room >= ladder[rung + _CAP]:
        return 1.0
    return phi((math.log(room) - ladder[rung + _MU]) / math.hypot(ladder[rung + _SIGMA], _SPREAD))


@numeric
def phi(z: float) -> float:
    """The normal distribution function, to 3e-4 (Page, 1977, tanh form)."""
    return 0.5 * math.tanh(z * (0.7978845608 + 0.0356774081 * (z * z))) + 0.5


LAYOUT = (
    (ENCODER, SURE_SHARE, TOLD_SHARE, TOLD_SIGMA, _SPREAD, _SAME, _FAR, CLIP, PROMISE),
    (WHOLE, CUT, BRIEF, BRIEF_LENGTH, LONGER, KNOWN),
    *(FEATURES, Seen._fields, Asked._fields, Caps._fields, Columns._fields, Constants._fields),
)
"""What compiled code has to have been written for."""


class Quick(Protocol):
    """`_encode.c`: what `fill` and `worth_of` do. None for what it leaves to plain Python."""

    def fill(self, seen: Seen) -> Filled | None:
        """Features and mask, to the bit."""
        ...

    def worth_of(self, knowledge: Floats, task: tuple[float, ...]) -> list[float] | None:
        """(B * KNOWN,)."""
        ...


quick: Quick | None = None
try:
    from . import _encode
except ImportError:  # built where there was no compiler
    pass
else:
    quick = _encode if _encode.LAYOUT == LAYOUT else None  # one that was built from an older source
