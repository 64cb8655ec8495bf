"""Signals that were kept of traffic -> rows to train on. No text is needed, and none is there."""

from collections.abc import Iterable, Mapping
from typing import Any

from bestserve.policy.classify import Classifier
from bestserve.policy.facts import TASKS
from bestserve.policy.features import Prompt
from bestserve.policy.signals import target

from .prompts import Row


def rows_of(signals: Iterable[Mapping[str, Any]], classifier: Classifier) -> tuple[list[Row], int]:
    """Rows, and how many signals were left out because other weights had numbered their words. Raises ValueError for what is no signal,
    and for a classifier with classes of its own, whose probabilities the signals do not hold."""
    if classifier.manifest.classes != TASKS:
        raise ValueError(f"signals are of the built-in tasks; this classifier has {', '.join(classifier.manifest.classes)}")
    rows, left = [], 0
    for signal in signals:
        try:
            if signal["weights"] != classifier.id:
                left += 1
                continue
            words, tokens = tuple(classifier.words(signal["rows"])), signal["tokens"]
            rows.append(Row(Prompt.of(""), None, soft=target(signal), words=words, tokens=tokens or None, source="traffic"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no signal: {error!r}") from error
    return rows, left
