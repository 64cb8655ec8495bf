"""A log -> what is to be believed of each backend, and the table of it beside the profiles."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.special import ndtr

from bestserve.policy.calibration import TABLES, Calibration, Corrected
from bestserve.policy.estimate import Z
from bestserve.policy.facts import TASKS, Backend, Budget, Floats

from . import engines, verbosity, worth
from .engines import Fit
from .logged import DONE, Logged, Names
from .sharpen import sharpened
from .verbosity import Longer
from .worth import Worth


@dataclass(frozen=True, slots=True)
class Found:
    """What a log says of one backend."""

    backend: Backend
    attempts: int
    engine: Fit | None  # None where too little was seen, as below
    longer: dict[str, Longer]
    worth: Worth | None

    @property
    def corrected(self) -> Corrected:
        """As it travels in a checkpoint."""
        tables: dict[str, Any] = {}
        if self.engine is not None:
            tables["engine"] = self.engine.engine(self.backend.profile.engine)
        if self.longer:
            tables["longer"] = {task: found.value for task, found in self.longer.items()}
        if self.worth is not None:
            for name, values in (
                ("quality", self.worth.quality),
                ("kept_when_cut", self.worth.cut),
                ("kept_when_concise", self.worth.concise),
            ):
                tables[name] = dict(zip(TASKS, values.tolist(), strict=True))
        return Corrected(self.backend.profile.name, **tables)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what the profile says, and what the log does."""

    backend: str
    what: str
    profile: float
    calibrated: float
    low: float
    high: float
    answers: int


def calibrate(log: Logged, names: Names, backends: Sequence[Backend], weight: Floats, dice: Generator) -> list[Found]:
    """Of each backend of the fleet, as its own profile says it is. Attempts at a backend under another profile are not counted."""
    sharp = log._replace(task=sharpened(log))
    return [_found(sharp, _number(names, backend), backend, weight, dice) for backend in backends]


def calibration_of(found: Sequence[Found], before: Calibration) -> Calibration:
    """As it travels. Where the log says nothing, what was believed `before` of the same profile stays."""
    every = {each.backend.name: each for each in found if each.engine or each.longer or each.worth}
    return {name: _over(before.get(name), each.corrected) for name, each in every.items()} | {
        each.backend.name: before[each.backend.name] for each in found if each.backend.name not in every and each.backend.name in before
    }


def _over(before: Corrected | None, now: Corrected) -> Corrected:
    if before is None or before.profile != now.profile:
        return now
    return Corrected(now.profile, *({**getattr(before, name), **getattr(now, name)} for name in TABLES))


def _number(names: Names, backend: Backend) -> int:
    pairs = list(zip(names.backends, names.profiles, strict=True))
    pair = (backend.name, backend.profile.name)
    return pairs.index(pair) if pair in pairs else -2


def _found(log: Logged, b: int, backend: Backend, weight: Floats, dice: Generator) -> Found:
    attempts = int((log.backend == b).sum())
    if not attempts:
        return Found(backend, 0, None, {}, None)
    engine = engines.fitted(log, b, backend.profile.engine, dice)
    believed = dict(zip(TASKS, backend.longer, strict=False))
    return Found(backend, attempts, engine, verbosity.longer(log, b, believed), worth.worth(log, weight, b, backend.profile))


def rows(found: Sequence[Found]) -> Iterator[Row]:
    """Everything that is believed otherwise now."""
    for each in found:
        yield from _engine_rows(each)
        for t, task in enumerate(TASKS):
            if task in each.longer:
                more, believed = each.longer[task], each.backend.longer[t] if each.backend.longer else 0.0
                yield Row(each.backend.name, f"longer.{task}", believed, more.value, more.low, more.high, more.answers)
        if each.worth is not None:
            reach = Z * each.worth.quality_error
            for t, task in enumerate(TASKS):
                value = float(each.worth.quality[t])
                low, high = max(value - float(reach[t]), 0.0), min(value + float(reach[t]), 1.0)
                yield Row(each.backend.name, f"quality.{task}", each.backend.profile.quality[task], value, low, high, each.worth.scores)


def _engine_rows(found: Found) -> Iterator[Row]:
    if found.engine is None:
        return
    profile, name = found.backend.profile.engine, found.backend.name
    for i, constant in enumerate(engines.CONSTANTS):
        value, times = getattr(profile, constant), [float(v[i]) for v in (found.engine.multiple, found.engine.low, found.engine.high)]
        if constant == "prefill_tokens_per_s":
            times = [1 / times[0], 1 / times[2], 1 / times[1]]
        yield Row(name, constant, value, value * times[0], value * times[1], value * times[2], found.engine.answers)


@dataclass(frozen=True, slots=True)
class Truncation:
    """Of one backend under one budget: the share of answers that it cut, as it was and as it is expected."""

    backend: str
    budget: str
    answers: int
    observed: float
    profile: float
    calibrated: float


def truncations(log: Logged, names: Names, found: Sequence[Found], budgets: Sequence[Budget]) -> Iterator[Truncation]:
    """Of every budget that caps, and tells nobody to be brief."""
    for each in found:
        b = _number(names, each.backend)
        for budget in budgets:
            if budget.tokens is None or budget.instruction is not None:
                continue
            some = (log.backend == b) & (log.cap == budget.tokens) & ~log.told & (log.ending == DONE) & (log.ceiling > budget.tokens)
            n = int(some.sum())
            if n:
                longer = np.array([each.longer.get(task, verbosity.NOTHING).value for task in TASKS])[log.task[some].argmax(axis=1)]
                z = (np.log(budget.tokens) - log.mu[some]) / log.sigma[some]
                said = [float(1.0 - ndtr(z - shift / log.sigma[some]).mean()) for shift in (np.zeros(n), longer)]
                yield Truncation(each.backend.name, budget.name, n, float(log.cut[some].mean()), *said)
