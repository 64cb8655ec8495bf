"""What one serving process holds: fleet, policy, connections, keys, metrics. Made in `app.build`, adopted anew at every reload."""

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from bestserve.policy.calibration import calibrated
from bestserve.policy.decide import Chooser, actions_of, decide
from bestserve.policy.encode import Observation
from bestserve.policy.facts import SLO, Ask, Backend, Budget, Decision, FleetView, Outcome
from bestserve.policy.fleet import CircuitRules, Fleet, Ticket
from bestserve.policy.numeric import Column
from bestserve.policy.prefixes import NOTHING, Prefixes, Prompt, prompt_of
from bestserve.policy.price import prices, wanted
from bestserve.policy.record import Record

from .board import Board
from .choosers import ruled
from .config import BackendConfig, Config
from .deciders import Deciders
from .dialects import openai
from .dialects.beginning import pieces
from .errors import BadAsk, Forbidden, NotFound
from .gates import Gates
from .judge import Judge
from .keys import Keys
from .memory import Memory
from .metrics import Metrics
from .provider import Source
from .reading import Reading, ask_of
from .wire import Timeouts

log = logging.getLogger("bestserve")

RECENT = 1000
"""Records that are kept in memory, for /admin/records and tests."""

_PLAIN = (Budget(),)


