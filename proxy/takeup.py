"""What is published, as far as a live process can use it.

A version is read, checked (`policy.checkpoint` looks at encoder, inputs, shapes and numbers), and asked about some requests before it may
decide about others. One that is refused changes nothing: what decided before goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bestserve.policy.actor import Actor
from bestserve.policy.checkpoint import BadCheckpoint, Checkpoint
from bestserve.policy.encode import Observation

from . import published
from .published import NOBODY, Pointer, Unpublished

Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken up."""

    pointer: Pointer = NOBODY
    standing: Checkpoint | None = None  # None: what the config says
    challenger: Checkpoint | None = None  # the one on trial
    refusals: tuple[str, ...] = ()  # what could not be, with the file

    @property
    def key(self) -> tuple[object, ...]:
        """What makes it another."""
        ids = [None if checkpoint is None else checkpoint.id for checkpoint in (self.standing, self.challenger)]
        return (self.pointer, *ids, self.refusals)


NOTHING = Taken()


def mark(directory: Path) -> Mark | None:
    """What changes when the pointer does. Asks for no more than the file's status. Raises OSError."""
    try:
        status = (directory / published.CURRENT).stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def take(directory: Path, samples: Sequence[Observation], before: Taken = NOTHING) -> Taken:
    """What decides now; what cannot be used stays as it was before, with the reason among the refusals."""
    try:
        pointer = published.current(directory)
    except (OSError, Unpublished) as error:
        return replace(before, refusals=(str(error),))
    refusals: list[str] = []

    def checked(version: str | None, otherwise: Checkpoint | None) -> Checkpoint | None:
        try:
            return None if version is None else read(directory, version, samples)
        except BadCheckpoint as error:
            refusals.append(str(error))
            return otherwise

    standing = checked(pointer.stands, before.standing)
    challenger = checked(pointer.version, None) if pointer.trial else None
    return Taken(pointer, standing, challenger, tuple(refusals))


def read(directory: Path, version: str, samples: Sequence[Observation]) -> Checkpoint:
    """A version that can decide. Raises BadCheckpoint, which names the file."""
    checkpoint = published.load(directory, version)
    path = directory / f"{version}.ckpt"
    if not version.endswith(checkpoint.id):
        raise BadCheckpoint(f"{path}: these are not the bytes that were published: their hash is {checkpoint.id}")
    actor = Actor(checkpoint)
    with np.errstate(all="ignore"):  # what comes of it is looked at
        for observation in samples:
            try:
                p = np.array(actor(observation))
            except (ValueError, ArithmeticError, IndexError) as error:  # as `Serving.decide` has it
                raise BadCheckpoint(f"{path}: {error} for a sample request") from error
            if abs(p.sum() - 1.0) > 1e-6 or p.min() < 0 or p[~np.array(observation.mask)].any():
                raise BadCheckpoint(f"{path}: gives a sample request no probabilities over what it may choose")
    return checkpoint
