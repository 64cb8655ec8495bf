"""One retrain, from columns of a log to a challenger and a verdict on it. Top to bottom, in the order in which it happens.

    calibrate       what the log says of each backend                                   `calibrate`
    improve         a better policy for that fleet, from the one that decides now       `improve`
    judge           from the log alone, along it, and in a duel on its last stretch     `offline`, `duel`, `verdict`

The first part of the log teaches, the last is what the challenger is judged on. Reading and publishing are the caller's.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.calibration import Calibration, calibrated
from bestserve.policy.checkpoint import Checkpoint
from bestserve.policy.facts import Backend, Budget, Floats, Ints, Mask
from bestserve.policy.network import Network, forward
from bestserve.policy.policies import Mind
from bestserve.policy.reward import Objective

from . import improve as improving
from .again import Again, Belief, again, chances, together
from .calibrate import Found, Row, Truncation, calibrate, calibration_of, rows, truncations
from .duel import Duel, Rounds, Side, duel
from .earned import earned
from .ground import Ground, ground_of
from .improve import Args, Improved, Telling
from .logged import Logged, Names, some
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
PART = 500
"""Lines that a process looks at in one go."""

LEAST = 500
"""Attempts without which nothing is learnt."""


class TooLittle(ValueError):
    """A log that teaches nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Incumbent:
    """What decides now."""

    name: str  # as it stands in Records
    mind: Mind
    parameters: tuple[float, ...]  # of the prior that a search begins at
    network: Network | None = None  # None where a heuristic decides
    calibration: Calibration = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What is known before."""

    log: Logged
    names: Names
    lines: Sequence[bytes]  # some of its Records, in blocks of time
    rows: Ints  # which row of the log each of them is
    weight: Floats  # (N,) what each score counts for
    backends: tuple[Backend, ...]  # by their profiles
    budgets: tuple[Budget, ...]
    incumbent: Incumbent
    explore: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)


class Judgement(NamedTuple):
    """What the gate says of one challenger, and what it rests on."""

    verdict: Verdict
    step: OneStep
    heads: Floats
    duel: Duel


class Answer(NamedTuple):
    """What came of it."""

    found: list[Found]
    rows: list[Row]
    truncations: list[Truncation]
    improved: Improved
    checkpoint: Checkpoint
    judgement: Judgement

    @property
    def verdict(self) -> Verdict:
        """On the challenger."""
        return self.judgement.verdict


def retrain(question: Question, args: Args, pool: Executor, told: Telling) -> Answer:
    """All of it. Raises TooLittle."""
    known = known_of(question, args, pool, told)
    improved = improving.improve(
        known.early, known.lines.taught(), question.incumbent.network, question.incumbent.parameters, args, pool, told
    )
    about = {"made_by": "retrain", "seed": args.seed, "incumbent": question.incumbent.name, **question.about}
    challenger = Checkpoint(improved.network, improved.parameters, improved.low, improved.high, about, calibration=known.calibration)
    judgement = judge(known, challenger, args, pool, told)
    cuts = list(truncations(question.log, question.names, known.found, question.budgets))
    return Answer(known.found, list(rows(known.found)), cuts, improved, challenger, judgement)


@dataclass(frozen=True, slots=True)
class Known:
    """What a log has taught, and what is judged by."""

    question: Question
    found: list[Found]
    calibration: Calibration
    before: tuple[Backend, ...]  # the fleet as the incumbent believes it to be
    believed: tuple[Backend, ...]  # and as the log says it is
    early: Ground
    late: Ground
    lines: "_Lines"


def known_of(question: Question, args: Args, pool: Executor, told: Telling) -> Known:
    """Calibrate, and make ready. Raises TooLittle."""
    if len(question.log.wall) < LEAST:
        raise TooLittle(f"{len(question.log.wall)} attempts are too few: at least {LEAST} are needed")
    told("calibrating", 0, 1)
    before = calibrated(question.backends, question.incumbent.calibration)
    found = calibrate(question.log, question.names, before, question.weight, np.random.default_rng(args.seed))
    calibration = calibration_of(found, question.incumbent.calibration)
    believed = calibrated(question.backends, calibration)
    told("calibrating", 1, 1)
    return Known(question, found, calibration, before, believed, *_grounds(question, found, believed), _Lines.of(question, believed, pool))


def judge(known: Known, challenger: Checkpoint, args: Args, pool: Executor, told: Telling) -> Judgement:
    """The gate: any challenger of the same fleet, whatever it believes."""
    dice, question = np.random.default_rng([args.seed, 5]), known.question
    mind = Mind.of("actor", challenger.parameters, challenger.network)
    believes = calibrated(question.backends, challenger.calibration)
    step, heads = known.lines.judged(mind, challenger.network, believes, question.explore, pool, dice)
    sides = Side(question.incumbent.mind, known.before), Side(mind, believes)
    reward = _log_reward(known.late, question, known.believed)
    how = Rounds(args.seed, args.duels, args.duel)
    fought = duel(known.late, *sides, reward, how, pool, lambda n: told("dueling", n, args.duels))
    return Judgement(judged(step, heads, fought), step, heads, fought)


def _grounds(question: Question, found: Sequence[Found], believed: tuple[Backend, ...]) -> tuple[Ground, Ground]:
    """Where is learnt, and where is judged: the first and the last part of the log's requests."""
    requests = begun(question.log)
    cut = round(TAUGHT * len(requests))
    made = []
    for part in (slice(0, cut), slice(cut, None)):
        piece = some(question.log, _spread(requests[part]))
        made.append(ground_of(found, believed, question.names, question.budgets, piece, sharpened(piece), question.explore))
    return made[0], made[1]


