"""One retrain, from columns of a log to a challenger and a verdict on it. Top to bottom, in the order in which it happens.

    calibrate       what the log says of each backend                                   `calibrate`
    improve         a better policy for that fleet, from the one that decides now       `improve`
    judge           from the log alone, along it, and in a duel on its last stretch     `offline`, `duel`, `verdict`

The first part of the log teaches, the last is what the challenger is judged on. Reading and publishing are the caller's.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.calibration import Calibration, calibrated
from bestserve.policy.checkpoint import Checkpoint
from bestserve.policy.facts import Backend, Budget, Floats, Mask
from bestserve.policy.network import Network, forward
from bestserve.policy.policies import Mind
from bestserve.policy.record import Line
from bestserve.policy.reward import Objective

from . import improve as improving
from .again import Again, Belief, again, chances, fits
from .calibrate import Found, Row, Truncation, calibrate, calibration_of, rows, truncations
from .duel import Duel, Side, duel
from .earned import earned
from .improve import Args, Improved, Telling, ground_of
from .logged import Ledger, Logged, Names, some
from .offline import OneStep, Past, fitted_q, one_step
from .outcomes import Outcomes, of_parts
from .replayed import begun
from .sharpen import sharpened
from .verdict import Verdict, judged

TAUGHT = 0.6
"""Share of the log, the first of it, that teaches."""

MOST_REQUESTS = 60_000
"""Requests that are played again, in pieces spread over the log."""

PIECE = 4000
LEAST = 500
"""Attempts without which nothing is learnt."""


class TooLittle(ValueError):
    """A log that teaches nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Incumbent:
    """What decides now."""

    name: str  # as it stands in Records
    mind: Mind
    parameters: tuple[float, float, float]  # of the prior that a search begins at
    network: Network | None = None  # None where a heuristic decides
    calibration: Calibration = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What is known before."""

    log: Logged
    names: Names
    lines: Sequence[Line]  # some of it, in blocks of time
    weight: Floats  # (N,) what each score counts for
    backends: tuple[Backend, ...]  # by their profiles
    budgets: tuple[Budget, ...]
    incumbent: Incumbent
    explore: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)


class Answer(NamedTuple):
    """What came of it."""

    found: list[Found]
    rows: list[Row]
    truncations: list[Truncation]
    improved: Improved
    checkpoint: Checkpoint
    verdict: Verdict
    step: OneStep
    heads: Floats
    duel: Duel


def retrain(question: Question, args: Args, pool: Executor, told: Telling) -> Answer:
    """All of it. Raises TooLittle."""
    if len(question.log.wall) < LEAST:
        raise TooLittle(f"{len(question.log.wall)} attempts are too few: at least {LEAST} are needed")
    dice, incumbent = np.random.default_rng(args.seed), question.incumbent
    before = calibrated(question.backends, incumbent.calibration)
    told("calibrating", 0, 1)
    found = calibrate(question.log, question.names, before, question.weight, dice)
    calibration = calibration_of(found, incumbent.calibration)
    believed = calibrated(question.backends, calibration)
    told("calibrating", 1, 1)

    early, late = _grounds(question, found, believed)
    lines = _Lines.of(question.lines, believed)
    improved = improving.improve(early, lines.taught(), incumbent.network, incumbent.parameters, args, pool, told)
    about = {"made_by": "retrain", "seed": args.seed, "incumbent": incumbent.name, **question.about}
    checkpoint = Checkpoint(improved.network, improved.parameters, improved.low, improved.high, about, calibration=calibration)

    challenger = Mind.of("actor", improved.parameters, improved.network)
    step, heads = lines.judged(challenger, improved.network, question.explore, dice)
    reward = _log_reward(late, question, believed)
    sides = Side(incumbent.mind, before), Side(challenger, believed)
    fought = duel(late, *sides, reward, pool, args, lambda n: told("dueling", n, args.duels))
    verdict = judged(step, heads, fought)
    cuts = list(truncations(question.log, question.names, found, question.budgets))
    return Answer(found, list(rows(found)), cuts, improved, checkpoint, verdict, step, heads, fought)


def _grounds(question: Question, found: Sequence[Found], believed: tuple[Backend, ...]) -> tuple[improving.Ground, improving.Ground]:
    """Where is learnt, and where is judged: the first and the last part of the log's requests."""
    requests = begun(question.log)
    cut = round(TAUGHT * len(requests.wall))
    made = []
    for part in (slice(0, cut), slice(cut, None)):
        piece = _spread(some(requests, part))
        made.append(ground_of(found, believed, question.names, question.budgets, piece, sharpened(piece), question.explore))
    return made[0], made[1]


