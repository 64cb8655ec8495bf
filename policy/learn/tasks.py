"""Labelled prompts -> a task classifier, tuned on rows that it did not see."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bestserve.policy.confusion import Confusion
from bestserve.policy.confusion import to_bytes as confusion_bytes
from bestserve.policy.facts import TASKS

from .linear import Args, Floats, Model, Scores, Step, Tuning, fit, targets, written
from .measure import by, lengths, measured, reliability
from .prompts import Row

FOLDS = 2
_HEATS = np.geomspace(0.5, 2.0, 25).tolist()
_CARRIES = np.linspace(0.0, 1.5, 16).tolist()


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training."""

    weights: bytes
    confusion: bytes | None  # None where not every built-in task was held out
    report: dict[str, Any]  # of rows that were held out


def trained(
    rows: Sequence[Row], made_of: Mapping[str, Mapping[str, float]], about: Mapping[str, object], args: Args, step: Step, folds: int = FOLDS
) -> Trained:
    """Fit on all rows, tune and measure on rows held out. `made_of` says of each class in which built-in tasks it is made of; its keys
    are the classes. Raises ValueError."""
    classes = tuple(made_of)
    scores, tested, usual = held_out(rows, classes, args, lambda done, of: step(done, of * (folds + 1) // folds), folds)
    tuning = tuned(scores, tested, classes, args)
    model = fit(rows, classes, args, lambda done, of: step(of * folds + done, of * (folds + 1)))
    p, own = scores.tuned(tuning)
    expected, sigma = own + (p * usual).sum(axis=1), p @ model.sigma
    report = {**told(p, tested, classes), "length": lengths(expected, sigma, tested)}
    confusion = _confusion(p, expected, sigma, tested, classes, made_of)
    return Trained(written(model, made_of, tuning, about), confusion, report)


def told(p: Floats, rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any]:
    """Measures over all rows and by source, class, language and turn, with the reliability of the probabilities."""
    return {
        "all": measured(p, rows, classes),
        "source": by(lambda row: row.source, p, rows, classes),
        "class": by(lambda row: str(row.task), p, rows, classes),
        "language": by(lambda row: row.lang, p, rows, classes),
        "turn": by(lambda row: "follow-up" if row.prompt.before else "first", p, rows, classes),
        "reliability": reliability(p, rows, classes),
    }


def _confusion(
    p: Floats, expected: Floats, sigma: Floats, rows: Sequence[Row], classes: Sequence[str], made_of: Mapping[str, Mapping[str, float]]
) -> bytes | None:
    """What the simulator draws from; of rows that are labelled with a built-in task and whose tokens are known."""
    use = np.array([i for i, row in enumerate(rows) if row.task in TASKS and row.tokens], dtype=np.int64)
    chosen = [rows[i] for i in use.tolist()]
    if {row.task for row in chosen} != set(TASKS):
        return None
    mix = np.array([[made_of[name].get(task, 0.0) for task in TASKS] for name in classes], np.float32)
    true = np.array([TASKS.index(str(row.task)) for row in chosen])
    off = (expected[use] - np.log([row.tokens or 1.0 for row in chosen])).astype(np.float32)
    return confusion_bytes(Confusion(true, (p[use] @ mix).astype(np.float32), off, sigma[use]))


def held_out(rows: Sequence[Row], classes: Sequence[str], args: Args, step: Step, folds: int = FOLDS) -> tuple[Scores, list[Row], Floats]:
    """What models say of rows that they did not learn from: scores, the rows, and the classes' usual lengths (N, C) as each model has them.

    Every labelled row that is no template's child is held out once; the folds are drawn by `args.seed`.
    """
    testable = np.array([i for i, row in enumerate(rows) if row.task is not None and row.source != "templates"], dtype=np.int64)
    fold = np.random.default_rng(args.seed).integers(folds, size=len(testable))
    many: list[tuple[NDArray[np.int64], Scores, Floats]] = []
    for k in range(folds):
        out = testable[fold == k]
        left = set(out.tolist())
        model = fit([row for i, row in enumerate(rows) if i not in left], classes, args, _part(step, k, folds))
        many.append((out, model.scores([rows[i].prompt for i in out]), np.tile(model.tokens, (len(out), 1))))
    order = np.concatenate([out for out, _, _ in many])
    return joined(scores for _, scores, _ in many), [rows[i] for i in order], np.concatenate([usual for _, _, usual in many])


def _part(step: Step, k: int, of: int) -> Step:
    return lambda done, all_: step(k * all_ + done, of * all_)


def joined(many: Iterable[Scores]) -> Scores:
    """Of several sets of prompts, as one."""
    parts = list(many)
    return Scores(*(np.concatenate([getattr(part, name) for part in parts]) for name in Scores.__slots__))


def tuned(scores: Scores, rows: Sequence[Row], classes: Sequence[str], args: Args) -> Tuning:
    """The temperatures and shares that make held-out rows likeliest. Our own seeds decide where there are any; else all rows."""
    own = np.array([row.source == "seeds" for row in rows])
    use = np.flatnonzero(own if own.any() else np.ones(len(rows), bool))
    chosen = [rows[i] for i in use.tolist()]
    scores, y = scores.some(use), targets([replace(row, also=()) for row in chosen], classes, replace(args, smooth=0.0))
    heat = _best(_HEATS, lambda h: _loss(scores, y, Tuning(h, h)))
    carry = [0.0, 0.0, 0.0]
    has = np.array([row.prompt.before != "" for row in chosen])
    for size in range(3):
        some = np.flatnonzero(has & (scores.weight == size))
        if len(some) >= 10:
            part, wanted = scores.some(some), y[some]
            carry[size] = _best(_CARRIES, partial(_carry_loss, part, wanted, heat))
    shares = (carry[0], carry[1], carry[2])
    heats = []
    for some in (np.flatnonzero(~scores.foreign), np.flatnonzero(scores.foreign)):
        part, wanted = scores.some(some), y[some]
        heats.append(_best(_HEATS, partial(_heat_loss, part, wanted, shares)) if len(some) >= 50 else heat)
    return Tuning(heats[0], heats[1], shares)


def _carry_loss(scores: Scores, y: Floats, heat: float, share: float) -> float:
    return _loss(scores, y, Tuning(heat, heat, (share, share, share)))


def _heat_loss(scores: Scores, y: Floats, shares: tuple[float, float, float], heat: float) -> float:
    return _loss(scores, y, Tuning(heat, heat, shares))


def _best(choices: Iterable[float], loss: Callable[[float], float]) -> float:
    return float(min(choices, key=loss))


def _loss(scores: Scores, y: Floats, tuning: Tuning) -> float:
    """Mean cross-entropy."""
    p, _ = scores.tuned(tuning)
    return float(-(y * np.log(p + 1e-9)).sum() / max(len(y), 1))


__all__ = ["FOLDS", "Args", "Model", "Trained", "held_out", "joined", "told", "trained", "tuned"]
