"""What is kept of a prompt and its answer is no text, bounded, and says afterwards what the prompt probably was."""

import pytest

from bestserve.policy import signals
from bestserve.policy.facts import TASKS

EVEN = (0.1,) * len(TASKS)


def kept(**what: bool) -> dict:
    return signals.signal(range(1000), EVEN, tokens=5, weights="w", **{"fence": False, "json": False, **what})


def test_it_is_bounded():
    """So many rows and no more."""
    assert len(kept()["rows"]) == signals.MOST


def test_a_fence_speaks_for_code():
    """Strongly, but not alone."""
    target = dict(zip(TASKS, signals.target(kept(fence=True)), strict=True))

    assert max(target, key=target.__getitem__) == "code"
    assert sum(target.values()) == pytest.approx(1.0)
    assert signals.target(kept())[TASKS.index("code")] < 0.1


def test_json_speaks_for_extraction():
    """Or for a choice among labels."""
    target = dict(zip(TASKS, signals.target(kept(json=True)), strict=True))

    assert sorted(target, key=target.__getitem__)[-2:] == ["classify", "extract"]


@pytest.mark.parametrize("task", [[], [1.0], [2.0] * 10, ["a"] * 10, [float("nan")] * 10])
def test_what_is_no_signal_is_refused(task):
    """Naming the field."""
    with pytest.raises(ValueError, match="task"):
        signals.target({**kept(), "task": task})
