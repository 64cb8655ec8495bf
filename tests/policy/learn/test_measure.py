"""Measures of probabilities and of lengths against what is known."""

import numpy as np
import pytest

from bestserve.policy.features import Prompt
from bestserve.policy.learn import measure
from bestserve.policy.learn.prompts import Row

CLASSES = ("a", "b", "c")


def rows(*labels: str, also: tuple[str, ...] = (), tokens: float | None = None) -> list[Row]:
    return [Row(Prompt.of("x"), label, also=also, tokens=tokens, lang=label) for label in labels]


P = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05]], np.float32)


def test_shares_are_counted():
    """The likeliest, one that is accepted, the two likeliest, and the surprise."""
    told = measure.measured(P, rows("a", "c", "c", "b", also=("b",)), CLASSES)

    assert told["n"] == 4
    assert told["accuracy"] == 0.5
    assert told["lenient"] == 0.75
    assert told["top2"] == 1.0
    assert told["nats"] == pytest.approx(-np.log([0.6, 0.7, 0.3, 0.05]).mean(), rel=1e-5)


def test_calibration_is_said_against_right():
    """By bins of confidence, each weighing as many rows as it has."""
    told = measure.reliability(P, rows("a", "c", "c", "b"), CLASSES)

    assert [(b["n"], b["right"]) for b in told] == [(1, 0.0), (1, 1.0), (1, 1.0), (1, 0.0)]
    assert measure.measured(P, rows("a", "c", "c", "b"), CLASSES)["ece"] == pytest.approx((0.5 + 0.4 + 0.3 + 0.9) / 4, rel=1e-5)


def test_sure_and_right_is_perfect():
    """And sure and wrong is not."""
    sure = np.eye(3, dtype=np.float32)

    assert measure.measured(sure, rows("a", "b", "c"), CLASSES)["ece"] == pytest.approx(0.0)
    assert measure.measured(sure, rows("b", "c", "a"), CLASSES)["ece"] == pytest.approx(1.0)


@pytest.mark.parametrize("n", [100, 640])
def test_chance_alone_makes_some_error(n):
    """As much as drawing shows, of confidences that are right as often as they say."""
    rng = np.random.default_rng(0)
    said = rng.uniform(0.25, 1.0, n).astype(np.float32)
    p = np.column_stack([said, (1 - said) / 2, (1 - said) / 2])
    p[said < 0.4] = [0.4, 0.3, 0.3]
    drawn = [
        measure.measured(p, [Row(Prompt.of("x"), "a" if right else "b") for right in rng.random(n) < p[:, 0]], CLASSES)["ece"]
        for _ in range(300)
    ]

    told = measure.measured(p, rows(*["a"] * n), CLASSES)

    assert told["ece_chance"] == pytest.approx(np.mean(drawn), rel=0.06)
    assert told["ece_chance_95"] == pytest.approx(np.quantile(drawn, 0.95), rel=0.1)


def test_groups_are_measured_apart():
    """Each by its own rows."""
    told = measure.by(lambda row: row.lang, P, rows("a", "c", "c", "b"), CLASSES)

    assert {name: m["n"] for name, m in told.items()} == {"a": 1, "b": 1, "c": 2}
    assert told["c"]["accuracy"] == 0.5


def test_lengths_are_explained_or_not():
    """Up to one offset; the mean explains nothing; no tokens, nothing to say."""
    known = [Row(Prompt.of("x"), None, tokens=float(np.exp(k))) for k in range(1, 5)]
    y, one = np.arange(1.0, 5.0, dtype=np.float32), np.ones(4, np.float32)

    exact, off, mean = (measure.lengths(x, one, known) for x in (y, y - 1, np.full(4, 2.5, np.float32)))

    assert exact is not None
    assert off is not None
    assert mean is not None
    assert (exact["r2"], exact["below_q90"]) == (pytest.approx(1.0), 1.0)
    assert (off["r2_offset"], off["offset"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert off["r2"] < 0.5
    assert mean["r2"] == pytest.approx(0.0, abs=1e-6)
    assert measure.lengths(y, one, rows("a", "b", "c", "a")) is None