@dataclass(slots=True)
class Serving:
    """Everything that a request meets. `adopt` is the only method that changes what the config decides."""

    config: Config
    clock: Callable[[], float]
    wall: Callable[[], float]
    draw: Callable[[], float]
    new_id: Callable[[], str]
    metrics: Metrics
    connect: Callable[[BackendConfig, Timeouts], Source]
    board: Board | None = None  # where there are sibling processes
    row: int = 0  # ours on the board
    memory: Memory = field(init=False)
    gates: Gates = field(init=False)
    judge: Judge = field(init=False)
    fleet: Fleet = field(init=False)
    deciders: Deciders = field(init=False)
    turn: Chooser = field(init=False)  # whose it is
    keys: Keys = field(init=False)
    passing: Chooser = field(init=False)  # of what is only passed on
    bought: frozenset[str] = field(init=False)  # backends whose answers are paid for
    began: float = field(init=False)
    upstreams: dict[str, Source] = field(init=False, default_factory=dict)
    reading: Reading = field(init=False, default_factory=Reading)
    prefixes: Prefixes = field(init=False, default_factory=Prefixes)
    _slos: dict[tuple[str, str | None], SLO] = field(init=False, default_factory=dict)
    _allowed: dict[str, frozenset[str]] = field(init=False, default_factory=dict)
    recent: deque[Record] = field(init=False, default_factory=lambda: deque(maxlen=RECENT))

    def __post_init__(self) -> None:
        self.began = self.wall()
        self.memory = Memory(self.metrics, wall=self.wall, clock=self.clock)
        self.gates = Gates(self.wall)
        self.judge = Judge(self.metrics, self.memory, self.wall, self.draw, self.clock)
        self.keys = Keys(self.config.keys)
        circuit = self.config.circuit
        self.fleet = Fleet((), CircuitRules(failures=circuit.failures, open_s=circuit.open_ms / 1000))
        self.deciders = Deciders(self.metrics, self.wall)
        self.adopt(self.config)

    # --- config ---

    def adopt(self, config: Config) -> None:
        """Serve by another config from the next request on. Requests under way keep their backend until they end."""
        before = {backend.name: backend for backend in self.config.backends}
        timeouts_changed = config.timeouts != self.config.timeouts
        for backend in config.backends:
            if timeouts_changed or backend.name not in self.upstreams or _moved(before.get(backend.name), backend):
                self._close(backend.name)
                self.prefixes.forget(backend.name)
                self.upstreams[backend.name] = self.connect(backend, timeouts_of(config))
        for name in set(self.upstreams) - {backend.name for backend in config.backends}:
            self._close(name)
            self._forget(name)
        self.fleet.rules = CircuitRules(failures=config.circuit.failures, open_s=config.circuit.open_ms / 1000)
        backends = config.facts()
        self.gates.adopt(config)
        self.judge.adopt(config)
        self.bought = frozenset(backend.name for backend in config.backends if backend.is_bought)
        self.deciders.adopt(config, backends)
        self.turn = self.chooser
        self.fleet.replace(calibrated(backends, self.turn.calibration))
        self.prefixes.adopt(backend for backend in self.fleet.backends if config.policy.prefixes and self._remembers(backend))
        self.passing = ruled("least-loaded", actions_of(self.fleet.backends, _PLAIN), _PLAIN)
        if config.keys != self.config.keys:  # a reload that changes no key gives nobody a new quota
            self.keys = Keys(config.keys)
        self.reading.adopt(config.classify, self.fleet.backends)
        for longer in self.reading.longer():
            self.fleet.expect_longer(*longer)
        for by in ("compiled", "plain", "nobody"):
            self.metrics.gauge("bestserve_classify_info", float(self.reading.by == by), by)
        self._slos.clear()
        self._allowed = _allowed(config)
        self.config = config

    def _hand_over(self, chooser: Chooser) -> None:
        """Let another policy decide from the next request on, and believe of the backends what it brings."""
        if chooser.calibration != self.turn.calibration:
            self.fleet.replace(calibrated(self.deciders.backends, chooser.calibration))
            self.reading.believe(self.fleet.backends)
            for longer in self.reading.longer():
                self.fleet.expect_longer(*longer)
        self.turn = chooser

    def close(self) -> None:
        """Close idle connections and the book of what was paid, and hand over what was counted."""
        self.metrics.flush()
        for upstream in self.upstreams.values():
            upstream.close()
        self.gates.close()

    def _remembers(self, backend: Backend) -> bool:
        """Whether a backend may remember prompts, and reads these faster. Of what is bought nobody knows."""
        return backend.name not in self.bought and backend.profile.engine.prefill_cached_cost < 1.0

    def _close(self, name: str) -> None:
        if name in self.upstreams:
            self.upstreams.pop(name).close()

    def _forget(self, name: str) -> None:
        for gauge in ("bestserve_inflight", "bestserve_price", "bestserve_backend_up", "bestserve_backend_load_age_seconds"):
            self.metrics.forget(gauge, name)
        for gauge in ("bestserve_spend_window_usd", "bestserve_spend_cap_usd"):
            for window in ("hour", "day"):
                self.metrics.forget(gauge, name, window)

    # --- one request ---

    def ask_of(
        self, parsed: openai.Parsed, *, tier: str, slo_s: dict[str, float], hint: str | None, session: str | None, overflow: bool = True
    ) -> tuple[Ask, str]:
        """The facts of a request, and the name of its likeliest task. Raises NotFound for a model that nobody serves, Forbidden for one
        that only paid backends serve where they may not be used, BadAsk for an unknown task."""
        hint = self._hint(parsed, hint)
        slo, allowed, begun = self._slo_for(tier, hint), self._usable(parsed.model, tier, overflow), self.clock()
        belief = self.reading.belief(parsed, hint, allowed)
        if belief.how:
            self.metrics.classified(belief.how, self.clock() - begun)
        ask = ask_of(
            parsed,
            belief,
            allowed=allowed,
            slo=replace(slo, **slo_s) if slo_s else slo,  # type: ignore[arg-type]
            tier=tier,
            weight=self.config.weight_for(tier),
            session=session,
            usd_weight=self.config.policy.usd_weight if parsed.model in self.config.models else 0.0,  # who names a price pays it
        )
        return ask, belief.name

    def _hint(self, parsed: openai.Parsed, header: str | None) -> str | None:
        """What the client says of the task, by header or in the metadata. Raises BadAsk for what is no task."""
        hint = parsed.metadata.get("task") if header is None else header
        if hint is not None and hint not in self.reading.names:
            said_in = "metadata.task" if header is None else "x-bestserve-task"
            raise BadAsk(f"{str(hint)[:100]!r} is not a task; there are {', '.join(self.reading.names)}.", param=said_in)
        return hint

    def _slo_for(self, tier: str, hint: str | None) -> SLO:
        slo = self._slos.get((tier, hint))
        if slo is None:
            slo = self._slos[tier, hint] = self.config.slo_for(tier, hint)
        return slo

    def allowed(self, model: str) -> frozenset[str]:
        """The backends that a model name admits: an alias's, a backend's own name, or all that serve a model. Raises NotFound."""
        allowed = self._allowed.get(model) or self._allowed.get(self.config.default_model or "")
        if allowed is None:
            raise NotFound(f"The model '{model}' does not exist.", param="model", code="model_not_found")
        return allowed

    def _usable(self, model: str, tier: str, overflow: bool) -> frozenset[str]:
        """The same, less those that are paid for where the request or its tier forbids them."""
        allowed = self.allowed(model)
        if not self.bought or (overflow and self.config.may_overflow(tier)) or not allowed & self.bought:
            return allowed
        if allowed <= self.bought:
            why = f"requests of tier '{tier}' may not overflow" if overflow else "the request says x-bestserve-overflow: never"
            raise Forbidden(f"Model '{model}' is only answered by backends that are paid for, and {why}.", param="model")
        return allowed - self.bought

    def prompt_of(self, ask: Ask, parsed: openai.Parsed) -> Prompt:
        """What is looked for in the backends' memories; NOTHING where none of them remembers prompts."""
        return prompt_of(pieces(parsed)) if ask.endpoint in openai.CAPS and self.prefixes.any_of(ask.allowed) else NOTHING

    def decide(self, ask: Ask, view: FleetView, prompt: Prompt = NOTHING) -> tuple[Decision, Observation]:
        """Choose a backend and a budget, or nobody. A policy that fails is replaced for this request, and counted."""
        if ask.endpoint not in openai.CAPS:
            return self._decided(ask, view, self.passing)
        chooser, cached = self.turn, self.prefixes.predict(prompt, ask.prompt_tokens, view.backends)
        try:
            decision, observation = self._decided(ask, view, chooser, cached)
        except (ValueError, ArithmeticError, IndexError):
            log.exception("the policy %s failed; the fallback decides", chooser.name)
            self.metrics.fell_back()
            decision, observation = self._decided(ask, view, self.deciders.fallback, cached)
        self.fleet.note(observation)
        return decision, observation

    def _decided(self, ask: Ask, view: FleetView, chooser: Chooser, cached: Column | None = None) -> tuple[Decision, Observation]:
        return decide(ask, view, chooser, cached, draw=self.draw(), id=self.new_id())

    @property
    def chooser(self) -> Chooser:
        """The policy that stands."""
        return self.deciders.chooser

    def samples(self, most: int) -> list[Observation]:
        """What the latest requests looked like to a policy, the latest first; at most so many."""
        seen = (record.decision.observation for record in reversed(self.recent) if record.ask.endpoint in openai.CAPS)
        return list(islice(seen, most))

    def view(self) -> FleetView:
        """The fleet now, with what sibling processes have open, as whoever decides next believes it to be."""
        chooser = self.deciders.now()
        if chooser is not self.turn:
            self._hand_over(chooser)
        self._hear()
        return self.fleet.view(self.clock())

    def begin(self, decision: Decision, now: float, *, silent: bool = False) -> Ticket:
        """Open an attempt, and let the siblings know. Of a `silent` one nothing is heard before it ends."""
        ticket = self.fleet.begin(decision, now, silent=silent)
        self._publish()
        return ticket

    def end(self, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """Close an attempt, and let the siblings know."""
        self.fleet.end(ticket, outcome, now)
        self._publish()

    def learn_prefix(self, decision: Decision, prompt: Prompt) -> float:
        """The chosen backend has read a prompt. Returns the share of it that it was expected to remember."""
        action = decision.action
        told = action.budget.instruction is not None
        return self.prefixes.learn(str(action.backend), prompt, decision.prompt_tokens, told=told) if prompt.marks else 0.0

    def _publish(self) -> None:
        if self.board is not None:
            now = self.clock()
            self.board.write(self.row, self.fleet.names, self.fleet.books(), self.fleet.own_rate(now), now)

    def _hear(self) -> None:
        if self.board is not None:
            self.fleet.siblings(self.board.others(self.row, self.fleet.names), self.board.rate_of_others(self.row, self.clock()))

    def upstream_of(self, decision: Decision) -> tuple[Source, str]:
        """The connections to the chosen backend, and its name for its model."""
        name = str(decision.action.backend)
        return self.upstreams[name], self.fleet.backend(name).model

    def report(self, record: Record, arrived: float) -> None:
        """Take note of an ended attempt."""
        self.recent.append(record)
        now = self.clock()
        self.metrics.ended(record, now - arrived)
        if self.deciders.trial is not None:
            self.deciders.trial.note(record, self.wall() - (now - record.decision.at))
        longer = self.reading.note(record)
        if longer is not None:
            self.fleet.expect_longer(*longer)

    def reprice(self) -> None:
        """Let prices follow demand, here and at the siblings: who begins nothing tells them nowhere else how many come."""
        self._publish()
        self._hear()
        fleet, now = self.fleet, self.clock()
        if fleet.recent:
            fleet.set_prices(prices(np.array(fleet.view(now).columns.price), *wanted(fleet.recent), fleet.arrival_rate(now)))

    # --- what is asked about us ---

    def model_names(self) -> list[str]:
        """Every name that a request may say: aliases, backends, models."""
        config = self.config
        names = [*config.models, *(b.name for b in config.backends), *(b.model for b in config.backends)]
        return list(dict.fromkeys(names))

    def backends_up(self) -> dict[str, bool]:
        """Which backends are ready and trusted."""
        now = self.clock()
        return {backend.name: self.fleet.is_up(backend.name, now) for backend in self.fleet.backends}

    def describe(self) -> list[dict[str, Any]]:
        """How each backend looks from here, for people."""
        now = self.clock()
        view = self.fleet.view(now).columns
        return [
            {
                "name": backend.name,
                "model": backend.model,
                "profile": backend.profile.name,
                "up": self.fleet.is_up(backend.name, now),
                "circuit": str(self.fleet.circuit(backend.name, now)),
                "in_flight": view.in_flight[i],
                "decode_tokens": view.decode_tokens[i],
                "price": view.price[i],
                "report_age_s": None if math.isinf(view.report_age_s[i]) else round(view.report_age_s[i], 3),
            }
            for i, backend in enumerate(self.fleet.backends)
        ]

    def exposition(self) -> bytes:
        """The metrics' text, with the gauges as of now."""
        now, in_flight = self.clock(), self.fleet.in_flight()
        view = self.fleet.view(now).columns
        for i, backend in enumerate(self.fleet.backends):
            self.metrics.gauge("bestserve_inflight", in_flight[backend.name], backend.name)
            self.metrics.gauge("bestserve_price", view.price[i], backend.name)
            self.metrics.gauge("bestserve_backend_up", float(self.fleet.is_up(backend.name, now)), backend.name)
            self.metrics.gauge("bestserve_backend_load_age_seconds", view.report_age_s[i], backend.name)
        for name, window, spent, cap in self.gates.spent():
            self.metrics.gauge("bestserve_spend_window_usd", spent, name, window)
            self.metrics.gauge("bestserve_spend_cap_usd", cap, name, window)
        return self.metrics.exposition()


def timeouts_of(config: Config) -> Timeouts:
    """The config's milliseconds as the connections' seconds."""
    t = config.timeouts
    return Timeouts(t.connect_ms / 1000, t.first_token_ms / 1000, t.idle_ms / 1000, t.total_ms / 1000)


def _allowed(config: Config) -> dict[str, frozenset[str]]:
    """The backends that each known name admits: an alias's, a backend's own name, or all that serve a model."""
    named = [name for b in config.backends for name in (b.name, b.model)]
    found = {name: frozenset(b.name for b in config.backends if name in (b.name, b.model)) for name in named}
    return found | {alias: frozenset(names) for alias, names in config.models.items()}


def _moved(before: BackendConfig | None, now: BackendConfig) -> bool:
    if before is None or (before.url, before.api_key, before.engine) != (now.url, now.api_key, now.engine):
        return True
    return now.engine == "litellm" and (before.model, before.litellm) != (now.model, now.litellm)
