"""Arithmetic that is written once and runs at two speeds.

A live request is one small problem in a process whose caches are cold: there plain Python over short lists of floats is several times
faster than many small calls into numpy. A simulation is millions of the same problem: there the same source, compiled by numba over
arrays, takes a microsecond. So every function marked `numeric` is written in what both can run: scalars, indexing, loops, `math`;
rows of numbers come in NamedTuples, and results are written into cells that the caller gives. Nothing marked so has a second
implementation. Where torch may be, numba may be too: `bestserve.policy.learn.compiled` compiles what is listed here.
"""

from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Column = Sequence[float] | NDArray[np.float64]
"""Numbers to read: a list, a tuple, or an array of one axis."""

Cells = MutableSequence[float]
"""Numbers to write: a list, or an array of one axis."""

Counts = MutableSequence[int]
"""Whole numbers to write: places in other columns, tokens, requests."""

Flags = Sequence[bool]

FlagCells = MutableSequence[bool]

F = TypeVar("F", bound=Callable[..., Any])

NUMERIC: list[Callable[..., Any]] = []
"""Every function marked so far, in the order of import."""


def numeric(function: F) -> F:
    """Mark a function as one that can be compiled. It stays as it is."""
    NUMERIC.append(function)
    return function
