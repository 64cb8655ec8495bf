"""What the classifier would say of a prompt that has no text: drawn from what it did say of prompts that it had not seen.

A simulator knows each request's true task and true length. It draws, among the held-out prompts of that task, one, and takes the
probabilities that were given to that one, and by how much its length was misjudged.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .facts import TASKS

MAGIC = b"bestserve-confusion-1\n"


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Of N held-out prompts: the true task, what was said, and how far the length was off."""

    task: NDArray[np.int64]  # (N,) index into TASKS, rising
    said: NDArray[np.float32]  # (N, T) probabilities
    off: NDArray[np.float32]  # (N,) log of expected median over true tokens
    sigma: NDArray[np.float32]  # (N,) spread that was expected

    def draw(self, task: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Rows for requests of true tasks (n,), by numbers in [0, 1) (n,). Raises ValueError for a task of which none was held out."""
        begin, end = np.searchsorted(self.task, task, "left"), np.searchsorted(self.task, task, "right")
        if (begin == end).any():
            raise ValueError(f"no held-out prompt of task {TASKS[int(task[begin == end][0])]}")
        return begin + ((end - begin) * uniform).astype(np.int64)


def to_bytes(confusion: Confusion) -> bytes:
    """Deflated: the number of rows, and the columns, probabilities in 255ths."""
    order = np.argsort(confusion.task, kind="stable")
    columns = (
        confusion.task[order].astype(np.uint8).tobytes(),
        np.rint(confusion.said[order] * 255).astype(np.uint8).tobytes(),
        confusion.off[order].astype("<f2").tobytes(),
        confusion.sigma[order].astype("<f2").tobytes(),
    )
    return MAGIC + zlib.compress(struct.pack("<I", len(order)) + b"".join(columns), 9)


def from_bytes(data: bytes) -> Confusion:
    """Read it. Raises ValueError."""
    if not data.startswith(MAGIC):
        raise ValueError("the first line is not that of a confusion of this version")
    try:
        body = zlib.decompress(data[len(MAGIC) :])
        (n,) = struct.unpack_from("<I", body)
        tasks = len(TASKS)
        if len(body) != 4 + n * (1 + tasks + 4):
            raise ValueError(f"{len(body)} bytes for {n} rows")
    except (zlib.error, struct.error) as error:
        raise ValueError(f"cannot be read: {error}") from error
    said = np.frombuffer(body, np.uint8, n * tasks, 4 + n).reshape(n, tasks).astype(np.float32)
    halves = np.frombuffer(body, "<f2", 2 * n, 4 + n * (1 + tasks)).astype(np.float32)
    return Confusion(
        task=np.frombuffer(body, np.uint8, n, 4).astype(np.int64),
        said=said / said.sum(axis=1, keepdims=True),
        off=halves[:n],
        sigma=halves[n:],
    )
