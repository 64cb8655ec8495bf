"""The features of a prompt, added up: a whole number for each column of the weights. In plain Python here; in C, with the same results to
the bit, in `_reader.c`, where there was a compiler when the package was built.

Facts
    One request, one thread, some hundred features. The arithmetic is nothing; calls are everything. Each call into numpy costs a
    microsecond when the caches are warm and five when they are not, and a request finds them cold.

Plan, of the plain one
    A feature's weights, one for each class and one for the length, are small whole numbers laid side by side in one Python integer, 32
    bits each, and a last field that counts. So `sum(map(get, keys))` adds up all classes at once; groups are added up in sixteenth
    thousandths of their scale, and one `struct.unpack` takes the sum apart. 900 characters have at most some 1,600 features, which a
    field holds.
"""

import math
import struct
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Protocol

import numpy as np

from .features import GROUPS, Key, Prompt, Words, counts, cut, ends, first, last, pairs, weight_class

MIDDLE = 128
"""The byte that stands for a weight of zero."""

UNITS = 16_384
"""Steps in which a group's share of the sum is rounded."""

PART = "\x1f"
"""Stands in a key of the file between the words of which it is made."""

Read = tuple[list[int], list[int] | None, bool]
"""Sums of the text and the system prompt, (C + 1,); of the message before, times what is carried over; whether the text is foreign."""


class Reader(Protocol):
    """Adds up. Made of the keys as they are in the file, how many each group has, weights (C + 1, F) as bytes, C + 1, what a group's
    weights are worth in UNITS, and what is carried over by weight class. Raises ValueError where these do not fit each other."""

    def read(self, text: str, size: int, before: str, system: str) -> Read:
        """The sums of a Prompt."""
        ...


Compiled: Callable[..., Reader] | None
try:
    from . import _reader

    Compiled = _reader.Reader
except ImportError:  # built where there was no compiler
    Compiled = None


class PlainReader:
    """In plain Python."""

    def __init__(
        self, keys: list[str], counts: tuple[int, ...], weights: bytes, columns: int, units: tuple[float, ...], carry: tuple[float, ...]
    ) -> None:
        if sum(counts) != len(keys) or len(weights) != len(keys) * columns:
            raise ValueError("keys, counts and weights are not of one size")
        self._fields = struct.Struct(f"<{columns + 1}I")
        self._columns, self._units, self._carry = columns, units, carry
        self._tables: dict[str, dict[Key, int]] = {}
        packed, begin = _packed(np.frombuffer(weights, np.uint8).reshape(columns, len(keys)).T), 0
        for group, n in zip(GROUPS, counts, strict=True):
            self._tables[group] = dict(zip(read_keys(keys[begin : begin + n], group), packed[begin : begin + n], strict=True))
            begin += n
        parts = [(str(key), value) for key, value in self._tables["a"].items()]
        self._begins = {key[:-1]: value for key, value in parts if key.endswith("-")}
        self._finals = {key[1:]: value for key, value in parts if key.startswith("-")}

    def read(self, text: str, size: int, before: str, system: str) -> Read:
        """The sums of a Prompt."""
        words = cut(text)
        own = self._sums(words, counts(Prompt(text, size, before, system), words), dict.fromkeys(cut(system).words) if system else (), 1.0)
        carried = self._sums(cut(before), (), (), self._carry[weight_class(words)]) if before else None
        return own, carried, is_foreign(text)

    def _sums(self, words: Words, sizes: Iterable[Key], system: Iterable[Key], share: float) -> list[int]:
        t = self._tables
        begins, finals, numbers = ends(words)
        totals = (
            sum(map(t["w"].get, dict.fromkeys([*words.words, *words.han] if words.han else words.words), repeat(0))),
            sum(map(t["b"].get, dict.fromkeys(pairs(words)), repeat(0))),
            sum(map(self._begins.get, begins, repeat(0)))
            + sum(map(self._finals.get, finals, repeat(0)))
            + sum(map(t["a"].get, numbers, repeat(0))),
            sum(map(t["h"].get, first(words), repeat(0))),
            sum(map(t["t"].get, last(words), repeat(0))),
            sum(map(t["n"].get, sizes, repeat(0))),
            sum(map(t["s"].get, system, repeat(0))),
        )
        counted = 32 * self._columns  # where the field begins that counts
        grand = sum(
            total * round(unit * share / math.sqrt(total >> counted)) for total, unit in zip(totals, self._units, strict=True) if total
        )
        *fields, n = self._fields.unpack(grand.to_bytes(self._fields.size, "little"))
        zero = MIDDLE * n
        return [field - zero for field in fields]


def is_foreign(text: str) -> bool:
    """Whether more than some twentieth of it is not ASCII."""
    return not text.isascii() and len(text.encode("utf-8", "ignore")) >= 1.05 * len(text)


def script(text: str) -> int:
    """0 where all of it is ASCII, 1 where some of it is not (accents, typographic marks), 2 where it is foreign."""
    return 2 if is_foreign(text) else int(not text.isascii())


def read_keys(words: list[str], group: str) -> list[Key]:
    """The keys of a group, of what the file says."""
    if group == "n":
        return list(map(int, words))
    if group in "was":
        return list(words)
    return [tuple(word.split(PART)) if PART in word else word for word in words]


def _packed(weights: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> list[int]:
    """Each row (C + 1,) as one integer: its bytes 32 bits apart, and a last field of one, which counts."""
    fields = np.ones((len(weights), weights.shape[1] + 1), dtype="<u4")
    fields[:, :-1] = weights
    data, size = fields.tobytes(), 4 * fields.shape[1]
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
