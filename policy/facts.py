"""The nouns of the house, frozen: what is asked, what the fleet looks like, what was decided, what came of it.

Times are seconds of a monotonic clock (`now`, `at`) or durations (`_s`); counts of tokens are `_tokens`. Arrays over backends have
shape (B,) in the order of `FleetView.backends`; arrays over actions have shape (A,) with A = B * K + 1 for K budgets: backend-major,
and the last one is Shed. Functions over these arrays take a leading axis of worlds as well, so that one implementation serves a live
request and a simulator that runs many fleets in lockstep.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bestserve.profiles.schema import TASKS, Profile

__all__ = [
    "SLO",
    "TASKS",
    "Action",
    "Ask",
    "Backend",
    "Budget",
    "Constants",
    "Decision",
    "Ending",
    "FleetView",
    "Floats",
    "Length",
    "Load",
    "Mask",
    "Outcome",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


EFFICIENT_SHARE = 0.5
"""Of a backend's places, how many are taken when a second of it is priced: neither idle nor crowded."""


@dataclass(frozen=True, slots=True)
class SLO:
    """Deadlines of one answer. A deadline that is None does not bind."""

    ttft_s: float | None = 1.0  # time to first token
    tpot_s: float | None = 0.060  # time per output token after the first
    e2e_s: float | None = None  # the whole answer
    hard: bool = True  # hard: late is worth nothing; soft: worth decays


@dataclass(frozen=True, slots=True)
class Length:
    """What is believed about an answer's length before it is written: log-normal, in tokens."""

    median: float  # tokens, > 0
    sigma: float  # standard deviation of log(tokens), > 0


@dataclass(frozen=True, slots=True)
class Budget:
    """A cap on the response's tokens that the policy may set. `tokens=None` sets none."""

    tokens: int | None = None
    instruction: str | None = field(default=None, compare=False)  # said to the model, so that the answer ends instead of being cut

    @property
    def name(self) -> str:
        """As it stands in headers, metrics and records: the number of tokens, or `none`."""
        return "none" if self.tokens is None else str(self.tokens)


@dataclass(frozen=True, slots=True)
class Backend:
    """One upstream server: what it is called, what it is believed to be. Where it lives is the proxy's business."""

    name: str
    model: str
    profile: Profile = field(compare=False)
    capabilities: frozenset[str] = frozenset()
    max_in_flight: int | None = None  # requests at it at once, where the operator sets a limit


@dataclass(frozen=True, slots=True)
class Ask:
    """The facts read from one incoming request. Never its text."""

    endpoint: str  # "chat" or "completions"
    model: str  # as the client wrote it
    allowed: frozenset[str]  # names of the backends that this model name admits
    stream: bool
    prompt_tokens: int  # estimated from the body's size
    max_tokens: int | None  # the client's own ceiling per choice
    n: int  # choices asked for
    needs: frozenset[str]  # capabilities that the request's fields call for
    task: tuple[float, ...]  # probabilities over TASKS
    length: Length
    slo: SLO
    tier: str  # service tier after the key's class was applied
    weight: float  # what an answer on time is worth, relative to other tiers
    session: str | None = None  # a hash; the same for requests of one conversation


@dataclass(frozen=True, slots=True)
class Load:
    """What one backend last said of itself."""

    running: int  # requests being decoded
    waiting: int  # requests in its queue
    used_tokens: int  # tokens of context held by running requests
    max_running: int | None = None  # its own limits, where it says them
    kv_tokens: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Constants:
    """The profiles of a fleet as columns, (B,) each, in the order of its backends. See `profiles.schema.Engine` for the units."""

    prefill_rate: Floats
    prefill_fixed: Floats
    overhead: Floats
    step_fixed: Floats
    step_per_seq: Floats
    step_per_kv: Floats
    max_running: Floats
    kv_capacity: Floats
    context: Floats
    usd_per_s: Floats  # 0 where the profile has no price
    quality: Floats  # (B, T) over TASKS
    step_shared: Floats  # a sequence's share of a step at a batch that is EFFICIENT_SHARE full
    least_context: float  # of all backends

    @classmethod
    def of(cls, backends: tuple[Backend, ...]) -> "Constants":
        """Gather the columns of some backends."""
        profiles = [backend.profile for backend in backends]
        engines = [profile.engine for profile in profiles]

        def column(values: Iterable[float]) -> Floats:
            return np.array(list(values), dtype=np.float64)

        return cls(
            prefill_rate=column(e.prefill_tokens_per_s for e in engines),
            prefill_fixed=column(e.prefill_fixed_s for e in engines),
            overhead=column(e.overhead_s for e in engines),
            step_fixed=column(e.step_fixed_s for e in engines),
            step_per_seq=column(e.step_per_seq_s for e in engines),
            step_per_kv=column(e.step_per_kv_token_s for e in engines),
            max_running=column(e.max_running for e in engines),
            kv_capacity=column(e.kv_tokens for e in engines),
            context=column(e.context for e in engines),
            usd_per_s=column((p.usd_per_hour or 0.0) / 3600 for p in profiles),
            quality=np.array([[p.quality[task] for task in TASKS] for p in profiles]).reshape(len(profiles), len(TASKS)),
            least_context=min((float(e.context) for e in engines), default=0.0),
            step_shared=column(e.step_fixed_s / max(e.max_running * EFFICIENT_SHARE, 1.0) + e.step_per_seq_s for e in engines),
        )

    def with_limits(self, column: int, max_running: int | None, kv_tokens: int | None) -> "Constants":
        """The same with what one backend says of its own limits; itself where nothing changes."""
        limits = {"max_running": max_running, "kv_capacity": kv_tokens}
        changed = {
            name: _at(getattr(self, name), column, value)
            for name, value in limits.items()
            if value and getattr(self, name)[column] != value
        }
        return replace(self, **changed) if changed else self  # type: ignore[arg-type]