def _spread(requests: Ints) -> Ints:
    """Pieces of PIECE requests in a row, evenly over the whole, where there are too many."""
    n, most = len(requests), MOST_REQUESTS // 2
    if n <= most:
        return requests
    starts = np.linspace(0, n - PIECE, most // PIECE).astype(np.int64)
    return np.concatenate([requests[start : start + PIECE] for start in starts])


def _log_reward(ground: Ground, question: Question, believed: Sequence[Backend]) -> float:
    """What requests earned that the incumbent decided, in the stretches that are played again; nan where there are too few."""
    log, policies = ground.requests, question.names.policies
    here = (log.policy == policies.index(question.incumbent.name)) if question.incumbent.name in policies else np.zeros(len(log.wall), bool)
    if here.sum() < LEAST:
        return float("nan")
    return float(earned(log, question.names, ground.task, believed)[here].mean())


@dataclass(frozen=True, slots=True)
class _Lines:
    """Decisions of the log, seen again: in the order of time."""

    lines: Sequence[bytes]
    again: Again
    at: Floats
    own: Floats  # what each earned itself
    teaches: Mask

    @classmethod
    def of(cls, question: Question, believed: tuple[Backend, ...], pool: Executor) -> "_Lines":
        begun = (question.log.wall - question.log.took)[question.rows]
        order = np.argsort(begun, kind="stable")
        lines = [question.lines[i] for i in order.tolist()]
        seen = together(list(pool.map(partial(again, belief=Belief.of(believed)), _parts(lines))), range(0, max(len(lines), 1), PART))
        if len(seen.which) < LEAST // 2:
            raise TooLittle(
                f"of {len(lines)} decisions looked at, {len(seen.which)} are of the fleet that the config has now: too few to judge by"
            )
        log = some(question.log, question.rows[order[seen.which]])
        own = earned(log, question.names, sharpened(log), believed)
        seen.outcomes.own[:] = own / log.weight
        n = len(own)
        return cls([lines[i] for i in seen.which.tolist()], seen, log.wall - log.took, own, np.arange(n) < TAUGHT * n)

    def taught(self) -> Outcomes:
        """What the critic learns from."""
        return of_parts(part[self.teaches] for part in self.again.outcomes)

    def judged(
        self, challenger: Mind, network: Network, believes: tuple[Backend, ...], explore: float, pool: Executor, dice: Generator
    ) -> tuple[OneStep, Floats]:
        """What the last part says of a challenger, which sees it by what it believes itself."""
        here = np.flatnonzero(~self.teaches)
        seen, n_actions = self.again, self.again.then.shape[1]
        ask = partial(chances, belief=Belief.of(believes), mind=challenger, n_actions=n_actions, explore=explore)
        now = np.concatenate(list(pool.map(ask, _parts([self.lines[i] for i in here.tolist()]))))
        predicted, price = _predicted(seen, here, network)
        taken = seen.outcomes.action[here]
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
        whole = replace(past, earned=self.own[here])
        return one_step(past, dice), fitted_q(whole, dice)


def _parts(lines: Sequence[bytes]) -> list[Sequence[bytes]]:
    """PART of them at a time; one empty part where there are none."""
    return [lines[i : i + PART] for i in range(0, max(len(lines), 1), PART)]


def _predicted(seen: Again, here: Any, network: Network) -> tuple[Floats, Floats]:
    """(P, A) each: what every action is expected to earn by encoder and critic less its price, and that price. Shed earns its constant."""
    worth, price, pay = seen.worth[here], seen.price[here], seen.pay[here]
    weight = seen.weight[here][:, None]
    rows, context, allowed = seen.outcomes.rows[here], seen.outcomes.context[here], seen.outcomes.allowed[here]
    n = worth.shape[1]
    more = np.array([forward(network, r[:n], c, a[:n])[:, 1] for r, c, a in zip(rows, context, allowed, strict=True)])
    asks = rows[:, :n, 0] > 0.5
    value = np.where(asks, weight * np.clip(worth + more, 0.0, 1.0) - pay, weight * Objective().shed)
    cost = np.where(asks, price, 0.0)
    return value - cost, cost
