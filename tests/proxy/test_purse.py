"""The book of what was paid: never more than a cap, over processes, restarts and kills."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from bestserve.proxy.purse import Caps, Purse

NOON = 1_795_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@pytest.fixture
def book(tmp_path):
    made = Purse(tmp_path / "state" / "spend.db", {"gpt": Caps(hour=1.0), "day": Caps(day=5.0)})
    yield made
    made.close()


def again(tmp_path: Path) -> Purse:
    return Purse(tmp_path / "state" / "spend.db", {"gpt": Caps(hour=1.0), "day": Caps(day=5.0)})


def test_money_is_held_before_it_is_spent(book):
    """What is held counts; what it did not cost comes back."""
    first = book.hold("gpt", 0.6, NOON)
    assert first is not None
    assert book.hold("gpt", 0.6, NOON) is None

    book.settle(first, 0.1)

    assert book.left("gpt", NOON) == pytest.approx(0.9)
    assert book.hold("gpt", 0.6, NOON) is not None


def test_an_answer_may_cost_more_than_was_held(book):
    """Then nothing is left until the window has moved on."""
    held = book.hold("gpt", 0.5, NOON)
    book.settle(held, 1.5)
    assert book.left("gpt", NOON) == pytest.approx(-0.5)
    assert book.hold("gpt", 0.001, NOON) is None
    assert book.left("gpt", NOON + HOUR + MINUTE) == pytest.approx(1.0)


@pytest.mark.parametrize(("backend", "cap", "window_s"), [("gpt", 1.0, HOUR), ("day", 5.0, DAY)])
def test_a_cap_is_over_any_such_time_and_not_over_one_on_the_clock(book, backend, cap, window_s):
    """Whatever two minutes are less than the window apart, both count."""
    book.settle(book.hold(backend, cap, NOON + 59.0), cap)
    assert book.left(backend, NOON + window_s) == pytest.approx(0.0)
    assert book.left(backend, NOON + window_s + 2 * MINUTE) == pytest.approx(cap)


def test_without_a_cap_there_is_no_end(book):
    """And what is paid is kept all the same."""
    book.settle(book.hold("free", 1000.0, NOON), 1000.0)
    assert book.left("free", NOON) == float("inf")
    assert book.spent("free", 60, NOON) == 1000.0


def test_backends_have_purses_of_their_own(book):
    """One at its cap leaves the other alone."""
    book.hold("gpt", 1.0, NOON)
    assert book.left("day", NOON) == 5.0


def test_it_outlives_the_process(book, tmp_path):
    """What was paid, and what was held when it ended, which nobody knows the price of."""
    book.settle(book.hold("gpt", 0.3, NOON), 0.3)
    book.hold("gpt", 0.2, NOON)
    book.close()

    reopened = again(tmp_path)

    assert reopened.left("gpt", NOON) == pytest.approx(0.5)
    reopened.close()


def test_what_no_window_reaches_is_forgotten(book):
    """And nothing else."""
    book.settle(book.hold("gpt", 0.1, NOON - 2 * DAY), 0.1)
    book.hold("gpt", 0.1, NOON - 2 * DAY)
    book.settle(book.hold("gpt", 0.2, NOON), 0.2)
    book.forget(NOON)
    assert book.spent("gpt", 10_000, NOON) == pytest.approx(0.2)


def _spend(folder: str, n: int, start: "multiprocessing.synchronize.Barrier", let_through: "multiprocessing.Queue[int]") -> None:
    purse = again(Path(folder))
    start.wait(20)
    let_through.put(sum(purse.hold("gpt", 1 / 64, NOON) is not None for _ in range(n)))
    purse.close()


def test_several_processes_at_once_do_not_overshoot(tmp_path):
    """Four that want fifty cents each get a dollar between them."""
    fork = multiprocessing.get_context("fork")
    start, let_through = fork.Barrier(4), fork.Queue()
    children = [fork.Process(target=_spend, args=(str(tmp_path), 32, start, let_through)) for _ in range(4)]
    for child in children:
        child.start()
    granted = [let_through.get(timeout=30) for _ in children]
    for child in children:
        child.join()
    assert sum(granted) == 64


def _hold_and_die(folder: str) -> None:
    purse = again(Path(folder))
    purse.settle(purse.hold("gpt", 0.5, NOON), 0.4)
    purse.hold("gpt", 0.3, NOON)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_what_it_held_as_spent(tmp_path):
    """SIGKILL between the holding and the settling."""
    child = multiprocessing.get_context("fork").Process(target=_hold_and_die, args=(str(tmp_path),))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    purse = again(tmp_path)
    assert purse.left("gpt", NOON) == pytest.approx(0.3)
    purse.close()
