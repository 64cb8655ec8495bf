"""The one mutable bookkeeping of all backends.

Facts
    A proxy knows exactly what it has begun and not yet ended, at once and without asking. What others have sent to the same backend
    it knows only from the backend's own reports, which are late and sometimes absent. Both are wanted: the first for its speed, the
    second for its truth.

Goals
    Every `begin` is matched by one `end`, whatever happens between; counts then return to zero by themselves, so nothing here clamps
    at zero to hide a leak. Time comes in as `now`, so that a simulator runs the very same books.

Plan
    Books are columns of plain floats, a column per quantity and a place per backend, so that a picture (`view`) is one copy and every
    change one number; what changes them is numeric (see `numeric`), so that a compiled simulation keeps the same books.
    A backend's load is what is ours plus what is foreign. At a report, foreign = what it says beyond what we have there; between reports
    foreign fades, because nobody knows. Work of sibling processes is ours too; it comes in through `siblings`.
    What answers took is compared with what was predicted (`pace`), and later predictions are corrected by it.
"""

import math
from collections import deque
from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any

from bestserve.profiles.schema import Engine

from . import books as bk
from . import circuit as ct
from .books import Kept, Open, Paces
from .circuit import CircuitRules, CircuitState
from .encode import N_FEATURES, QUALITY, TOKENS, TPOT, TTFT, Observation, to_read
from .facts import KNOWN, LONGER, TASKS, Backend, Columns, Constants, Decision, Ending, FleetView, Floats, Load, Outcome, knowledge_of

__all__ = ["CircuitRules", "CircuitState", "Fleet", "Ticket"]

RATE_S = 2.0
"""Over about so long the rate of arrivals is smoothed: a burst has its price while it lasts (docs/decisions/0027)."""

SILENT_S = 60.0
"""A prompt of which nobody hears is taken as read after so long, whatever was predicted; who waits for it has been answered or has gone."""

RECENT = 64
"""Recent asks that prices are made of."""


@dataclass(slots=True)
class _Entry:
    """What is kept of one backend beside its place in the columns."""

    backend: Backend
    ready: bool | None = None  # last probe; None before the first
    load: Load | None = None
    other: tuple[Engine, tuple[Paces, Paces]] | None = None  # what was believed of it before, and its paces beside that: of one place


@dataclass(slots=True)
class Ticket:
    """A begun attempt. Whoever holds it gives it back to `end`, once."""

    decision: Decision
    name: str  # of the backend
    begun: float
    prefill: float  # tokens still to be read
    decode: float
    kv: float
    predicted: tuple[float, float] = (0.0, 0.0)  # seconds to the first token, and for each after it; 0 when nothing was
    paces: tuple[float, float] = (1.0, 1.0)  # that these predictions held by
    haste: float = 0.0  # 1 / expected tokens of an answer
    worth: float = 0.0  # of an answer on time: weight and expected quality
    first: float | None = None  # when the first token came
    written: float = 0.0  # tokens of one choice
    engine: Engine | None = None  # what was believed of the backend's
    trial: bool = False
    ended: bool = False


USUAL = CircuitRules()


