"""The nouns of the house, frozen: what is asked, what the fleet looks like, what was decided, what came of it.

Times are seconds of a monotonic clock (`now`, `at`) or durations (`_s`); counts of tokens are `_tokens`. Columns over backends have
B numbers in the order of `FleetView.backends`; columns over actions have A = B * K + 1 for K budgets: backend-major, and the last
one is Shed. What arithmetic reads comes as NamedTuples of numbers and columns (see `numeric`): lists here, arrays where it is compiled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bestserve.profiles.schema import TASKS, Profile

from .numeric import Column, Flags

if TYPE_CHECKING:
    from .encode import Observation

__all__ = [
    "FREE",
    "SLO",
    "TASKS",
    "Action",
    "Ask",
    "Backend",
    "Budget",
    "Columns",
    "Constants",
    "Decision",
    "Ending",
    "FleetView",
    "Floats",
    "Length",
    "Load",
    "Mask",
    "Outcome",
    "Tariff",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
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
    instruction: str | None = None  # said to the model, so that the answer ends instead of being cut

    @property
    def name(self) -> str:
        """As it stands in headers, metrics and records: the number of tokens, or `none`."""
        return "none" if self.tokens is None else str(self.tokens)


class Tariff(NamedTuple):
    """What somebody else is paid for an answer: USD a token. What owned hardware costs an hour stands in its profile."""

    prompt_token: float = 0.0
    answer_token: float = 0.0
    cached_token: float | None = None  # of a prompt, where it was found in the provider's cache; None: as any other

    def usd(self, prompt: float, answer: float, cached: float = 0.0) -> float:
        """The price of one answer. `cached` tokens are among those of the prompt."""
        kept = self.prompt_token if self.cached_token is None else self.cached_token
        return (prompt - cached) * self.prompt_token + cached * kept + answer * self.answer_token


FREE = Tariff()


@dataclass(frozen=True, slots=True)
class Backend:
    """One upstream server: what it is called, what it is believed to be. Where it lives is the proxy's business."""

    name: str
    model: str
    profile: Profile = field(compare=False)
    capabilities: frozenset[str] = frozenset()
    max_in_flight: int | None = None  # requests at it at once, where the operator sets a limit
    tariff: Tariff = FREE
    longer: tuple[float, ...] = ()  # over TASKS: by how much (log) its answers are longer than is predicted; empty: by nothing


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
    usd_weight: float = 0.0  # reward that a dollar paid to others is worth here


@dataclass(frozen=True, slots=True)
class Load:
    """What one backend last said of itself."""

    running: int  # requests being decoded
    waiting: int  # requests in its queue
    used_tokens: int  # tokens of context held by running requests
    max_running: int | None = None  # its own limits, where it says them
    kv_tokens: int | None = None


WHOLE, CUT, BRIEF, BRIEF_CUT, BRIEF_LENGTH, LONGER = range(6)
"""Rows that a backend has in `Constants.knowledge`."""

KNOWN = 6
"""How many they are."""


class Constants(NamedTuple):
    """The profiles of a fleet as columns (B,), in the order of its backends. See `profiles.schema.Engine` for the units."""

    prefill_rate: Column
    prefill_fixed: Column
    overhead: Column  # seconds of a request beside the engine's own time
    cached_cost: Column  # of an uncached prompt token's time, what a cached one takes
    step_fixed: Column
    step_per_seq: Column
    step_per_kv: Column
    step_shared: Column  # a sequence's share of a step at a batch that is EFFICIENT_SHARE full
    max_running: Column
    kv_capacity: Column
    context: Column
    usd_per_s: Column  # 0 where the profile has no price
    usd_per_prompt_token: Column  # what is paid to others; 0 for what is one's own
    usd_per_token: Column  # of an answer

    @classmethod
    def of(cls, backends: Sequence[Backend]) -> "Constants":
        """Gather the columns of some backends."""
        engines = [backend.profile.engine for backend in backends]
        return cls(
            prefill_rate=[e.prefill_tokens_per_s for e in engines],
            prefill_fixed=[e.prefill_fixed_s for e in engines],
            overhead=[e.overhead_s for e in engines],
            cached_cost=[e.prefill_cached_cost for e in engines],
            step_fixed=[e.step_fixed_s for e in engines],
            step_per_seq=[e.step_per_seq_s for e in engines],
            step_per_kv=[e.step_per_kv_token_s for e in engines],
            step_shared=[e.step_fixed_s / max(e.max_running * EFFICIENT_SHARE, 1.0) + e.step_per_seq_s for e in engines],
            max_running=[float(e.max_running) for e in engines],
            kv_capacity=[float(e.kv_tokens) for e in engines],
            context=[float(e.context) for e in engines],
            usd_per_s=[(backend.profile.usd_per_hour or 0.0) / 3600 for backend in backends],
            usd_per_prompt_token=[backend.tariff.prompt_token for backend in backends],
            usd_per_token=[backend.tariff.answer_token for backend in backends],
        )

    def with_limits(self, column: int, max_running: int | None, kv_tokens: int | None) -> "Constants":
        """The same with what one backend says of its own limits; itself where nothing changes."""
        limits = {"max_running": max_running, "kv_capacity": kv_tokens}
        changed = {
            name: _at(getattr(self, name), column, float(value))
            for name, value in limits.items()
            if value and getattr(self, name)[column] != value
        }
        return self._replace(**changed) if changed else self