def _spread(requests: Logged) -> Logged:
    """Pieces of PIECE requests in a row, evenly over the whole, where there are too many."""
    n, most = len(requests.wall), MOST_REQUESTS // 2
    if n <= most:
        return requests
    starts = np.linspace(0, n - PIECE, most // PIECE).astype(np.int64)
    return some(requests, np.concatenate([np.arange(start, start + PIECE) for start in starts]))


def _log_reward(ground: improving.Ground, question: Question, believed: Sequence[Backend]) -> float:
    """What requests earned that the incumbent decided, in the stretches that are played again; nan where there are too few."""
    log, policies = ground.requests, question.names.policies
    here = (log.policy == policies.index(question.incumbent.name)) if question.incumbent.name in policies else np.zeros(len(log.wall), bool)
    if here.sum() < LEAST:
        return float("nan")
    return float(earned(log, question.names, ground.task, believed)[here].mean())


@dataclass(frozen=True, slots=True)
class _Lines:
    """Decisions of the log, seen again: in the order of time."""

    again: Again
    at: Floats
    own: Floats  # what each earned itself
    teaches: Mask

    @classmethod
    def of(cls, lines: Sequence[Line], believed: tuple[Backend, ...]) -> "_Lines":
        belief = Belief.of(believed)
        usable = sorted((line for line in lines if fits(line, belief)), key=lambda line: line.wall - line.outcome.total_s)
        if len(usable) < LEAST // 2:
            raise TooLittle(
                f"of {len(lines)} decisions looked at, {len(usable)} are of the fleet that the config has now: too few to judge by"
            )
        ledger = Ledger()
        for line in usable:
            ledger.take(line)
        log, names = ledger.columns()
        seen = again(usable, belief)
        own = earned(log, names, sharpened(log), believed)
        seen.outcomes.own[:] = own / log.weight
        n = len(usable)
        return cls(seen, log.wall - log.took, own, np.arange(n) < TAUGHT * n)

    def taught(self) -> Outcomes:
        """What the critic learns from."""
        return of_parts(part[self.teaches] for part in self.again.outcomes)

    def judged(self, challenger: Mind, network: Network, explore: float, dice: Generator) -> tuple[OneStep, Floats]:
        """What the last part says of a challenger."""
        here = np.flatnonzero(~self.teaches)
        seen, n_actions = self.again, self.again.mask.shape[1]
        now = chances([seen.seen[i] for i in here.tolist()], challenger, n_actions, explore)
        predicted, price = _predicted(seen, here, network)
        taken = seen.logged[here]
        rows = np.arange(len(here))
        inputs = np.concatenate(
            (
                seen.outcomes.rows[here, :n_actions],
                np.repeat(seen.outcomes.context[here][:, None], n_actions, axis=1),
                np.ones((len(here), n_actions, 1)),
            ),
            axis=2,
        ).astype(np.float64)
        past = Past(
            at=self.at[here],
            taken=taken,
            chance=seen.then[here, taken],
            then=seen.then[here],
            now=now,
            predicted=predicted,
            earned=self.own[here] - price[rows, taken],
            inputs=inputs,
        )
        whole = Past(**{**{name: getattr(past, name) for name in Past.__slots__}, "earned": self.own[here]})
        return one_step(past, dice), fitted_q(whole, dice)


def _predicted(seen: Again, here: Any, network: Network) -> tuple[Floats, Floats]:
    """(P, A) each: what every action is expected to earn by encoder and critic less its price, and that price. Shed earns its constant."""
    worth, price, pay = (seen.features[here, :, k] for k in range(3))
    weight = seen.weight[here][:, None]
    rows, context, allowed = seen.outcomes.rows[here], seen.outcomes.context[here], seen.outcomes.allowed[here]
    n = worth.shape[1]
    more = np.array([forward(network, r[:n], c, a[:n])[:, 1] for r, c, a in zip(rows, context, allowed, strict=True)])
    asks = rows[:, :n, 0] > 0.5
    value = np.where(asks, weight * np.clip(worth + more, 0.0, 1.0) - pay, weight * Objective().shed)
    cost = np.where(asks, price, 0.0)
    return value - cost, cost
