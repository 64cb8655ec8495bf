"""A small log of a fleet that is believed to be faster and better than it is: a stretch of virtual time, kept for all tests."""

from dataclasses import replace
from functools import cache

import numpy as np

from bestserve.policy.facts import SLO, Backend
from bestserve.policy.learn.critic import CriticArgs
from bestserve.policy.learn.improve import Args
from bestserve.policy.learn.logged import Ledger, Logged, Names
from bestserve.policy.learn.recording import Recorded, recorded, records, said_of
from bestserve.policy.learn.search import SearchArgs
from bestserve.policy.record import Line, from_bytes, to_bytes
from bestserve.policy.scene import Places, mind_of
from bestserve.policy.simulate import Setting
from bestserve.policy.workload import Demand, draw_trace, poisson
from tests.policy.facts_by_hand import BUDGETS, LADDER

WRONG = "medium"
"""The backend that is believed to be twice as fast and 0.2 better than it is."""

LONGER = 1.5
"""Answers are so many times as long as is foreseen."""


def _believed(backend: Backend) -> Backend:
    if backend.name != WRONG:
        return backend
    engine = backend.profile.engine
    names = ("step_fixed_s", "step_per_seq_s", "step_per_kv_token_s")
    faster = replace(engine, **{name: getattr(engine, name) / 2 for name in names})
    better = {task: quality + 0.2 for task, quality in backend.profile.quality.items()}
    return replace(backend, profile=replace(backend.profile, engine=faster, quality=better))


PLACES = Places(tuple(map(_believed, LADDER)), BUDGETS, true=tuple(backend.profile for backend in LADDER))


SMALL = Args(
    scenes=2,
    points=60,
    requests=300,
    duels=3,
    duel=1000,
    critic=CriticArgs(epochs=1, batch=64),
    search=SearchArgs(iterations=1, scenes=2, pairs=2, width=4),
)
"""A retraining that is over in seconds."""


@cache
def played(seconds: float = 240.0, rate: float = 12.0, seed: int = 1) -> Recorded:
    """What was played. Under seed 0 a jam of some seconds makes one answer in forty late, as bad as the worst of forty plays of the same
    requests by the same fleet: a duel of few stretches earns 6 % more there, and abstains."""
    dice = np.random.default_rng(seed)
    trace = draw_trace(dice, poisson(rate), seconds, Demand(slos=((1.0, SLO(2.0, 0.2)),), misjudged=1 / LONGER))
    return recorded(PLACES, trace, mind_of("bid-price", PLACES), seed=seed, setting=Setting(explore=0.2))


@cache
def raw() -> tuple[bytes, ...]:
    """Its lines."""
    return tuple(to_bytes(record) for record in records(played(), wall=1_790_000_000.0, policy="bid-price"))


@cache
def lines() -> tuple[Line, ...]:
    """As they are read back."""
    return tuple(map(from_bytes, raw()))


@cache
def logged() -> tuple[Logged, Names]:
    """As columns, with a score of every second answer."""
    ledger = Ledger()
    for line in lines():
        ledger.take(line, key="team-a")
    columns, names = ledger.columns()
    said = said_of(played(), np.random.default_rng(5), 0.5)
    place = {str(line.decision["id"]): i for i, line in enumerate(lines())}
    score = columns.score.copy()
    for i, value in said.items():
        score[place[f"s{i}"]] = value
    return columns._replace(score=score), names
