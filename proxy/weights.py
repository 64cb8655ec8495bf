"""Where a task classifier's weights are read from: the package, or a file of the operator's; and how far the shipped one is right."""

from functools import lru_cache
from importlib import resources
from pathlib import Path

from bestserve.policy.classify import BadWeights, Classifier
from bestserve.policy.confusion import Confusion
from bestserve.policy.confusion import from_bytes as confusion_of

from . import files

MOST = 8_000_000
"""Bytes of a weights file. The shipped one has some 300,000."""


@lru_cache(maxsize=1)
def shipped() -> Classifier:
    """The one in the package."""
    return Classifier.from_bytes(resources.files("bestserve.policy").joinpath("weights", "task.bin").read_bytes())


@lru_cache(maxsize=1)
def confusion() -> Confusion:
    """What the shipped one said of prompts that it had not seen."""
    return confusion_of(resources.files("bestserve.policy").joinpath("weights", "confusion.bin").read_bytes())


def load(path: Path) -> Classifier:
    """One from a file. Raises BadWeights."""
    return files.read(path, MOST, Classifier.from_bytes, BadWeights)
