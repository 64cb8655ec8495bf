"""(Ask, FleetView, budgets) -> Observation: what a request would meet at each backend under each budget.

Facts
    A backend that batches continuously reads new prompts before it goes on writing, so a new request waits for the prompts ahead of it
    and, where every place is taken, for a place. Once it runs, every step of the batch gives it one token; a step gets longer with the
    batch and with the context that it holds, and is put off by the prompts that arrive meanwhile.

Plan
    One pass over arrays: backends (B,) against budgets (K,) give (B, K); features stand in front, (F, B, K), in the order of FEATURES.
    Every heuristic and every network reads this one Observation, live, in simulation and in retraining.

What is not handled
    Prefix reuse (each prompt is taken as unseen), and errors of the profile (each constant is taken as true).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from .facts import SLO, TASKS, Ask, Backend, Budget, Constants, FleetView, Floats, Length, Mask

ENCODER = 1
"""Version of this file's arithmetic. A change that moves any feature raises it."""

FEATURES = (
    "ttft_s",  # predicted time to first token
    "tpot_s",  # predicted time per output token after the first
    "tokens",  # expected answer tokens under the cap, per choice
    "latency_s",  # predicted time of the whole answer at its expected length
    "p_whole",  # probability that the answer ends by itself before the cap
    "p_on_time",  # probability that it meets its SLO
    "quality",  # expected quality if on time: of the model at this task, less what a cut costs
    "work_s",  # backend-seconds that it takes from others
    "load",  # requests there, as a share of the places
    "price",  # reward per backend-second
    "usd",  # money, from the profile's price
)
F = {name: i for i, name in enumerate(FEATURES)}
_TTFT, _TPOT, _TOKENS, _LATENCY, _P_WHOLE, _P_ON_TIME, _QUALITY, _WORK, _LOAD, _PRICE, _USD = range(len(FEATURES))

CUT_WORTH = 0.3
"""What an answer cut in mid-sentence is worth beside a whole one, where the task allows a part. An assumption, see docs/decisions."""

WHOLE_ONLY = ("code", "math", "extract", "classify")
"""Tasks whose answer is worth nothing when it is cut."""

SURE_SHARE = 0.5
"""Of an estimated prompt's tokens, those that are surely there. The backend has the last word."""

_SPREAD = 0.25  # relative one-sigma error of a predicted latency
_STEEP = 1.702 / _SPREAD  # of the logistic curve that is nearest to the normal one


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a policy sees: float64 features (F, B, K) and a mask over the A = B * K + 1 actions, Shed last."""

    features: Floats
    mask: Mask
    weight: float  # what this request on time is worth, relative to others

    def __getitem__(self, feature: str) -> Floats:
        """One feature over the B * K actions that ask somebody, backend-major."""
        flat: Floats = self.features[F[feature]].reshape(-1)
        return flat

    def digest(self) -> str:
        """Names this observation: 16 hex digits of a hash over encoder, features as float32, and mask."""
        digest = blake2b(digest_size=8, person=b"encode%d" % ENCODER)
        digest.update(self.features.astype(np.float32).tobytes())
        digest.update(self.mask.tobytes())
        return digest.hexdigest()


def encode(ask: Ask, view: FleetView, budgets: tuple[Budget, ...]) -> Observation:
    """See the head of this file. B = len(view.backends), K = len(budgets)."""
    c, ladder = view.constants, ladder_of(ask.length, ask.max_tokens, budgets)
    ttft, tpot, places = (column[:, None] for column in speed(ask, view))  # (B, 1) each
    work = work_s(c, ask.prompt_tokens, ladder.tokens if ask.n == 1 else ladder.tokens * ask.n)  # (B, K)
    features = np.empty((len(FEATURES), len(view.backends), len(budgets)))
    features[_TTFT] = ttft
    features[_TPOT] = tpot
    features[_TOKENS] = ladder.tokens
    features[_LATENCY] = ttft + tpot * ladder.later
    features[_P_WHOLE] = ladder.p_whole
    features[_P_ON_TIME] = p_on_time(ask.slo, ask.length, ladder.caps, ttft, tpot)
    features[_QUALITY] = _quality(c, ask.task, ladder.p_whole)
    features[_WORK] = work
    features[_LOAD] = view.in_flight[:, None] / places
    features[_PRICE] = view.price[:, None]
    features[_USD] = work * c.usd_per_s[:, None]
    mask = np.empty(features[0].size + 1, dtype=np.bool_)
    mask[:-1], mask[-1] = who_can(ask, view, ladder).reshape(-1), True
    return Observation(features, mask, ask.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """What the budgets come to for one request, (K,) each."""

    caps: Floats  # tokens: the client's ceiling, only ever lowered; inf where there is none
    answer: Floats  # tokens that are surely asked for: the cap, or one
    most: float  # the most of these
    distinct: Mask  # False where a budget comes to the same cap as one before it
    tokens: Floats  # expected tokens of the answer
    later: Floats  # of these, the ones after the first
    p_whole: Floats  # probability that the answer ends by itself


@lru_cache(maxsize=4096)
def ladder_of(length: Length, max_tokens: int | None, budgets: tuple[Budget, ...]) -> Ladder:
    """The ladder of budgets under a client's ceiling. Kept, because requests repeat themselves in this."""
    ceiling = math.inf if max_tokens is None else max_tokens
    caps = np.array([min(ceiling, math.inf if b.tokens is None else b.tokens) for b in budgets])
    distinct = np.array([cap not in caps[:k] for k, cap in enumerate(caps)])
    tokens, p_whole = lengths(length, caps)
    answer = np.where(np.isinf(caps), 1.0, caps)
    return Ladder(caps, answer, float(answer.max(initial=1.0)), distinct, tokens, tokens - 1.0, p_whole)


