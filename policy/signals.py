"""What may be kept of a prompt and its answer that is no text, and what can be learnt from it.

Facts
    A fence in an answer says that it was about code; an answer that begins like JSON, that something was taken out of something. These
    are weak labels, and they come with all traffic.

Plan
    A Signal is at most MOST numbers of features (rows of the classifier's words, in order of number and not of the text), the
    probabilities that were given to the classes, and what the answer showed. `target` makes of the latter two what should have been
    given. It is kept only where the operator switched it on: words that are in the vocabulary can be read back from their numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .facts import TASKS

MOST = 64

_FENCED = {"code": 0.80, "math": 0.08, "qa": 0.06, "extract": 0.04, "rewrite": 0.05, "write": 0.03, "classify": 0.02, "chat": 0.02}
_JSON = {"extract": 0.20, "classify": 0.12, "code": 0.05, "write": 0.02}
_REST = 0.01
"""Share of a task's answers that have a fence, or begin like JSON. Assumed: nobody has labelled such answers for us."""


def signal(rows: Sequence[int], task: Sequence[float], *, fence: bool, json: bool, tokens: int | None, weights: str) -> dict[str, Any]:
    """As it is kept. `weights` names the classifier whose rows these are."""
    return {
        "rows": list(rows[:MOST]),
        "task": [round(p, 3) for p in task],
        "fence": fence,
        "json": json,
        "tokens": tokens,
        "weights": weights,
    }


def target(signal: Mapping[str, Any]) -> tuple[float, ...]:
    """Probabilities over TASKS, after the answer was seen. Raises ValueError for what is no signal."""
    given = signal["task"]
    if len(given) != len(TASKS) or not all(isinstance(p, int | float) and 0 <= p <= 1 for p in given):
        raise ValueError(f"task: {given!r} are not {len(TASKS)} probabilities")
    odds = [
        max(p, 1e-3) * _shown(t, _FENCED, signal["fence"]) * _shown(t, _JSON, signal["json"]) for t, p in zip(TASKS, given, strict=True)
    ]
    return tuple(each / sum(odds) for each in odds)


def _shown(task: str, table: Mapping[str, float], shown: bool) -> float:
    p = table.get(task, _REST)
    return p if shown else 1.0 - p
