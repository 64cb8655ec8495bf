"""Whom a request may be sent to as far as rates and money go: what the operator allows, and what a provider has just refused.

A backend with a price, a rate limit or a provider behind it has a Gate. A gate that is shut masks its backend, so that the policy chooses
among the others; one that shuts between the choice and the sending refuses, and the walk goes on elsewhere. What is entered is left, with
what it cost, in the same `finally` that closes an attempt's books. Backends without a gate cost a look into a dict.
"""

import logging
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bestserve.policy.facts import FREE, Ask, Decision, Ending, Outcome, Tariff

from .config import BackendConfig, Config
from .errors import Refused
from .purse import DAY_MIN, HOUR_MIN, Caps, Hold, Purse

log = logging.getLogger("bestserve")

FILE = "spend.db"
MINUTE_S = 60.0
PROMPT_MARGIN = 2.0
"""Money is set aside for a prompt of so many times the tokens that its size suggests."""

RETRY_S = {"rate_limited": 1.0, "quota_spent": 60.0}
"""How long a provider is left alone that said so, where it did not say for how long."""

MOST_RETRY_S = 600.0
REFRESH_S = 1.0
"""How old our knowledge may be of what sibling processes have spent."""

FORGET_S = 3600.0
"""Time between two clearings of the book of what no window reaches any more."""

NOBODY: frozenset[str] = frozenset()


class Window:
    """How much was taken in the last minute, of at most `most`."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._taken: deque[list[float]] = deque()  # [when, how much]
        self._sum = 0.0

    def has_room(self, now: float, amount: float) -> bool:
        """Whether so much more may be taken. Whatever is asked for at once may be, where nothing else was."""
        while self._taken and self._taken[0][0] <= now - MINUTE_S:
            self._sum -= self._taken.popleft()[1]
        return not self._taken or self._sum + amount <= self._most

    def take(self, now: float, amount: float) -> list[float]:
        """Take so much; what is returned may be put right by `correct`."""
        entry = [now, amount]
        self._taken.append(entry)
        self._sum += amount
        return entry

    def correct(self, entry: list[float], amount: float) -> None:
        """It was another amount."""
        if self._taken and self._taken[0][0] <= entry[0]:
            self._sum += amount - entry[1]
            entry[1] = amount


@dataclass(slots=True)
class Gate:
    """One backend's."""

    tariff: Tariff
    answer_tokens: int
    requests: Window
    tokens: Window
    shut_until: float = -math.inf  # the provider's own word
    left: float = math.inf  # money, as far as we know
    left_at: float = -math.inf

    def worst_usd(self, ask: Ask, cap: int | None) -> float:
        """The most that a request may cost, and more than it will; `cap` is on each of its answers."""
        return self.tariff.usd(ask.prompt_tokens * PROMPT_MARGIN, ask.n * (cap or self.answer_tokens))

    def usd(self, ask: Ask, outcome: Outcome, seen: int, held: float) -> float:
        """What an attempt cost. Where the provider did not count, what was seen of it is; of a whole answer, all that was held."""
        if outcome.prompt_tokens is not None:
            return self.tariff.usd(outcome.prompt_tokens, outcome.completion_tokens or 0, outcome.cached_tokens or 0)
        if outcome.ending is Ending.REJECTED or (outcome.ending is Ending.REFUSED and outcome.reason not in _BILLED):
            return 0.0
        if outcome.ending is Ending.DONE and not seen:
            return held
        return self.tariff.usd(ask.prompt_tokens, seen)


_BILLED = ("timeout", "empty_answer", "broke_while_refusing")
"""Refusals of ours: the provider was at work."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A request that was let through."""

    gate: Gate
    ask: Ask
    held: Hold | None
    tokens: list[float]


