"""What is believed about a request whose text was not looked at: the prior over tasks, and the length of its answer.

The prior is even: nothing is known of a stranger's traffic. Lengths are medians and spreads of answers by kind of task, from the
statistics of public conversations: Azure's 2023 conversation trace has a median of 129 tokens and a 90th percentile of 424
(AzurePublicDataset, CC-BY 4.0), which fixes the overall scale; how tasks differ is an assumption until answers are seen (`drift`).
"""

from functools import lru_cache

from .facts import TASKS, Length

_MEDIAN = {
    "code": 220.0,
    "math": 240.0,
    "qa": 110.0,
    "extract": 40.0,
    "summ": 110.0,
    "rewrite": 120.0,
    "translate": 80.0,
    "write": 330.0,
    "classify": 12.0,
    "chat": 130.0,
}
_SIGMA = 0.93  # ln(424 / 129) / 1.2816: Azure's conversation trace

HINT_SHARE = 0.9
"""How much of the probability a client's hint takes."""


@lru_cache(maxsize=64)
def prior(hint: str | None = None) -> tuple[float, ...]:
    """Probabilities over TASKS; a hint shifts them. Raises ValueError for an unknown hint, listing the tasks."""
    even = 1.0 / len(TASKS)
    if hint is None:
        return (even,) * len(TASKS)
    if hint not in TASKS:
        raise ValueError(f"{hint!r} is not a task; there are {', '.join(TASKS)}")
    return tuple(HINT_SHARE * (task == hint) + (1 - HINT_SHARE) * even for task in TASKS)


@lru_cache(maxsize=64)
def length(hint: str | None = None) -> Length:
    """How long an answer may get."""
    return Length(median=129.0 if hint is None else _MEDIAN[hint], sigma=_SIGMA)


def name_of(task: tuple[float, ...]) -> str:
    """The likeliest task, or `unknown` when none stands out."""
    best = max(task)
    return TASKS[task.index(best)] if best > 1.5 / len(task) else "unknown"
