"""The one mutable bookkeeping of all backends.

Facts
    A proxy knows exactly what it has begun and not yet ended, at once and without asking. What others have sent to the same backend
    it knows only from the backend's own reports, which are late and sometimes absent. Both are wanted: the first for its speed, the
    second for its truth.

Goals
    Every `begin` is matched by one `end`, whatever happens between; counts then return to zero by themselves, so nothing here clamps
    at zero to hide a leak. Time comes in as `now`, so that a simulator runs the very same books.

Plan
    Books are a matrix, a row per quantity and a column per backend, so that a picture (`view`) is one copy.
    A backend's load is what is ours plus what is foreign. At a report, foreign = what it says beyond what we have there; between reports
    foreign fades, because nobody knows. Work of sibling processes is ours too; it comes in through `siblings`.

    The circuit of a backend counts failures in a row: at `failures` it opens for `open_s`; then one request is let through as a trial
    (half-open); if that succeeds the circuit closes, if not it opens again for twice as long, up to MOST_OPEN_S. Probes that fail in a
    row open it too. A probe that finds the backend ready closes a circuit that only probes had opened; where requests had failed it ends
    the waiting, and a request has to close it. A full queue is no failure: it only holds the backend back for
    HOLD_S, and not even that when nobody else could answer.

What is not handled
    Which process of several makes the half-open trial: each makes its own.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from .facts import Backend, Constants, Decision, Ending, FleetView, Floats, Load, Outcome

HOLD_S = 0.2
MOST_OPEN_S = 60.0
FADE_S = 10.0
RATE_S = 10.0

_IN_FLIGHT, _PREFILL, _DECODE, _KV = range(4)
_ROWS = 4


class CircuitState(StrEnum):
    """Whether a backend is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class _Circuit:
    failures: int = 0  # requests in a row
    misses: int = 0  # probes in a row
    open_until: float = -math.inf
    open_s: float = 0.0
    opened: bool = False
    trial_until: float = -math.inf

    def state(self, now: float) -> CircuitState:
        if not self.opened:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.open_until else CircuitState.HALF_OPEN

    def lets_through(self, now: float) -> bool:
        return not self.opened or (now >= self.open_until and now >= self.trial_until)


@dataclass(slots=True)
class _Entry:
    """What is kept of one backend beside its column in the matrix."""

    backend: Backend
    circuit: _Circuit = field(default_factory=_Circuit)
    ready: bool | None = None  # last probe; None before the first
    load: Load | None = None
    load_at: float = -math.inf
    foreign: Floats = field(default_factory=lambda: np.zeros(_ROWS))
    held_until: float = -math.inf


@dataclass(slots=True)
class Ticket:
    """A begun attempt. Whoever holds it gives it back to `end`, once."""

    decision: Decision
    column: str
    begun: float
    prefill: float
    decode: float
    kv: float
    trial: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """When a backend is left alone, and for how long."""

    failures: int = 3  # in a row
    open_s: float = 5.0
    trial_s: float = 30.0  # how long one trial keeps the others out