def _at(values: Column, column: int, value: float) -> list[float]:
    copy = list(values)
    copy[column] = value
    return copy


def knowledge_of(backends: Sequence[Backend]) -> Floats:
    """What is known per task, (B * KNOWN, T): quality of a whole answer, of a cut one, of a brief one and of a cut brief one; the length
    of a brief answer beside a free one; and by how much (log) answers are longer than was predicted."""
    rows = [row for backend in backends for row in _knowledge(backend.profile, backend.longer)]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(TASKS))


def _knowledge(profile: Profile, longer: tuple[float, ...]) -> list[list[float]]:
    effect = profile.budget_effect
    whole = [profile.quality[task] for task in TASKS]
    kept = [effect.kept_when_cut[task] for task in TASKS]
    brief = [quality * effect.kept_when_concise[task] for quality, task in zip(whole, TASKS, strict=True)]
    return [
        whole,
        [quality * share for quality, share in zip(whole, kept, strict=True)],
        brief,
        [quality * share for quality, share in zip(brief, kept, strict=True)],
        [effect.length_when_concise[task] for task in TASKS],
        list(longer) or [0.0] * len(TASKS),
    ]


class Columns(NamedTuple):
    """The Fleet in numbers at one instant. Columns have B numbers and are never written to."""

    now: float
    arrival_rate: float  # requests a second, smoothed
    usable: Flags  # health and circuit let a request through
    held: Flags  # its queue was full a moment ago: asked only when nobody else can
    in_flight: Column  # requests: ours, and what the backend has beyond ours
    prefill_tokens: Column  # prompt tokens begun that are still to be read: without what the backend is expected to remember
    decode_tokens: Column  # tokens still expected from requests in flight
    kv_tokens: Column  # tokens of context that requests in flight hold
    haste: Column  # of those that are ours, the mean of 1 / expected tokens of an answer; 0 where there are none
    worth: Column  # and of what they are worth on time: weight and expected quality
    writing: Column  # those of ours that have their first token
    written: Column  # tokens that those have, of one choice each
    writing_s: Column  # seconds since their first tokens, summed
    places: Column  # requests that can be decoded together now: its limit, or fewer where a queue stood behind fewer (`books.places_at`)
    report_age_s: Column  # since the backend last said how it is; inf when it never did
    price: Column  # reward per backend-second, from `price`
    pace_first: Column  # how many times as long as predicted the first token has taken lately; 1 where nothing is known
    pace_each: Column  # the same for each token after it


@dataclass(frozen=True, slots=True, eq=False)
class FleetView:
    """A frozen picture of the Fleet at one instant."""

    backends: tuple[Backend, ...]
    constants: Constants
    columns: Columns
    knowledge: Floats  # (B * KNOWN, T), see `knowledge_of`

    @property
    def now(self) -> float:
        """The instant."""
        return self.columns.now

    def without(self, names: frozenset[str]) -> "FleetView":
        """The same picture with some backends unusable, after they refused."""
        if not names:
            return self
        usable = [up and backend.name not in names for up, backend in zip(self.columns.usable, self.backends, strict=True)]
        return replace(self, columns=self.columns._replace(usable=usable))


@dataclass(frozen=True, slots=True)
class Action:
    """One (backend, budget) pair, or Shed when `backend` is None."""

    backend: str | None
    budget: Budget = Budget()

    @property
    def shed(self) -> bool:
        """Whether nobody is asked."""
        return self.backend is None


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The chosen action and everything needed to judge the choice later. Nothing here has a default."""

    id: str
    at: float
    action: Action
    index: int  # of the action among the A candidates
    actions: tuple[Action, ...]  # (A,)
    mask: Flags  # (A,) who could be chosen
    probabilities: Column  # (A,) of every candidate under the policy that chose; 0 where masked
    floor: float  # the least probability that exploring gave to each action that is likely on time; 0: it was not explored
    policy: str  # name and version of what chose
    encoder: int  # version of the encoding
    observation: "Observation"
    prompt_tokens: int  # prefill work that the choice puts on the backend
    expected_tokens: float  # answer tokens expected under the budget, over all choices

    @property
    def digest(self) -> str:
        """Names the Observation. Worked out when it is asked for: a Record needs it, an answer does not wait for it."""
        return self.observation.digest()

    @property
    def propensity(self) -> float:
        """The probability with which this action was chosen."""
        return self.probabilities[self.index]


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
    usd: float = 0.0  # paid to others for it