class Fleet:
    """observe · begin · end · view. See the head of this file."""

    def __init__(self, backends: Iterable[Backend], rules: CircuitRules = USUAL) -> None:
        self.rules = rules
        self._entries: list[_Entry] = []
        self._order: tuple[Backend, ...] = ()
        self._column: dict[str, int] = {}
        self._leaving: dict[str, Open] = {}  # the books of removed backends with attempts still open
        self._kept, self._siblings, self._with_siblings = Kept.of(0), Open.of(0), False
        self._rate = self._rate_of_siblings = 0.0
        self._rate_at = -math.inf
        self._prices: list[float] = []
        self.recent: deque[Observation] = deque(maxlen=RECENT)  # of recent asks; see `price`
        self._silent: list[tuple[float, int, Ticket]] = []  # a heap: attempts that say nothing before their end, and when they are read
        self._number = count()
        self.replace(backends)

    # --- who belongs to the fleet ---

    def replace(self, backends: Iterable[Backend]) -> None:
        """Add and remove backends, or believe otherwise of them. Open attempts keep their books until they end; those of a removed backend
        are then forgotten. One of which another speed is believed now begins at a pace of 1, or at the one it had when that was believed
        last, since two policies that take turns may believe differently. Prices stay where nobody comes or goes."""
        wanted = {backend.name: backend for backend in backends}
        before, n = self._column, len(wanted)
        for name, i in before.items():
            if self._kept.open.requests[i]:
                self._leaving[name] = Open(*([cells[i]] for cells in self._kept.open))
        after, entries = Kept.of(n), []
        for i, (name, backend) in enumerate(wanted.items()):
            entry = _Entry(backend)
            if name in before:
                entry = self._entries[before[name]]
                self._carry(entry, before[name], after, i, backend.profile.engine)
                entry.backend = backend
            if name in self._leaving:
                _carry(self._leaving.pop(name), 0, after.open, i)
            entries.append(entry)
        self._kept, self._siblings, self._with_siblings = after, Open.of(n), False
        self._entries, self._order = entries, tuple(wanted.values())
        self._column = {name: i for i, name in enumerate(wanted)}
        self._constants, self._knowledge = self._with_limits(Constants.of(self._order)), knowledge_of(self._order)
        self._most = [math.inf if b.max_in_flight is None else float(b.max_in_flight) for b in self._order]
        if list(before) != list(wanted):
            self._prices = [0.0] * n
        self.recent.clear()

    def _with_limits(self, constants: Constants) -> Constants:
        """With what the backends have said of their own limits."""
        for b, entry in enumerate(self._entries):
            if entry.load is not None:
                constants = constants.with_limits(b, entry.load.max_running, entry.load.kv_tokens)
        return constants

    def _carry(self, entry: _Entry, i: int, after: Kept, j: int, engine: Engine) -> None:
        """Carry what is kept of a backend into another table. Its paces are beside what is believed of its engine."""
        kept, believed = self._kept, entry.backend.profile.engine
        _carry(kept.reports, i, after.reports, j)
        _carry(kept.circuits, i, after.circuits, j)
        paces = kept.first, kept.each
        if engine != believed:
            aside, known = (Paces.of(1), Paces.of(1)), entry.other
            for old, new in zip(paces, aside, strict=True):
                _carry(old, i, new, 0)
            entry.other = (believed, aside)
            paces, i = known[1] if known is not None and known[0] == engine else (Paces.of(1), Paces.of(1)), 0
        for old, new in zip(paces, (after.first, after.each), strict=True):
            _carry(old, i, new, j)

    def expect_longer(self, backend: str, task: str, log: float) -> None:
        """From now on a backend's answers to a task are this much longer than was predicted: the log of a factor. See `drift`."""
        if backend in self._column:
            self._knowledge = self._knowledge.copy()  # views hold the one before
            self._knowledge[self._column[backend] * KNOWN + LONGER, TASKS.index(task)] = log

    @property
    def backends(self) -> tuple[Backend, ...]:
        """In the order of every column over backends."""
        return self._order

    @property
    def names(self) -> tuple[str, ...]:
        """The backends' names, in the same order."""
        return tuple(self._column)

    def backend(self, name: str) -> Backend:
        """One backend. Raises KeyError for an unknown name."""
        return self._order[self._column[name]]

    # --- what the world tells us ---

    def observe(self, name: str, load: Load, now: float) -> None:
        """Take a backend's own report of its load, and of its limits, which it knows better than its profile does."""
        b = self._column.get(name)
        if b is None:
            return
        self._entries[b].load = load
        ours = bk.total(self._kept.open, self._siblings)
        bk.hear(self._kept.reports, ours, b, float(load.running), float(load.waiting), float(load.used_tokens), now)
        self._constants = self._constants.with_limits(b, load.max_running, load.kv_tokens)

    def ready(self, name: str, ready: bool, now: float) -> None:
        """Take the answer of a backend's readiness probe."""
        b = self._column.get(name)
        if b is not None:
            self._entries[b].ready = ready
            ct.probed(self._kept.circuits, self.rules, b, now, ready)

    def siblings(self, sums: Open, rate: float = 0.0) -> None:
        """Take the books of the other worker processes, and the requests a second that come to them now."""
        self._rate_of_siblings = rate
        if len(sums.requests) == len(self._order):
            self._siblings, self._with_siblings = sums, True

    def arrive(self, now: float) -> None:
        """Count one request, for the arrival rate."""
        self._rate = self.own_rate(now) + 1.0 / RATE_S
        self._rate_at = now

    def note(self, observation: Observation) -> None:
        """Remember what a recent ask would get and cost at each action: what prices are made of."""
        self.recent.append(observation)

    def set_prices(self, prices: Floats) -> None:
        """Set the price of a second of each backend, (B,)."""
        if len(prices) == len(self._prices):
            self._prices = list(map(float, prices))

    # --- attempts ---

    def begin(self, decision: Decision, now: float, *, silent: bool = False) -> Ticket:
        """Open an attempt on the chosen backend. Raises ValueError for a Shed. Of a `silent` one nothing is heard before it ends: its
        prompt is taken as read when it should have been."""
        name = decision.action.backend
        if name is None:
            raise ValueError("a shed request is not begun on any backend")
        ticket = Ticket(decision, name, now, _unread(decision), decision.expected_tokens, float(decision.prompt_tokens))
        b, row, features = self._column.get(name), decision.index * N_FEATURES, decision.observation.features
        ticket.haste, ticket.worth = 1.0 / features[row + TOKENS], decision.observation.weight * features[row + QUALITY]
        if b is not None:
            ticket.trial = ct.try_out(self._kept.circuits, self.rules, b, now)
            ticket.paces = bk.pace_of(self._kept.first, b, now), bk.pace_of(self._kept.each, b, now)
            ticket.predicted = features[row + TTFT], features[row + TPOT]
            ticket.engine = self._order[b].profile.engine
        if silent:
            heappush(self._silent, (now + min(ticket.predicted[0], SILENT_S), next(self._number), ticket))
        bk.add(*self._books(name), 1.0, ticket.prefill, ticket.decode, ticket.kv, ticket.haste, ticket.worth)
        return ticket

    def progress(self, ticket: Ticket, tokens: int, now: float) -> None:
        """Count answer tokens that have arrived, over all choices; the first ones say that the prompt has been read."""
        books, b = self._books(ticket.name)
        fewer, each = min(ticket.decode, float(tokens)), tokens / ticket.decision.observation.seen.asked.n
        bk.add(books, b, 0.0, -ticket.prefill, -fewer, float(tokens), 0.0, 0.0)
        if ticket.first is None:
            ticket.first = now
            bk.write(books, b, 1.0, each, now)
        else:
            bk.write(books, b, 0.0, each, 0.0)
        ticket.prefill = 0.0
        ticket.decode -= fewer
        ticket.kv += tokens
        ticket.written += each

    def end(self, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """Close an attempt. A second call for the same ticket is a bug and raises RuntimeError."""
        if ticket.ended:
            raise RuntimeError(f"the attempt of decision {ticket.decision.id} ended twice")
        ticket.ended = True
        books, place = self._books(ticket.name)
        bk.add(books, place, -1.0, -ticket.prefill, -ticket.decode, -ticket.kv, -ticket.haste, -ticket.worth)
        if ticket.first is not None:
            bk.write(books, place, -1.0, -ticket.written, -ticket.first)
        if ticket.name in self._leaving and not books.requests[0]:
            del self._leaving[ticket.name]
        b = self._column.get(ticket.name)
        if b is not None:
            self._heal(b, ticket, outcome, now)
            self._time(b, ticket, outcome, now)

    # --- what is asked of us ---

    def view(self, now: float) -> FleetView:
        """A frozen picture of this instant."""
        self._read_silent(now)
        picture = bk.Look.of(len(self._order))
        kept = self._kept._replace(open=bk.total(self._kept.open, self._siblings)) if self._with_siblings else self._kept
        bk.look(picture, kept, self._constants.max_running, self._most, now)
        columns = Columns(now, self.arrival_rate(now), *picture[:-2], self._prices, *picture[-2:])
        return FleetView(self._order, self._constants, columns, self._knowledge)

    def arrival_rate(self, now: float) -> float:
        """Requests a second over about the last RATE_S seconds, those of sibling processes as they were last heard of."""
        return self.own_rate(now) + self._rate_of_siblings

    def own_rate(self, now: float) -> float:
        """Those that came to this process."""
        return bk.rate_after(self._rate, self._rate_at, now, RATE_S)

    def books(self) -> Open:
        """This process's own open work."""
        return bk.copy(self._kept.open)

    def in_flight(self) -> dict[str, int]:
        """This process's open attempts by backend, removed backends included until their last attempt has ended."""
        here = {name: round(self._kept.open.requests[i]) for name, i in self._column.items()}
        return here | {name: round(books.requests[0]) for name, books in self._leaving.items()}

    def circuit(self, name: str, now: float) -> CircuitState:
        """The state of one backend's circuit. Raises KeyError for an unknown name."""
        return ct.state_of(self._kept.circuits, self._column[name], now)

    def is_up(self, name: str, now: float) -> bool:
        """Whether the backend has answered its last probe and its circuit is not open."""
        return bool(self._entries[self._column[name]].ready) and self.circuit(name, now) is not CircuitState.OPEN

    def load_of(self, name: str) -> tuple[Load | None, float]:
        """A backend's last report and when it came."""
        b = self._column[name]
        return self._entries[b].load, self._kept.reports.at[b]

    # --- below: how ---

    def _read_silent(self, now: float) -> None:
        while self._silent and self._silent[0][0] <= now:
            ticket = heappop(self._silent)[2]
            if not ticket.ended:
                bk.add(*self._books(ticket.name), 0.0, -ticket.prefill, 0.0, 0.0, 0.0, 0.0)
                ticket.prefill = 0.0

    def _books(self, name: str) -> tuple[Open, int]:
        """Where a backend's open work is counted, whether it stays or leaves."""
        b = self._column.get(name)
        return (self._kept.open, b) if b is not None else (self._leaving.setdefault(name, Open.of(1)), 0)

    def _heal(self, b: int, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """What a request met says about the backend's health."""
        circuits = self._kept.circuits
        if ticket.trial:
            circuits.trial_until[b] = -math.inf
        match outcome.ending:
            case Ending.DONE | Ending.REJECTED:
                ct.succeed(circuits, b)
            case Ending.REFUSED if outcome.reason in GENTLE:
                if outcome.reason == "queue_full":
                    circuits.held_until[b] = now + ct.HOLD_S
                if ticket.trial and outcome.reason not in OURS:  # it answered, if only to say no
                    ct.succeed(circuits, b)
            case Ending.REFUSED | Ending.BROKE:
                ct.fail(circuits, self.rules, b, now)
            case _:
                pass

    def _time(self, b: int, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """What a streamed answer took, beside what was predicted. (Of an answer in one piece the parts are not known.)"""
        tokens = outcome.completion_tokens or 0
        if outcome.ending is not Ending.DONE or outcome.ttft_s is None or ticket.engine != self._order[b].profile.engine:
            return  # the paces are beside what is believed now, and that was predicted by another belief
        bk.learn_pace(self._kept.first, b, now, outcome.ttft_s, ticket.predicted[0], ticket.paces[0])
        if tokens > 1:
            each = (outcome.total_s - outcome.ttft_s) / (tokens - 1)
            bk.learn_pace(self._kept.each, b, now, each, ticket.predicted[1], ticket.paces[1])


def _unread(decision: Decision) -> float:
    """Prompt tokens that the chosen backend has to read, but for what it is expected to remember."""
    seen = decision.observation.seen
    b = decision.index // len(seen.caps.tokens)
    return to_read(float(decision.prompt_tokens), seen.cached[b], seen.constants.cached_cost[b])


def _carry(old: Iterable[MutableSequence[Any]], i: int, new: Iterable[MutableSequence[Any]], j: int) -> None:
    """Carry one backend's place from one set of columns to another."""
    for before, after in zip(old, new, strict=True):
        after[j] = before[i]


OURS = frozenset({"rate_limit", "spend_cap", "spend_unknown"})
"""Refusals of our own: the backend was not asked."""

GENTLE = OURS | {"queue_full", "context", "rate_limited", "quota_spent", "unfit"}
"""Refusals that say nothing bad about a backend's health."""
