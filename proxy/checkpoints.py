"""Where learned policies are read from, and written to: files, whole or not at all."""

from functools import lru_cache
from importlib import resources
from pathlib import Path

from bestserve.policy.checkpoint import BadCheckpoint, Checkpoint, from_bytes, to_bytes

from . import files

PRETRAINED = "pretrained"

MOST = 16_000_000
"""Bytes of a checkpoint's file. Ours have some 30,000."""


def named(name: str | Path) -> Checkpoint:
    """The one that ships, by its word, or a file's. Raises BadCheckpoint."""
    return pretrained() if name == PRETRAINED else load(Path(name))


@lru_cache(maxsize=1)
def pretrained() -> Checkpoint:
    """The one in the package: for any fleet."""
    return from_bytes(resources.files("bestserve.policy").joinpath("weights", "pretrained.ckpt").read_bytes())


def load(path: Path) -> Checkpoint:
    """Read one. Raises BadCheckpoint, which names the file."""
    return files.read(path, MOST, from_bytes, BadCheckpoint)


def save(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Write one, in one move; returns it as it will be read."""
    data = to_bytes(checkpoint)
    files.write(path, data)
    return from_bytes(data)
