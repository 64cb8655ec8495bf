"""Fleets, traces and policies, put together as what a simulation reads and changes (see `simulate`)."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from bestserve.profiles.schema import Profile

from .batching import Core, Limits
from .books import Kept
from .circuit import CircuitRules
from .encode import caps_of
from .engine import core_of, limits_of
from .facts import Backend, Budget, Constants, knowledge_of
from .fleet import RECENT
from .policies import Mind, Scratch
from .price import PRICE_S
from .simulate import CLOCKS, COUNTS, N_FREE, NEXT_PRICE, NEXT_REPORT, Results, Scene, Setting, Tickets, Trace, Truth, World

SLOTS = 4096
"""Requests that a simulated fleet holds at once; one more is refused as by a full queue."""

REMEMBERED = 128
"""Conversations that a simulated backend's prefix cache holds."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with one backend. Seconds of virtual time."""

    backend: int
    down: tuple[float, float] = (math.inf, math.inf)
    slow: tuple[float, float] = (math.inf, math.inf)
    slowness: float = 1.0


@dataclass(frozen=True, slots=True)
class Places:
    """A fleet: what is believed of its backends, and what is true."""

    backends: tuple[Backend, ...]
    budgets: tuple[Budget, ...]
    true: tuple[Profile, ...] = ()  # the backends' own profiles where it is empty
    length_factor: tuple[float, ...] = ()
    troubles: tuple[Trouble, ...] = ()


def mind_of(name: str, places: Places, parameters: tuple[float, ...] | None = None) -> Mind:
    """A reference policy by its name, as `heuristics.by_name` reads it; with other parameters than its own where they are given."""
    from .decide import actions_of
    from .heuristics import by_name

    rule = by_name(name, actions_of(places.backends, places.budgets))
    kind = name.split(":")[0]
    return Mind.of(kind, rule.parameters if parameters is None else parameters)


def scene_of(places: Places, trace: Trace, mind: Mind, dice: Generator, setting: Setting = Setting()) -> Scene:  # noqa: B008
    """What does not change. Everything is arrays: ready for compiled functions, and for plain ones."""
    n = len(places.backends)
    believed = [backend.profile for backend in places.backends]
    true = places.true or tuple(believed)
    most = [math.inf if b.max_in_flight is None else float(b.max_in_flight) for b in places.backends]
    return Scene(
        trace=trace,
        limits=floats(limits_of(*(profile.engine for profile in true))),
        truth=_truth(places, true, n),
        constants=floats(Constants.of(places.backends)),
        knowledge=knowledge_of(places.backends),
        most=np.array(most),
        caps=caps_of(places.budgets)._replace(
            tokens=np.array(caps_of(places.budgets).tokens),
            told=np.array(caps_of(places.budgets).told, dtype=np.bool_),  # type: ignore[arg-type]
        ),
        rules=CircuitRules(),
        mind=mind,
        setting=setting,
        draws=dice.uniform(size=len(trace.at)),
    )


def _truth(places: Places, true: tuple[Profile, ...], n: int) -> Truth:
    knowledge = knowledge_of([replace(b, profile=p) for b, p in zip(places.backends, true, strict=True)])
    windows = {name: np.full(n, math.inf) for name in ("down_from", "down_until", "slow_from", "slow_until")}
    slowness = np.ones(n)
    for trouble in places.troubles:
        b = trouble.backend
        windows["down_from"][b], windows["down_until"][b] = trouble.down
        windows["slow_from"][b], windows["slow_until"][b] = trouble.slow
        slowness[b] = trouble.slowness
    return Truth(
        knowledge=knowledge,
        length_factor=np.array(places.length_factor or (1.0,) * n),
        overhead=np.array([profile.engine.overhead_s for profile in true]),
        usd_per_prompt_token=np.array([backend.tariff.prompt_token for backend in places.backends]),
        usd_per_token=np.array([backend.tariff.answer_token for backend in places.backends]),
        slowness=slowness,
        **windows,
    )


def world_of(scene: Scene, places: Places, n_slots: int = SLOTS) -> World:
    """A fleet at rest at time 0."""
    n = len(places.backends)
    n_actions = n * len(places.budgets)
    core = core_of(Limits(*(list(map(float, column)) for column in scene.limits)), n_slots)
    clock, counter = np.zeros(CLOCKS), np.zeros(COUNTS, dtype=np.int64)
    clock[NEXT_REPORT], clock[NEXT_PRICE], counter[N_FREE] = 0.0, PRICE_S, n_slots
    return World(
        core=Core(scene.limits, _ints(core.slots), _ints(core.engines), _ints(core.done)._replace(duration_s=np.zeros(n))),
        kept=cells(Kept.of(n)),
        tickets=_tickets(n_slots),
        busy_until=np.full(n, math.inf),  # type: ignore[arg-type]
        settled=np.full(n, -1.0),  # type: ignore[arg-type]
        price=np.zeros(n),
        said_running=np.zeros(n),  # type: ignore[arg-type]
        said_waiting=np.zeros(n),  # type: ignore[arg-type]
        said_used=np.zeros(n),  # type: ignore[arg-type]
        value=np.zeros((RECENT, n_actions)),
        effort=np.zeros((RECENT, n_actions)),
        clock=clock,  # type: ignore[arg-type]
        counter=counter,  # type: ignore[arg-type]
        cache_session=np.full(n * REMEMBERED, -1, dtype=np.int64),  # type: ignore[arg-type]
        cache_tokens=np.zeros(n * REMEMBERED, dtype=np.int64),  # type: ignore[arg-type]
        cache_used=np.zeros(n * REMEMBERED),  # type: ignore[arg-type]
    )


def results_of(n: int) -> Results:
    """Nothing has come of anything yet."""
    whole, flags = {"ending", "action", "tokens"}, {"on_time"}
    return Results(
        **{name: np.zeros(n, dtype=np.int64 if name in whole else np.bool_ if name in flags else np.float64) for name in Results._fields}  # type: ignore[arg-type]
    )


def scratch_of(places: Places) -> Scratch:
    """Cells to decide in."""
    made: Scratch = cells(Scratch.of(len(places.backends), len(places.budgets)))
    return made


def _tickets(n: int) -> Tickets:
    whole, flags = {"request", "backend", "reported"}, {"trial", "cut", "told"}
    return Tickets(
        **{name: np.zeros(n, dtype=np.int64 if name in whole else np.bool_ if name in flags else np.float64) for name in Tickets._fields}  # type: ignore[arg-type]
    )


def floats(value: Any) -> Any:
    """A NamedTuple of columns as arrays of float64."""
    return type(value)(*(np.array(column, dtype=np.float64) for column in value))


def _ints(value: Any) -> Any:
    return type(value)(*(np.array(column, dtype=np.int64) for column in value))


def cells(value: Any) -> Any:
    """NamedTuples of lists, however deep, as arrays of float64 and bool."""
    if hasattr(value, "_fields"):
        return type(value)(*map(cells, value))
    return np.array(value, dtype=np.bool_ if value and isinstance(value[0], bool) else np.float64)
