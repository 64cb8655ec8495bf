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
from hashlib import blake2b

import numpy as np

from .facts import SLO, TASKS, Ask, Budget, Constants, FleetView, Floats, Length, Mask

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

CUT_WORTH = 0.3
"""What an answer cut in mid-sentence is worth beside a whole one, where the task allows a part. An assumption, see docs/decisions."""

WHOLE_ONLY = ("code", "math", "extract", "classify")
"""Tasks whose answer is worth nothing when it is cut."""

SURE_SHARE = 0.5
"""Of an estimated prompt's tokens, those that are surely there. The backend has the last word."""

_SPREAD = 0.25  # relative one-sigma error of a predicted latency
_EFFICIENT_SHARE = 0.5  # of the places, at which a backend-second is priced


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
    c = view.constants
    caps = caps_of(ask, budgets)  # (K,)
    ttft, tpot = speed(ask, view)  # (B,) each
    tokens, p_whole = lengths(ask.length, caps)  # (K,) each
    latency = ttft[:, None] + tpot[:, None] * np.maximum(tokens - 1, 0.0)  # (B, K)
    work = work_s(c, ask.prompt_tokens, tokens * ask.n)  # (B, K)
    features = np.empty((len(FEATURES), len(view.backends), len(budgets)))
    features[F["ttft_s"]] = ttft[:, None]
    features[F["tpot_s"]] = tpot[:, None]
    features[F["tokens"]] = tokens
    features[F["latency_s"]] = latency
    features[F["p_whole"]] = p_whole
    features[F["p_on_time"]] = p_on_time(ask.slo, ask.length, caps, ttft[:, None], tpot[:, None])
    features[F["quality"]] = _quality(c, ask.task, p_whole)
    features[F["work_s"]] = work
    features[F["load"]] = (view.in_flight / c.max_running)[:, None]
    features[F["price"]] = view.price[:, None]
    features[F["usd"]] = work * c.usd_per_s[:, None]
    return Observation(features, np.append(who_can(ask, view, caps).reshape(-1), True), ask.weight)


def caps_of(ask: Ask, budgets: tuple[Budget, ...]) -> Floats:
    """The cap in tokens that each budget comes to, (K,): the client's own ceiling is only ever lowered. inf where there is none."""
    ceiling = math.inf if ask.max_tokens is None else ask.max_tokens
    return np.array([min(ceiling, math.inf if b.tokens is None else b.tokens) for b in budgets])


def who_can(ask: Ask, view: FleetView, caps: Floats) -> Mask:
    """Which actions could answer, (B, K): admitted by the model name, able, up, and with room for prompt and answer.

    A backend whose queue was full a moment ago is left out while anybody else can answer.
    """
    up = admitted(ask, view) & view.usable
    can: Mask = up[:, None] & fits(ask, view, caps)
    free: Mask = can & ~view.held[:, None]
    return free if free.any() else can


def admitted(ask: Ask, view: FleetView) -> Mask:
    """Backends that the model name admits and that can do what the request's fields call for, up or not, (B,)."""
    return np.array([b.name in ask.allowed and ask.needs <= b.capabilities for b in view.backends], dtype=np.bool_)


def fits(ask: Ask, view: FleetView, caps: Floats) -> Mask:
    """Where prompt and answer surely do not overflow the context, by an estimate of the prompt that may be twice too large, (B, K)."""
    answer = np.where(np.isinf(caps), 1.0, caps)
    distinct = np.array([cap not in caps[:k] for k, cap in enumerate(caps)])  # a budget above the client's ceiling is the ceiling
    room = SURE_SHARE * ask.prompt_tokens + answer <= view.constants.context[:, None]
    result: Mask = room & distinct
    return result


