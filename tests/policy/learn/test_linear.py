"""The fit's arithmetic: a sparse matrix is a matrix, a ridge is a ridge, and targets are what was labelled."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from bestserve.policy.features import Prompt
from bestserve.policy.learn import linear
from bestserve.policy.learn.linear import NOTHING, Args, matrix, ridge, softmaxed, targets
from bestserve.policy.learn.prompts import Row

COLUMNS = {("w", "one"): 0, ("w", "two"): 1, ("b", ("one", "two")): 2, ("n", 64): 3}
BAGS = [
    {**NOTHING, "w": ["one", "two", "one", "unknown"], "b": [("one", "two")], "n": [64]},
    {**NOTHING},
    {**NOTHING, "w": ["two"]},
]
DENSE = np.array([[0.5**0.5, 0.5**0.5, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], np.float32)


def test_a_group_weighs_one_whatever_its_number():
    """Words and pairs count once; what is not known does not count; an empty row is nothing."""
    assert np.allclose(matrix(BAGS, COLUMNS).times(np.eye(4, dtype=np.float32)), DENSE)


def test_it_multiplies_like_a_matrix():
    """From both sides, and by rows."""
    sparse, rng = matrix(BAGS, COLUMNS), np.random.default_rng(0)
    w, g = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)
    which = np.array([2, 0, 1, 0])

    assert np.allclose(sparse.times(w), DENSE @ w, atol=1e-6)
    assert np.allclose(sparse.transposed_times(g, 4), DENSE.T @ g, atol=1e-6)
    assert np.allclose(sparse.rows(which).times(w), DENSE[which] @ w, atol=1e-6)


def test_a_ridge_is_the_closed_form():
    """Weighted, by conjugate gradients."""
    sparse = matrix(BAGS, COLUMNS)
    y, sure = np.array([1.0, 5.0, -2.0], np.float32), np.array([1.0, 2.0, 3.0], np.float32)
    wanted = np.linalg.solve(DENSE.T @ (DENSE * sure[:, None]) + 0.5 * np.eye(4), DENSE.T @ (y * sure))

    assert np.allclose(ridge(sparse, 4, y, sure, 0.5), wanted, atol=1e-4)


def test_targets_share_with_what_is_also_accepted():
    """A row with probabilities keeps them; one whose task is not known has nothing to learn from."""
    prompt, args = Prompt.of("x"), Args(smooth=0.1, also=0.2)
    many = [Row(prompt, "a"), Row(prompt, "a", also=("b", "c")), Row(prompt, None, soft=(0.2, 0.3, 0.5)), Row(prompt, None, tokens=3.0)]

    y = targets(many, ("a", "b", "c"), args)

    assert y[:3].sum(axis=1) == pytest.approx([1.0, 1.0, 1.0])
    assert y[0].tolist() == pytest.approx([0.1 / 3 + 0.9, 0.1 / 3, 0.1 / 3])
    assert y[1].tolist() == pytest.approx([0.1 / 3 + 0.9 * 0.8, 0.1 / 3 + 0.09, 0.1 / 3 + 0.09])
    assert y[2].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert y[3].tolist() == [0, 0, 0]


def test_softmax_bears_large_numbers():
    """Row by row."""
    assert softmaxed(np.array([[1e4, 0.0], [0.0, 0.0]], np.float32)) == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]), abs=1e-30)


def test_words_alone_are_a_bag():
    """Of traffic whose text was not kept."""
    (bag,) = linear.bags_of([Row(Prompt.of(""), None, soft=(1.0,), words=("one", "two"))])

    assert bag == {**NOTHING, "w": ["one", "two"]}


def test_exp_is_that_of_numpy_but_for_its_last_bit():
    """From 1 down to nothing."""
    x = np.append(np.linspace(-75, 0, 10_001), -np.float32(3e38)).astype(np.float32)

    assert np.allclose(linear.exp(x)[:-1], np.exp(x[:-1].astype(np.float64)), rtol=2e-7, atol=0)
    assert linear.exp(x)[-1] < 1e-30


SAME = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from tests.policy.learn.test_tasks import rows
from bestserve.policy.facts import TASKS
from bestserve.policy.learn.linear import Args, fit
model = fit(rows(), TASKS, Args(size=200, epochs=3))
print(hashlib.sha256(repr(model.keys).encode() + model.weights.tobytes() + model.bias.tobytes() + model.tokens.tobytes()).hexdigest())
"""


def test_the_same_rows_give_the_same_weights_anywhere():
    """To the last bit: in processes that order sets differently, and without the instructions that not every processor has."""
    root, plain = Path(__file__).parents[3], " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))

    said = [
        subprocess.run([sys.executable, "-c", SAME, str(root)], env=more, capture_output=True, text=True, check=True).stdout
        for more in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "NPY_DISABLE_CPU_FEATURES": plain, "OPENBLAS_CORETYPE": "Prescott"})
    ]

    assert said[0] == said[1] != ""
