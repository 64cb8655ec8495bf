"""Where learned policies are read from, and written to: files, whole or not at all."""

import os
from pathlib import Path

from bestserve.policy.checkpoint import BadCheckpoint, Checkpoint, from_bytes, to_bytes

from . import files

MOST = 16_000_000
"""Bytes of a checkpoint's file. Ours have some 30,000."""


def load(path: Path) -> Checkpoint:
    """Read one. Raises BadCheckpoint, which names the file."""
    return files.read(path, MOST, from_bytes, BadCheckpoint)


def save(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Write one, in one move; returns it as it will be read."""
    data = to_bytes(checkpoint)
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    return from_bytes(data)
