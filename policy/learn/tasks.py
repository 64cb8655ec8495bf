"""Labelled prompts -> a task classifier, tuned on rows that it did not see."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bestserve.policy.confusion import Confusion
from bestserve.policy.confusion import to_bytes as confusion_bytes
from bestserve.policy.facts import TASKS, Mask

from .linear import Args, Floats, Model, Scores, Step, Tuning, fit, targets, written
from .measure import by, lengths, measured, reliability
from .prompts import Row

FOLDS = 2
PARTS = 5
"""Of the held-out rows, each tuned on the others to be measured."""

ENOUGH = 50
"""Rows from which a temperature of their own is taken."""

STRANGERS = 1.12
"""How much flatter than our own prompts other people's have to be taken: few hands wrote ours. Over eight public sources, none of which is
trained on, 1.10 and 1.15 made the labels likeliest for two draws of the templates, each source counting alike. They are in English; what
other languages ask for is not known, so it holds for plain ASCII alone."""

_HEATS = np.geomspace(0.5, 2.0, 25).tolist()
_FOLLOWED = np.geomspace(1.0, 3.0, 20).tolist()
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
    p, own = crossed(scores, tested, classes, args, PARTS)
    expected, sigma = own + (p * usual).sum(axis=1), (p * model.sigma).sum(axis=1)
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
    off = (expected[use] - np.array([math.log(row.tokens or 1.0) for row in chosen])).astype(np.float32)
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


def crossed(scores: Scores, rows: Sequence[Row], classes: Sequence[str], args: Args, parts: int) -> tuple[Floats, Floats]:
    """Probabilities (N, C) and the length's own column (N,) of held-out rows, each part tuned on the others: what tuning has seen does not
    measure it."""
    part = np.arange(len(rows)) % parts
    p, own = np.empty((len(rows), len(classes)), np.float32), np.empty(len(rows), np.float32)
    for k in range(parts):
        rest, some = np.flatnonzero(part != k), np.flatnonzero(part == k)
        tuning = tuned(scores.some(rest), [rows[i] for i in rest.tolist()], classes, args)
        p[some], own[some] = scores.some(some).tuned(tuning)
    return p, own


def tuned(scores: Scores, rows: Sequence[Row], classes: Sequence[str], args: Args) -> Tuning:
    """The temperatures and shares that make held-out rows likeliest. Our own seeds decide where there are any; else all rows.

    First messages tell the heat of Latin script and that of others, then follow-ups what they carry over and how much surer than right that
    makes them. What our own seeds tell of plain ASCII is made STRANGERS flatter.
    """
    own = np.array([row.source == "seeds" for row in rows])
    use = np.flatnonzero(own if own.any() else np.ones(len(rows), bool))
    chosen = [rows[i] for i in use.tolist()]
    scores, y = scores.some(use), targets([replace(row, also=()) for row in chosen], classes, replace(args, smooth=0.0))
    later, foreign = np.array([row.prompt.before != "" for row in chosen]), scores.script == 2
    usual = _heat(scores, y, ~later, 1.0)
    latin, other = _heat(scores, y, ~later & ~foreign, usual), _heat(scores, y, ~later & foreign, usual)
    followed = _FOLLOWED if later.sum() >= ENOUGH else [1.0]
    tried = (_carrying(scores, y, later, Tuning((latin, latin, other), more)) for more in followed)
    found = min(tried, key=lambda tuning: _loss(scores, y, tuning))
    return replace(found, heats=(latin * STRANGERS, latin, other)) if own.any() else found


def _heat(scores: Scores, y: Floats, which: Mask, usual: float) -> float:
    """The temperature that makes some rows likeliest; the usual one where they are few."""
    some = np.flatnonzero(which)
    part, wanted = scores.some(some), y[some]
    return _best(_HEATS, lambda h: _loss(part, wanted, Tuning((h, h, h)))) if len(some) >= ENOUGH else usual


def _carrying(scores: Scores, y: Floats, later: Mask, tuning: Tuning) -> Tuning:
    """With the shares that make follow-ups likeliest."""
    carry = [0.0, 0.0, 0.0]
    for size in range(3):
        some = np.flatnonzero(later & (scores.weight == size))
        if len(some) >= 10:
            part, wanted = scores.some(some), y[some]
            carry[size] = _best(_CARRIES, partial(_carry_loss, part, wanted, tuning))
    return replace(tuning, carry=(carry[0], carry[1], carry[2]))


def _carry_loss(scores: Scores, y: Floats, tuning: Tuning, share: float) -> float:
    return _loss(scores, y, replace(tuning, carry=(share, share, share)))


def _best(choices: Iterable[float], loss: Callable[[float], float]) -> float:
    return float(min(choices, key=loss))


def _loss(scores: Scores, y: Floats, tuning: Tuning) -> float:
    """Mean cross-entropy; in double precision, or its last bits would choose between settings that are as good."""
    p, _ = scores.tuned(tuning)
    return float(-(y * np.log(p.astype(np.float64) + 1e-9)).sum() / max(len(y), 1))


__all__ = ["FOLDS", "Args", "Model", "Trained", "crossed", "held_out", "joined", "told", "trained", "tuned"]
