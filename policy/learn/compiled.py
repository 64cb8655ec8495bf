"""What is marked `numeric`, compiled by numba: the same source, some hundred times faster over arrays.

numba calls only what it has compiled itself, so each function is compiled with a namespace in which the other numeric functions it uses
are the compiled ones. What was compiled is kept on disk, under a name made from the sources: numba by itself would not notice that a
function changed in another file than the one that calls it.
"""

import types
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np

from bestserve.policy.numeric import NUMERIC

T = TypeVar("T")


@cache
def compiled(function: Callable[..., T]) -> Callable[..., T]:
    """A numeric function, compiled at its first call with arrays in place of lists (see `arrays`)."""
    return _all()[function]


@cache
def _all() -> dict[Callable[..., Any], Callable[..., Any]]:
    numba.config.CACHE_DIR = str(Path.home() / ".cache" / "bestserve" / _version())
    spaces = [dict(function.__globals__) for function in NUMERIC]
    pairs = zip(NUMERIC, spaces, strict=True)
    done: dict[Callable[..., Any], Callable[..., Any]] = {
        function: numba.njit(cache=True, error_model="numpy")(_in(function, space)) for function, space in pairs
    }
    for space in spaces:
        space.update({name: done[value] for name, value in space.items() if isinstance(value, types.FunctionType) and value in done})
    return done


def _in(function: Callable[..., Any], space: dict[str, Any]) -> types.FunctionType:
    """The same function with another namespace."""
    assert isinstance(function, types.FunctionType)
    moved = types.FunctionType(function.__code__, space, function.__name__, function.__defaults__)
    moved.__module__, moved.__qualname__ = function.__module__, function.__qualname__
    return moved


def _version() -> str:
    """Of the compiler, and of every source that what is compiled may have a constant from."""
    digest = blake2b(numba.__version__.encode(), digest_size=8)
    for path in sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def sources() -> list[Path]:
    """All of the folders in which something is numeric: a function has constants from files that have no numeric functions themselves."""
    folders = {Path(function.__code__.co_filename).parent for function in NUMERIC}
    return sorted(path for folder in folders for path in folder.glob("*.py"))


def arrays(value: T) -> T:
    """NamedTuples of lists, however deep, as NamedTuples of arrays; whatever else as it is."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(arrays, value))
    if isinstance(value, list | tuple):
        return np.array(value, dtype=_kind(value))  # type: ignore[return-value]
    return value


def _kind(values: list[Any] | tuple[Any, ...]) -> type:
    kinds = {type(value) for value in values}
    if kinds <= {bool} and kinds:
        return np.bool_
    return np.int64 if kinds <= {int} and kinds else np.float64


def copy_into(to: Any, of: Any) -> None:
    """Make the arrays of one NamedTuple those of another of the same shape, however deep."""
    for here, there in zip(to, of, strict=True):
        if isinstance(here, tuple):
            copy_into(here, there)
        else:
            here[...] = there
