"""What a drawn trace says of its requests' tasks: as much as its teller knows, and nothing else of the trace changes with that."""

import numpy as np
import pytest

from bestserve.policy.confusion import Confusion
from bestserve.policy.facts import TASKS
from bestserve.policy.simulate import Trace
from bestserve.policy.workload import Demand, draw_trace, poisson
from bestserve.proxy.weights import confusion

N = len(TASKS)


def trace(teller: str, *, known: Confusion | None = None, seed: int = 3, **demand: object) -> Trace:
    demand = Demand(teller=teller, confusion=known or confusion(), **demand)
    return draw_trace(np.random.default_rng(seed), poisson(20.0), 100.0, demand)


@pytest.mark.parametrize("teller", ["true", "classified", "hard", "none"])
def test_all_else_is_the_same_whoever_tells(teller):
    """Times, sizes, deadlines, what is foreseen of lengths: to the bit."""
    one, other = trace(teller), trace("modelled")

    assert len(one.at) > 1000
    for name in Trace._fields:
        assert np.array_equal(getattr(one, name), getattr(other, name)) == (name != "told")


def test_the_same_seed_says_the_same():
    """And another seed does not."""
    assert np.array_equal(trace("classified").told, trace("classified").told)
    assert not np.array_equal(trace("classified").told[:50], trace("classified", seed=4).told[:50])


def test_who_knows_is_certain_and_right():
    """The true task, and no other."""
    found = trace("true")

    assert np.array_equal(found.told, np.eye(N)[found.task])


def test_nobody_knows_the_mix():
    """And nothing of a request."""
    mix = (0.5, 0.5, *(0.0,) * (N - 2))

    assert np.allclose(trace("none", mix=mix).told, mix)


@pytest.mark.parametrize("teller", ["modelled", "none"])
def test_a_mix_that_shifts_is_known_as_a_whole(teller):
    """A task that comes up only later is not ruled out: nobody is certain of the tasks that were there first."""
    first, later = (1.0, 1.0, *(0.0,) * (N - 2)), (*(0.0,) * (N - 1), 1.0)
    found = trace(teller, mix=first, later_mix=later)

    assert found.told.mean(axis=0) == pytest.approx((0.25, 0.25, *(0.0,) * (N - 3), 0.5), abs=0.04)
    assert (found.task == N - 1).mean() == pytest.approx(0.5, abs=0.04)


def test_the_classifier_says_what_it_said_of_others():
    """Probabilities that it gave to prompts of that task, right as often as it was; or the likeliest alone."""
    found, hard = trace("classified"), trace("hard")

    assert np.allclose(found.told.sum(axis=1), 1.0)
    right = (found.told.argmax(axis=1) == found.task).mean()
    assert right == pytest.approx((confusion().said.argmax(axis=1) == confusion().task).mean(), abs=0.05)
    assert np.array_equal(hard.told, np.eye(N)[found.told.argmax(axis=1)])


def test_without_a_confusion_nothing_is_made_up():
    """Naming who needs it."""
    with pytest.raises(ValueError, match="'hard' needs"):
        draw_trace(np.random.default_rng(0), poisson(20.0), 10.0, Demand(teller="hard"))