class Fleet:
    """observe · begin · end · view. See the head of this file."""

    def __init__(self, backends: Iterable[Backend], rules: CircuitRules = CircuitRules()) -> None:
        self.rules = rules
        self._entries: dict[str, _Entry] = {}
        self._order: tuple[Backend, ...] = ()
        self._column: dict[str, int] = {}
        self._leaving: dict[str, Floats] = {}  # the books of removed backends with attempts still open
        self._books = np.zeros((_ROWS, 0))
        self._siblings = np.zeros((_ROWS, 0))
        self._rate = 0.0
        self._rate_at = -math.inf
        self.recent: deque[tuple[Floats, Floats, float]] = deque(maxlen=64)  # (quality, work, weight) of recent asks; see `price`
        self.replace(backends)

    # --- who belongs to the fleet ---

    def replace(self, backends: Iterable[Backend]) -> None:
        """Add and remove backends. Open attempts keep their books until they end; those of a removed backend are then forgotten."""
        wanted = {backend.name: backend for backend in backends}
        books, siblings = np.zeros((_ROWS, len(wanted))), np.zeros((_ROWS, len(wanted)))
        self._leaving |= {name: self._books[:, i].copy() for name, i in self._column.items() if self._books[_IN_FLIGHT, i]}
        for i, name in enumerate(wanted):
            books[:, i] = self._leaving.pop(name, 0.0)
        entries = {name: self._entries.get(name) or _Entry(backend) for name, backend in wanted.items()}
        for name, backend in wanted.items():
            entries[name].backend = backend
        self._entries, self._books, self._siblings = entries, books, siblings
        self._order = tuple(wanted.values())
        self._column = {name: i for i, name in enumerate(wanted)}
        self._constants = Constants.of(self._order)
        self._prices = np.zeros(len(wanted))
        self.recent.clear()

    @property
    def backends(self) -> tuple[Backend, ...]:
        """In the order of every array over backends."""
        return self._order

    @property
    def names(self) -> tuple[str, ...]:
        """The backends' names, in the same order."""
        return tuple(self._column)

    def backend(self, name: str) -> Backend:
        """One backend. Raises KeyError for an unknown name."""
        return self._entries[name].backend

    # --- what the world tells us ---

    def observe(self, name: str, load: Load, now: float) -> None:
        """Take a backend's own report of its load."""
        entry = self._entries.get(name)
        if entry is None:
            return
        column = self._column[name]
        ours = self._books[:, column] + self._siblings[:, column]
        entry.load, entry.load_at = load, now
        foreign = max(0.0, load.running + load.waiting - ours[_IN_FLIGHT])
        entry.foreign = np.array([foreign, 0.0, 0.0, max(0.0, load.used_tokens - ours[_KV]) if foreign else 0.0])
        entry.foreign[_DECODE] = foreign * self._mean_decode(column)
        self._limits(column, load)

    def ready(self, name: str, ready: bool, now: float) -> None:
        """Take the answer of a backend's readiness probe."""
        entry = self._entries.get(name)
        if entry is None:
            return
        entry.ready, circuit = ready, entry.circuit
        if not ready:
            circuit.misses += 1
            self._judge(circuit, now)
            return
        if circuit.opened and not circuit.failures:
            entry.circuit = _Circuit()
        elif circuit.opened and circuit.misses:
            circuit.open_until = min(circuit.open_until, now)
        circuit.misses = 0

    def siblings(self, sums: Floats) -> None:
        """Take the books of the other worker processes, (4, B): requests, prefill, decode and context tokens."""
        if sums.shape == self._siblings.shape:
            self._siblings = sums

    def arrive(self, now: float) -> None:
        """Count one request, for the arrival rate."""
        self._rate = self.arrival_rate(now) + 1.0 / RATE_S
        self._rate_at = now

    def note(self, quality: Floats, work: Floats, weight: float) -> None:
        """Remember what a recent ask would get and cost at each action, each (B, K), and its weight: what prices are made of."""
        self.recent.append((quality, work, weight))

    def set_prices(self, prices: Floats) -> None:
        """Set the price of a second of each backend, (B,)."""
        if prices.shape == self._prices.shape:
            self._prices = prices

    # --- attempts ---

    def begin(self, decision: Decision, now: float) -> Ticket:
        """Open an attempt on the chosen backend. Raises ValueError for a Shed."""
        name = decision.action.backend
        if name is None:
            raise ValueError("a shed request is not begun on any backend")
        ticket = Ticket(decision, name, now, float(decision.prompt_tokens), decision.expected_tokens, float(decision.prompt_tokens))
        entry = self._entries.get(name)
        if entry is not None and entry.circuit.opened:
            ticket.trial, entry.circuit.trial_until = True, now + self.rules.trial_s
        self._add(ticket, 1.0, ticket.prefill, ticket.decode, ticket.kv)
        return ticket

    def progress(self, ticket: Ticket, tokens: int) -> None:
        """Count answer tokens that have arrived; the first ones say that the prompt has been read."""
        fewer = min(ticket.decode, float(tokens))
        self._add(ticket, 0.0, -ticket.prefill, -fewer, float(tokens))
        ticket.prefill = 0.0
        ticket.decode -= fewer
        ticket.kv += tokens

    def end(self, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """Close an attempt. A second call for the same ticket is a bug and raises RuntimeError."""
        if ticket.ended:
            raise RuntimeError(f"the attempt of decision {ticket.decision.id} ended twice")
        ticket.ended = True
        self._add(ticket, -1.0, -ticket.prefill, -ticket.decode, -ticket.kv)
        entry = self._entries.get(ticket.column)
        if entry is not None:
            self._learn(entry, ticket, outcome, now)

    # --- what is asked of us ---

    def view(self, now: float) -> FleetView:
        """A frozen picture of this instant."""
        books = self._books + self._siblings
        ages, places = np.empty(len(self._order)), self._constants.max_running.copy()
        usable = np.empty(len(self._order), dtype=np.bool_)
        held = np.empty(len(self._order), dtype=np.bool_)
        for i, entry in enumerate(self._entries.values()):
            ages[i] = age = now - entry.load_at
            if entry.load is not None and entry.load.waiting and age < FADE_S:
                places[i] = min(places[i], max(entry.load.running, 1))
            if entry.foreign[0]:
                books[:, i] += entry.foreign * math.exp(-age / FADE_S)
            most = entry.backend.max_in_flight
            usable[i] = entry.circuit.lets_through(now) and (most is None or books[_IN_FLIGHT, i] < most)
            held[i] = now < entry.held_until
        return FleetView(
            now=now,
            backends=self._order,
            constants=self._constants,
            usable=usable,
            held=held,
            in_flight=books[_IN_FLIGHT],
            prefill_tokens=books[_PREFILL],
            decode_tokens=books[_DECODE],
            kv_tokens=books[_KV],
            places=places,
            report_age_s=ages,
            price=self._prices,
            arrival_rate=self.arrival_rate(now),
        )

    def arrival_rate(self, now: float) -> float:
        """Requests a second over about the last RATE_S seconds."""
        return self._rate * math.exp(-(now - self._rate_at) / RATE_S) if self._rate else 0.0

    def books(self) -> Floats:
        """This process's own open work, (4, B): requests, prefill, decode and context tokens."""
        return self._books.copy()

    def in_flight(self) -> dict[str, int]:
        """This process's open attempts by backend, removed backends included until their last attempt has ended."""
        here = {name: round(self._books[_IN_FLIGHT, i]) for name, i in self._column.items()}
        return here | {name: round(books[_IN_FLIGHT]) for name, books in self._leaving.items()}

    def circuit(self, name: str, now: float) -> CircuitState:
        """The state of one backend's circuit. Raises KeyError for an unknown name."""
        return self._entries[name].circuit.state(now)

    def is_up(self, name: str, now: float) -> bool:
        """Whether the backend has answered its last probe and its circuit is not open."""
        entry = self._entries[name]
        return bool(entry.ready) and entry.circuit.state(now) is not CircuitState.OPEN

    def load_of(self, name: str) -> tuple[Load | None, float]:
        """A backend's last report and when it came."""
        entry = self._entries[name]
        return entry.load, entry.load_at

    # --- below: how ---

    def _add(self, ticket: Ticket, requests: float, prefill: float, decode: float, kv: float) -> None:
        column = self._column.get(ticket.column)
        if column is not None:
            books = self._books  # one number at a time: a quarter of the time of a column at once
            books[_IN_FLIGHT, column] += requests
            books[_PREFILL, column] += prefill
            books[_DECODE, column] += decode
            books[_KV, column] += kv
        else:
            self._add_leaving(ticket.column, np.array((requests, prefill, decode, kv)))

    def _add_leaving(self, name: str, change: Floats) -> None:
        books = self._leaving.get(name, 0.0) + change
        if books[_IN_FLIGHT]:
            self._leaving[name] = books
        else:
            self._leaving.pop(name, None)

    def _learn(self, entry: _Entry, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """What a request met says about the backend's health."""
        if ticket.trial:
            entry.circuit.trial_until = -math.inf
        match outcome.ending:
            case Ending.DONE | Ending.REJECTED:
                entry.circuit = _Circuit()
            case Ending.REFUSED if outcome.reason in GENTLE:
                if outcome.reason == "queue_full":
                    entry.held_until = now + HOLD_S
                if ticket.trial:  # it answered, if only to say no
                    entry.circuit = _Circuit()
            case Ending.REFUSED | Ending.BROKE:
                entry.circuit.failures += 1
                self._judge(entry.circuit, now)
            case _:
                pass

    def _judge(self, circuit: _Circuit, now: float) -> None:
        """After a failure: open the circuit, or open it again for longer when the trial failed."""
        if circuit.opened:
            if now >= circuit.open_until:
                circuit.open_s = min(2 * circuit.open_s, MOST_OPEN_S)
                circuit.open_until = now + circuit.open_s
        elif max(circuit.failures, circuit.misses) >= self.rules.failures:
            circuit.opened, circuit.open_s = True, self.rules.open_s
            circuit.open_until = now + circuit.open_s

    def _mean_decode(self, column: int) -> float:
        ours = self._books[_IN_FLIGHT, column]
        return float(self._books[_DECODE, column] / ours) if ours else 0.0

    def _limits(self, column: int, load: Load) -> None:
        """A backend knows its own limits better than its profile does."""
        self._constants = self._constants.with_limits(column, load.max_running, load.kv_tokens)


GENTLE = frozenset({"queue_full", "context", "rate_limited"})
"""Refusals that say nothing bad about a backend's health."""