def who_can(ask: Ask, view: FleetView, ladder: Ladder) -> Mask:
    """Which actions could answer, (B, K): admitted by the model name, able, up, and with room for prompt and answer.

    A backend whose queue was full a moment ago is left out while anybody else can answer.
    """
    up = admitted(ask.allowed, ask.needs, view.backends) & view.usable
    can: Mask = up[:, None] & fits(ask, view, ladder)
    if not np.count_nonzero(view.held):
        return can
    free: Mask = can & ~view.held[:, None]
    return free if free.any() else can


@lru_cache(maxsize=1024)
def admitted(allowed: frozenset[str], needs: frozenset[str], backends: tuple[Backend, ...]) -> Mask:
    """Backends that a model name admits and that can do what a request's fields call for, up or not, (B,)."""
    return np.array([b.name in allowed and needs <= b.capabilities for b in backends], dtype=np.bool_)


def fits(ask: Ask, view: FleetView, ladder: Ladder) -> Mask:
    """Where prompt and answer do not surely overflow the context, and the budget does not repeat another, (B, K) or (K,)."""
    surely = SURE_SHARE * ask.prompt_tokens
    if surely + ladder.most <= view.constants.least_context:  # nearly always
        return ladder.distinct
    room: Mask = (surely + ladder.answer <= view.constants.context[:, None]) & ladder.distinct
    return room


def speed(ask: Ask, view: FleetView) -> tuple[Floats, Floats, Floats]:
    """If the request were given to each backend now, (B,) each: predicted seconds to first token, and per token after it; and the
    places that it would compete for: by the backend's limit, by its report, and by its memory when every request there is done."""
    c, prompt = view.constants, float(ask.prompt_tokens)
    present = view.in_flight + ask.n
    kv = view.kv_tokens + prompt
    places = np.minimum(view.places, c.kv_capacity * present / (kv + view.decode_tokens))
    running = np.minimum(present, places)
    step = c.step_fixed + running * c.step_per_seq + np.minimum(kv, c.kv_capacity) * c.step_per_kv
    ttft = c.overhead + c.prefill_fixed + (view.prefill_tokens + prompt) / c.prefill_rate + step
    queued = present - running
    if np.count_nonzero(queued):  # those ahead have to write theirs first
        ttft = ttft + queued / places * (view.decode_tokens / present) * step
    reading = np.minimum(view.arrival_rate * prompt / max(len(view.backends), 1) / c.prefill_rate, 0.5)
    return ttft, step / (1.0 - reading), places


def lengths(length: Length, caps: Floats) -> tuple[Floats, Floats]:
    """Expected tokens of an answer under each cap, and the probability that it ends by itself, (K,) each. Log-normal."""
    mu, sigma = math.log(length.median), length.sigma
    z = (np.log(caps) - mu) / sigma
    p_whole = phi(z)
    mean = math.exp(mu + sigma * sigma / 2)
    beyond = np.where(np.isinf(caps), 0.0, np.minimum(caps, 1e12) * (1.0 - p_whole))
    return np.maximum(mean * phi(z - sigma) + beyond, 1.0), p_whole


def p_on_time(slo: SLO, length: Length, caps: Floats, ttft: Floats, tpot: Floats) -> Floats:
    """Probability that an answer meets every deadline that binds, (B, K) or (B, 1).

    A predicted time is off by a log-logistic factor of spread _SPREAD, which is the log-normal one to a hundredth and much cheaper.
    """
    first, each = _sharpness(slo)
    p: Floats = 1.0 / ((1.0 + (ttft * first) ** _STEEP) * (1.0 + (tpot * each) ** _STEEP))
    if slo.e2e_s is None:
        return p
    room = np.maximum(slo.e2e_s - ttft, 1e-9) / tpot  # tokens that can be written in time
    z = (np.log(room) - math.log(length.median)) / math.hypot(length.sigma, _SPREAD)
    return p * np.where(room >= caps, 1.0, phi(z))


def _sharpness(slo: SLO) -> tuple[float, float]:
    """One over the deadlines for first token and per token; 0 where one does not bind."""
    return (0.0 if slo.ttft_s is None else 1.0 / slo.ttft_s), (0.0 if slo.tpot_s is None else 1.0 / slo.tpot_s)


def work_s(c: Constants, prompt_tokens: float, tokens: Floats) -> Floats:
    """Backend-seconds that a prompt and an answer of `tokens` (K,) take at a well-filled batch, (B, K)."""
    step = c.step_shared + c.step_per_kv * prompt_tokens
    return (prompt_tokens / c.prefill_rate)[:, None] + step[:, None] * tokens


def phi(z: Floats) -> Floats:
    """The normal distribution function, to 3e-4 (Page, 1977, tanh form)."""
    result: Floats = 0.5 * np.tanh(z * (0.7978845608 + 0.0356774081 * (z * z))) + 0.5
    return result


def _quality(c: Constants, task: tuple[float, ...], p_whole: Floats) -> Floats:
    """Expected quality over the task's probabilities, (B, K): a cut answer keeps what its task allows."""
    cut, gain = _worth(c, task)
    quality: Floats = cut + gain * p_whole
    return quality


@lru_cache(maxsize=1024)
def _worth(c: Constants, task: tuple[float, ...]) -> tuple[Floats, Floats]:
    """What a cut answer is worth, and what a whole one is worth beyond that, (B, 1) each."""
    weights = np.asarray(task)
    whole, cut = c.quality @ weights, c.quality @ (weights * _CUT)
    return cut[:, None], (whole - cut)[:, None]


_CUT = np.array([0.0 if task in WHOLE_ONLY else CUT_WORTH for task in TASKS])
