"""A simulator draws what the classifier would say, from what it said of prompts that it had not seen."""

from pathlib import Path

import numpy as np
import pytest

from bestserve.policy.confusion import MAGIC, Confusion, from_bytes, to_bytes
from bestserve.policy.facts import TASKS

SHIPPED = Path(__file__).parent.parent.parent / "policy" / "weights" / "confusion.bin"


def test_the_shipped_one_is_right_more_often_than_not():
    """For requests of every task, many worlds at once."""
    confusion, rng = from_bytes(SHIPPED.read_bytes()), np.random.default_rng(1)
    task = np.repeat(np.arange(len(TASKS)), 200)

    rows = confusion.draw(task, rng.random(len(task)))

    assert (confusion.task[rows] == task).all()
    assert 0.5 < (confusion.said[rows].argmax(axis=1) == task).mean() < 0.9
    assert np.allclose(confusion.said.sum(axis=1), 1.0)
    assert np.abs(np.median(confusion.off)) < 1.0
    assert (confusion.sigma > 0).all()


def test_it_comes_back_from_bytes():
    """Sorted by task, in 255ths."""
    said = np.eye(len(TASKS), dtype=np.float32)[[3, 1]]
    one = Confusion(np.array([5, 2]), said, np.array([0.5, -0.5], np.float32), np.array([1.0, 0.5], np.float32))

    again = from_bytes(to_bytes(one))

    assert again.task.tolist() == [2, 5]
    assert again.said.argmax(axis=1).tolist() == [1, 3]
    assert again.off.tolist() == [-0.5, 0.5]


def test_a_task_of_which_nothing_is_known_is_refused():
    """Naming it."""
    one = Confusion(np.array([0]), np.eye(len(TASKS), dtype=np.float32)[:1], np.zeros(1, np.float32), np.ones(1, np.float32))

    with pytest.raises(ValueError, match="chat"):
        one.draw(np.array([0, 9]), np.array([0.1, 0.1]))


@pytest.mark.parametrize("data", [b"", MAGIC, MAGIC + b"x", SHIPPED.read_bytes()[:-9]])
def test_bytes_that_are_none_are_refused(data):
    """With ValueError."""
    with pytest.raises(ValueError):
        from_bytes(data)
