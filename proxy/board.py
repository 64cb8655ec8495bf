"""In-flight work and arrivals of every worker process, in memory that they share: a row for each process, which alone writes it.

Each process counts what it has begun itself; what its siblings have begun at the same backend it reads here. A row lists (hash of the
backend's name, its books), so that processes that reload their config at slightly different times
never take one backend's work for another's. Reads are not locked: a row is read as it is being written at worst once in a while, and a
count that is off by one request for a microsecond does no harm.
"""

import mmap
from hashlib import blake2b

import numpy as np

from bestserve.policy.books import Open, rate_after
from bestserve.policy.fleet import RATE_S

MOST_BACKENDS = 256
_COLUMNS = 1 + len(Open._fields)


class Board:
    """Made before the processes are forked; `row` is the process's own."""

    def __init__(self, n_workers: int) -> None:
        n = n_workers * MOST_BACKENDS * _COLUMNS
        self._memory = mmap.mmap(-1, (n + 2 * n_workers) * 8)
        cells = np.frombuffer(self._memory, dtype=np.float64)
        self._rows, self._rates = cells[:n].reshape(n_workers, MOST_BACKENDS, _COLUMNS), cells[n:].reshape(n_workers, 2)

    def write(self, row: int, names: tuple[str, ...], books: Open, rate: float = 0.0, at: float = 0.0) -> None:
        """Publish this process's open work, a place for each name; no others know of those beyond MOST_BACKENDS. And the requests a second
        that came to it, by its clock, which is the same for all processes of a machine."""
        self._rates[row] = rate, at
        here, names = self._rows[row], names[:MOST_BACKENDS]
        here[: len(names), 0] = [_hash(name) for name in names]
        here[: len(names), 1:] = np.array(books).T[: len(names)]
        here[len(names) :, 0] = 0

    def others(self, row: int, names: tuple[str, ...]) -> Open:
        """The open work of all other processes."""
        total = np.zeros((_COLUMNS - 1, len(names)))
        columns = {_hash(name): i for i, name in enumerate(names)}
        for other in np.delete(self._rows, row, axis=0):
            for entry in other[other[:, 0] != 0]:
                if entry[0] in columns:
                    total[:, columns[entry[0]]] += entry[1:]
        return Open(*total.tolist())

    def rate_of_others(self, row: int, now: float) -> float:
        """Requests a second that come to all other processes."""
        return sum(rate_after(rate, at, now, RATE_S) for i, (rate, at) in enumerate(self._rates.tolist()) if i != row)

    def clear(self, row: int) -> None:
        """Forget the work of a process that has died."""
        self._rows[row], self._rates[row] = 0, 0


_hashes: dict[str, float] = {}


def _hash(name: str) -> float:
    """A number for a name, exact as a float64 and never 0."""
    known = _hashes.get(name)
    if known is None:
        known = _hashes[name] = float(int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big") + 1)
    return known
