"""Sizes tell of tasks what probabilities do not."""

import numpy as np
import pytest

from bestserve.policy.learn.logged import some
from bestserve.policy.learn.sharpen import sharpened
from tests.policy.learn.log_by_simulation import lines, logged, played

pytestmark = pytest.mark.timeout(600)


def test_the_true_task_becomes_likelier():
    """In the mean, and probabilities stay some."""
    columns, _ = logged()
    sharp = sharpened(columns)
    true = played().scene.trace.task[[int(line.request_id[1:]) for line in lines()]]
    i = np.arange(len(true))
    assert sharp[i, true].mean() > columns.task[i, true].mean() + 0.05
    assert sharp.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_an_empty_log_is_no_error():
    """Nothing to tell."""
    columns, _ = logged()
    assert len(sharpened(some(columns, slice(0, 0)))) == 0
