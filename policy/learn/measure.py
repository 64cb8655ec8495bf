"""How well probabilities over classes, and expected lengths, fit rows whose label is known."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .linear import Floats
from .prompts import Row

BINS = 10


def measured(p: Floats, rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any]:
    """n; share where the likeliest is the label, or one that a reader would also accept; where the label is among the two likeliest;
    expected calibration error over BINS of confidence, and what perfect probabilities would show of it on as many rows; mean surprise in
    nats."""
    y, best = np.array([classes.index(str(row.task)) for row in rows]), p.argmax(axis=1)
    two = np.argsort(-p, axis=1)[:, :2]
    lenient = [classes[b] == row.task or classes[b] in row.also for b, row in zip(best, rows, strict=True)]
    chance, most = chance_error(p.max(axis=1))
    return {
        "n": len(rows),
        "accuracy": float((best == y).mean()),
        "lenient": float(np.mean(lenient)),
        "top2": float((two == y[:, None]).any(axis=1).mean()),
        "ece": sum(part["n"] / len(rows) * abs(part["right"] - part["said"]) for part in reliability(p, rows, classes)),
        "ece_chance": chance,
        "ece_chance_95": most,
        "nats": float(-np.log(p[np.arange(len(y)), y] + 1e-9).mean()),
    }


def chance_error(said: Floats) -> tuple[float, float]:
    """Calibration error that chance alone makes where each of the confidences (N,) is right as often as it says: its mean, and what 95 of
    100 draws stay below. A bin's error is then about normal with the variance of its rows' sum, and what is seen of it is its size."""
    bins, spread = binned(said), np.zeros(BINS)
    np.add.at(spread, bins, said * (1.0 - said))
    mean = np.sqrt(spread * 2.0 / np.pi).sum() / len(said)
    return float(mean), float(mean + 1.645 * np.sqrt((spread * (1.0 - 2.0 / np.pi)).sum()) / len(said))


def binned(said: Floats) -> NDArray[np.int64]:
    """Which of BINS each confidence is in."""
    return np.minimum((said * BINS).astype(np.int64), BINS - 1)


def reliability(p: Floats, rows: Sequence[Row], classes: Sequence[str]) -> list[dict[str, float]]:
    """Of each bin of confidence that is not empty: how many rows, the confidence that was said, and the share that was right."""
    y, said = np.array([classes.index(str(row.task)) for row in rows]), p.max(axis=1)
    right, bins = p.argmax(axis=1) == y, binned(said)
    return [
        {"n": int((bins == b).sum()), "said": float(said[bins == b].mean()), "right": float(right[bins == b].mean())}
        for b in np.unique(bins)
    ]


def by(key: Callable[[Row], str], p: Floats, rows: Sequence[Row], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`measured` of each group of rows."""
    groups = np.array([key(row) for row in rows])
    return {
        str(name): measured(p[groups == name], [row for row, g in zip(rows, groups, strict=True) if g == name], classes)
        for name in np.unique(groups)
    }


def lengths(expected: Floats, sigma: Floats, rows: Sequence[Row]) -> dict[str, float] | None:
    """Of rows whose tokens are known: share of the variance of log tokens that is explained, with and without one offset for all; and
    the share that lies below the expected 90th percentile. None when no row's tokens are known."""
    known = np.array([i for i, row in enumerate(rows) if row.tokens], dtype=np.int64)
    if len(known) < 2:
        return None
    y, x, s = np.log([rows[i].tokens or 1.0 for i in known.tolist()]), expected[known], sigma[known]
    total = float(((y - y.mean()) ** 2).sum())
    return {
        "n": len(known),
        "r2": 1.0 - float(((y - x) ** 2).sum()) / total,
        "r2_offset": 1.0 - float(((y - x - (y - x).mean()) ** 2).sum()) / total,
        "offset": float((y - x).mean()),
        "below_q90": float((y <= x + 1.2816 * s).mean()),
    }