def _at(values: Floats, column: int, value: float) -> Floats:
    copy = values.copy()
    copy[column] = value
    return copy


@dataclass(frozen=True, slots=True, eq=False)
class FleetView:
    """A frozen picture of the Fleet at one instant. Arrays have shape (B,) and are never written to."""

    now: float
    backends: tuple[Backend, ...]
    constants: Constants
    usable: Mask  # health and circuit let a request through
    held: Mask  # its queue was full a moment ago: asked only when nobody else can
    in_flight: Floats  # requests: ours, and what the backend has beyond ours
    prefill_tokens: Floats  # prompt tokens begun that have not brought a first token yet
    decode_tokens: Floats  # tokens still expected from requests in flight
    kv_tokens: Floats  # tokens of context that requests in flight hold
    places: Floats  # requests that can be decoded together now: its limit, or fewer where it reports a queue behind fewer
    report_age_s: Floats  # since the backend last said how it is; inf when it never did
    price: Floats  # reward per backend-second, from `price`
    arrival_rate: float  # requests a second, smoothed

    def without(self, names: frozenset[str]) -> "FleetView":
        """The same picture with some backends unusable, after they refused."""
        if not names:
            return self
        refused = np.array([backend.name in names for backend in self.backends], dtype=np.bool_)
        return replace(self, usable=self.usable & ~refused)


@dataclass(frozen=True, slots=True)
class Action:
    """One (backend, budget) pair, or Shed when `backend` is None."""

    backend: str | None
    budget: Budget = Budget()

    @property
    def shed(self) -> bool:
        """Whether nobody is asked."""
        return self.backend is None


class Digested(Protocol):
    """What can be named by a hash of what it holds."""

    def digest(self) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The chosen action and everything needed to judge the choice later. Nothing here has a default."""

    id: str
    at: float
    action: Action
    index: int  # of the action among the A candidates
    actions: tuple[Action, ...]  # (A,)
    mask: Mask  # (A,) who could be chosen
    probabilities: Floats  # (A,) of every candidate under the policy that chose; 0 where masked
    policy: str  # name and version of what chose
    encoder: int  # version of the encoding
    seen: "Digested"  # the Observation
    prompt_tokens: int  # prefill work that the choice puts on the backend
    expected_tokens: float  # answer tokens expected under the budget, over all choices

    @property
    def digest(self) -> str:
        """Names the Observation. Worked out when it is asked for: a Record needs it, an answer does not wait for it."""
        return self.seen.digest()

    @property
    def propensity(self) -> float:
        """The probability with which this action was chosen."""
        return float(self.probabilities[self.index])


class Ending(StrEnum):
    """How one attempt ended."""

    DONE = "done"  # the answer arrived whole
    REFUSED = "refused"  # the backend said no before the first byte
    BROKE = "broke"  # the backend failed after the first byte
    ABANDONED = "abandoned"  # the client went away, or was not served to the end
    REJECTED = "rejected"  # the request itself was at fault (4xx)
    SHED = "shed"  # nobody was asked, by choice


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended, with what was measured. Durations count from the attempt's begin."""

    ending: Ending
    status: int  # HTTP status of the backend, 0 when there was none
    ttft_s: float | None  # first token seen by us; None when there was none, or the answer was not streamed
    total_s: float
    prompt_tokens: int | None  # as the backend counted; None when it did not say
    completion_tokens: int | None
    cached_tokens: int | None
    finish_reason: str | None
    cut: bool  # ended by a cap that we set, not the client
    reason: str | None = None  # of a refusal: one word, e.g. "queue_full"
