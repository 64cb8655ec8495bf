"""Processes see each other's open work, and nobody else's."""

import os
import warnings
from itertools import pairwise

from bestserve.policy.books import Open
from bestserve.proxy.board import MOST_BACKENDS, Board, _hash


def books(*requests: float) -> Open:
    """Open work at some backends: so many requests each, and more of the rest."""
    return Open(*([float(by * r) for r in requests] for by in range(1, len(Open._fields) + 1)))


def test_a_new_board_is_empty():
    """Nobody has begun anything."""
    assert Board(3).others(0, ("a", "b")) == books(0, 0)


def test_others_are_everybody_but_oneself():
    """Their sums, by backend."""
    board = Board(3)
    for row, work in enumerate([books(1, 2), books(10, 20), books(100, 200)]):
        board.write(row, ("a", "b"), work)

    assert board.others(0, ("a", "b")) == books(110, 220)
    assert board.others(2, ("a", "b")) == books(11, 22)


def test_alone_there_are_no_others():
    """One worker sees nothing."""
    board = Board(1)
    board.write(0, ("a",), books(5))

    assert board.others(0, ("a",)) == books(0)


def test_a_backend_is_known_by_its_name_and_not_by_its_place():
    """Processes reload their config at slightly different times."""
    board = Board(2)
    board.write(1, ("new", "b", "a"), books(7, 2, 1))

    assert board.others(0, ("a", "b")) == books(1, 2)
    assert board.others(0, ("gone",)) == books(0)


def test_what_has_left_a_row_is_forgotten():
    """A shorter fleet leaves nothing of the longer one."""
    board = Board(2)
    board.write(1, ("a", "b", "c"), books(1, 2, 3))
    board.write(1, ("b",), books(5))

    assert board.others(0, ("a", "b", "c")) == books(0, 5, 0)


def test_a_dead_process_has_no_work():
    """Its row is cleared, and may be written again."""
    board = Board(2)
    board.write(1, ("a",), books(9))
    board.clear(1)
    assert board.others(0, ("a",)) == books(0)

    board.write(1, ("a",), books(1))
    assert board.others(0, ("a",)) == books(1)


def test_what_comes_to_others_is_known_and_fades():
    """Forty a second and two a second at two siblings; a moment later less, of a process that has died nothing."""
    board = Board(3)
    for row, rate in enumerate((7.0, 40.0, 2.0)):
        board.write(row, ("a",), books(0), rate, 100.0)

    assert board.rate_of_others(0, 100.0) == 42.0
    assert 0.1 < board.rate_of_others(0, 104.0) < 20.0
    board.clear(1)
    assert board.rate_of_others(0, 100.0) == 2.0


def test_a_full_row_fits():
    """As many backends as there may be."""
    names = tuple(f"b{i}" for i in range(MOST_BACKENDS))
    board = Board(2)
    board.write(1, names, books(*range(MOST_BACKENDS)))

    assert board.others(0, names) == books(*range(MOST_BACKENDS))


def test_a_name_has_one_number():
    """The same in every process, exact as a float, and its own."""
    numbers = sorted(_hash(f"backend-{i}") for i in range(10_000))

    assert numbers[0] > 0
    assert numbers[-1] <= 2**48
    assert all(a < b for a, b in pairwise(numbers))
    assert _hash("small") == _hash("small") == float(int(_hash("small")))


def test_a_forked_process_shares_the_board():
    """What a child writes, its parent reads."""
    board = Board(2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that other tests may have left: the child uses none
        child = os.fork()
    if child == 0:
        board.write(1, ("a",), books(4))
        os._exit(0)
    os.waitpid(child, 0)

    assert board.others(0, ("a",)) == books(4)