def speed(ask: Ask, view: FleetView) -> tuple[Floats, Floats]:
    """Predicted seconds to first token and per token after it, (B,) each, if the request were given to each backend now."""
    c = view.constants
    running = np.minimum(view.in_flight, c.max_running - 1) + ask.n
    kv = np.minimum(view.kv_tokens + ask.prompt_tokens, c.kv_capacity)
    step = c.step_fixed + running * c.step_per_seq + kv * c.step_per_kv
    read = c.prefill_fixed + (view.prefill_tokens + ask.prompt_tokens) / c.prefill_rate
    queued = np.maximum(view.in_flight + ask.n - c.max_running, 0.0)
    per_request = view.decode_tokens / np.maximum(view.in_flight, 1.0)  # tokens that one of them still has to write
    place = queued / c.max_running * per_request * step
    reading = np.minimum(view.arrival_rate * ask.prompt_tokens / c.prefill_rate / len(view.backends), 0.5)
    return read + place + step, step / (1.0 - reading)


def lengths(length: Length, caps: Floats) -> tuple[Floats, Floats]:
    """Expected tokens of an answer under each cap, and the probability that it ends by itself, (K,) each. Log-normal."""
    mu, sigma = math.log(length.median), length.sigma
    with np.errstate(divide="ignore"):
        z = (np.log(np.maximum(caps, 1e-9)) - mu) / sigma
    p_whole = phi(z)
    mean = math.exp(mu + sigma * sigma / 2)
    beyond = np.where(np.isinf(caps), 0.0, np.where(np.isinf(caps), 0.0, caps) * (1.0 - p_whole))
    return np.maximum(mean * phi(z - sigma) + beyond, 1.0), p_whole


def p_on_time(slo: SLO, length: Length, caps: Floats, ttft: Floats, tpot: Floats) -> Floats:
    """Probability that an answer meets every deadline that binds, (B, K), with the predictions off by _SPREAD."""
    p = np.ones(np.broadcast_shapes(ttft.shape, caps.shape))
    if slo.ttft_s is not None:
        p = p * _p_within(slo.ttft_s, ttft)
    if slo.tpot_s is not None:
        p = p * _p_within(slo.tpot_s, tpot)
    if slo.e2e_s is not None:
        fits = np.maximum(slo.e2e_s - ttft, 0.0) / tpot  # tokens that can be written in time
        z = (np.log(np.maximum(fits, 1e-9)) - math.log(length.median)) / math.hypot(length.sigma, _SPREAD)
        p = p * np.where(fits >= caps, 1.0, phi(z))
    return p


def work_s(c: Constants, prompt_tokens: float, tokens: Floats) -> Floats:
    """Backend-seconds that a prompt and an answer of `tokens` (K,) take at a well-filled batch, (B, K)."""
    n = np.maximum(c.max_running * _EFFICIENT_SHARE, 1.0)
    step = c.step_fixed / n + c.step_per_seq + c.step_per_kv * prompt_tokens
    return (prompt_tokens / c.prefill_rate)[:, None] + step[:, None] * tokens


def phi(z: Floats) -> Floats:
    """The normal distribution function, to 3e-4 (Page, 1977, tanh form)."""
    z = np.clip(z, -8.0, 8.0)
    result: Floats = 0.5 * (1.0 + np.tanh(0.7978845608 * (z + 0.044715 * z * z * z)))
    return result


def _p_within(deadline: float, predicted: Floats) -> Floats:
    return phi(np.log(deadline / np.maximum(predicted, 1e-6)) / _SPREAD)


def _quality(c: Constants, task: tuple[float, ...], p_whole: Floats) -> Floats:
    """Expected quality over the task's probabilities, (B, K): a cut answer keeps what its task allows."""
    weights = np.asarray(task)
    whole, cut = c.quality @ weights, c.quality @ (weights * _CUT)  # (B,) each
    quality: Floats = whole[:, None] * p_whole + cut[:, None] * (1.0 - p_whole)
    return quality


_CUT = np.array([0.0 if task in WHOLE_ONLY else CUT_WORTH for task in TASKS])