@dataclass(slots=True)
class Gates:
    """The gates of one process."""

    wall: Callable[[], float]
    _gates: dict[str, Gate] = field(default_factory=dict)
    _purse: Purse | None = None
    _path: Path | None = None
    _failed: bool = False
    _forgot_at: float = -math.inf

    def adopt(self, config: Config) -> None:
        """Allow what another config allows. Rates begin anew; money does not."""
        before, gated = self._gates, [b for b in config.backends if _is_gated(b)]
        share = 1 / config.listen.workers
        self._gates = {b.name: _gate(b, share) for b in gated}
        for name, gate in self._gates.items():
            if name in before:
                gate.shut_until = before[name].shut_until
        caps = {b.name: Caps(b.spend.usd_per_hour, b.spend.usd_per_day) for b in gated}
        path = config.state_dir / FILE if any(gate.tariff != FREE for gate in self._gates.values()) else None
        if path != self._path:
            self.close()
            self._path = path
            self._open(caps)
        if self._purse is not None:
            self._purse.caps = caps

    def _open(self, caps: Mapping[str, Caps]) -> None:
        try:
            self._purse = None if self._path is None else Purse(self._path, caps)
        except (OSError, sqlite3.Error) as error:
            self._say(error)

    def close(self) -> None:
        """Let go of the book."""
        if self._purse is not None:
            self._purse.close()
        self._purse = self._path = None

    def shut(self, ask: Ask, now: float) -> frozenset[str]:
        """The backends that this request may not be sent to now."""
        if not self._gates:
            return NOBODY
        return frozenset(name for name, gate in self._gates.items() if name in ask.allowed and not self._is_open(name, gate, ask, now))

    def enter(self, decision: Decision, ask: Ask, cap: int | None, now: float) -> Grant | None:
        """Let a request through to the backend that was chosen, holding its money. Raises Refused. None where there is no gate."""
        name = str(decision.action.backend)
        gate = self._gates.get(name)
        if gate is None:
            return None
        tokens = ask.prompt_tokens + decision.expected_tokens
        if not (gate.requests.has_room(now, 1) and gate.tokens.has_room(now, tokens)):
            raise Refused("rate_limit")
        held = self._hold(name, gate, gate.worst_usd(ask, cap))
        gate.requests.take(now, 1)
        return Grant(gate, ask, held, gate.tokens.take(now, tokens))

    def leave(self, grant: Grant, outcome: Outcome, seen: int) -> float:
        """The request is over: what it cost. `seen` are the tokens that we saw pass."""
        gate, held = grant.gate, grant.held
        usd = gate.usd(grant.ask, outcome, seen, 0.0 if held is None else held.usd)
        if outcome.prompt_tokens is not None:
            gate.tokens.correct(grant.tokens, outcome.prompt_tokens + (outcome.completion_tokens or 0))
        if held is not None and self._purse is not None:
            try:
                self._purse.settle(held, usd)
                gate.left += held.usd - usd
            except sqlite3.Error as error:  # it stays held, and counts as spent
                self._say(error)
        return usd

    def refused(self, decision: Decision, refusal: Refused, now: float) -> None:
        """A backend said no, perhaps for a while."""
        gate = self._gates.get(str(decision.action.backend))
        wait = refusal.retry_after_s if refusal.retry_after_s is not None else RETRY_S.get(refusal.reason)
        if gate is not None and wait is not None:
            gate.shut_until = max(gate.shut_until, now + min(wait, MOST_RETRY_S))

    def spent(self) -> Iterable[tuple[str, str, float, float]]:
        """(backend, window, spent, cap) of every cap."""
        if self._purse is None:
            return
        try:
            for name, caps in self._purse.caps.items():
                for window, cap, minutes in (("hour", caps.hour, HOUR_MIN), ("day", caps.day, DAY_MIN)):
                    if cap is not None:
                        yield name, window, self._purse.spent(name, minutes, self.wall()), cap
        except sqlite3.Error as error:
            self._say(error)

    def _is_open(self, name: str, gate: Gate, ask: Ask, now: float) -> bool:
        if now < gate.shut_until or not gate.requests.has_room(now, 1) or not gate.tokens.has_room(now, ask.prompt_tokens):
            return False
        if self._path is not None and now - gate.left_at > REFRESH_S:
            gate.left, gate.left_at = self._left(name, gate), now
        return gate.worst_usd(ask, ask.max_tokens) <= gate.left

    def _left(self, name: str, gate: Gate) -> float:
        """The money that is left for a backend: none where that cannot be told."""
        if gate.tariff == FREE:
            return math.inf
        if self._purse is None:
            return -math.inf
        try:
            if self.wall() - self._forgot_at > FORGET_S:
                self._purse.forget(self.wall())
                self._forgot_at = self.wall()
            return self._purse.left(name, self.wall())
        except sqlite3.Error as error:
            self._say(error)
            return -math.inf

    def _hold(self, name: str, gate: Gate, usd: float) -> Hold | None:
        if gate.tariff == FREE:
            return None
        if self._purse is None:
            raise Refused("spend_unknown")
        try:
            held = self._purse.hold(name, usd, self.wall())
        except sqlite3.Error as error:
            self._say(error)
            raise Refused("spend_unknown") from None
        self._failed = False
        if held is None:
            gate.left = min(gate.left, 0.0)
            raise Refused("spend_cap")
        gate.left -= usd
        return held

    def _say(self, error: Exception) -> None:
        if not self._failed:
            log.error("the book of what was paid, %s, cannot be used: %s; nothing is paid meanwhile", self._path, error)
        self._failed = True


def _is_gated(backend: BackendConfig) -> bool:
    limited = (backend.requests_per_minute, backend.tokens_per_minute) != (None, None)
    return backend.is_bought or limited or backend.engine == "openai"


def _gate(backend: BackendConfig, share: float) -> Gate:
    most = [math.inf if limit is None else limit * share for limit in (backend.requests_per_minute, backend.tokens_per_minute)]
    return Gate(backend.facts().tariff, backend.answer_tokens, Window(most[0]), Window(most[1]))
