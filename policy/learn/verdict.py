"""The gate: whether a challenger takes the incumbent's place. Every test says its numbers, what it needed, and why."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bestserve.policy.facts import Floats

from .duel import CLOSE, Duel
from .offline import OneStep

LOST = -0.05
"""What the log alone may not be sure of: that a challenger loses more. See docs/decisions/0021."""

EFFECTIVE = 0.05
TASK_LOST = 0.01
MISSED = 0.005


@dataclass(frozen=True, slots=True)
class Test:
    """One of them. `passed` is None where it has no say."""

    name: str
    passed: bool | None
    value: float
    low: float
    high: float
    needs: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Publish, or keep what there is."""

    publish: bool
    tests: tuple[Test, ...]

    @property
    def why(self) -> str:
        """In one line."""
        if self.publish:
            return "every test was passed"
        return "; ".join(f"{test.name}: {test.why}" for test in self.tests if test.passed is not True and test.needs)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"decision": "publish" if self.publish else "keep", "why": self.why, "tests": [asdict(test) for test in self.tests]}


def judged(step: OneStep, heads: Floats, duel: Duel) -> Verdict:
    """By all that is known. Everything that needs something has to be passed."""
    tests = (*_offline(step, heads), *_simulated(duel), *_vetoes(step, duel))
    return Verdict(all(test.passed is True for test in tests if test.needs), tests)


def _offline(step: OneStep, heads: Floats) -> Sequence[Test]:
    switch = step.switch
    low, high = np.quantile(heads, (0.1, 0.9)).tolist()
    return (
        Test(
            "doubly robust, one step",
            switch.high > LOST,
            switch.value,
            switch.low,
            switch.high,
            f"upper end above {LOST:+.0%}",
            f"gain {switch.value:+.2%} ({switch.low:+.2%} to {switch.high:+.2%}) over {step.blocks} blocks",
        ),
        *(
            Test(name, None, gain.value, gain.low, gain.high, "", "for comparison")
            for name, gain in (("doubly robust, all weights", step.doubly_robust), ("SNIPS", step.snips))
        ),
        Test(
            "fitted Q",
            high > LOST,
            float(heads.mean()),
            low,
            high,
            f"90th percentile of the heads above {LOST:+.0%}",
            f"gain {float(heads.mean()):+.2%} (10th to 90th percentile {low:+.2%} to {high:+.2%} of {len(heads)} heads)",
        ),
    )


def _simulated(duel: Duel) -> Sequence[Test]:
    off = duel.reward / duel.log_reward - 1.0 if duel.log_reward else float("inf")
    why = f"gain {duel.gain:+.2%} ({duel.low:+.2%} to {duel.high:+.2%}) over {duel.seeds} seeds"
    if duel.abstains:
        why = (
            f"it abstains: the incumbent earns {duel.reward:.4f} in it and {duel.log_reward:.4f} in the log ({off:+.1%}, over {CLOSE:.0%})"
        )
    passed = None if duel.abstains else duel.low > 0.0
    return (Test("duel in the calibrated simulator", passed, duel.gain, duel.low, duel.high, "lower end above 0", why),)


def _vetoes(step: OneStep, duel: Duel) -> Sequence[Test]:
    return (
        Test(
            "effective sample",
            step.effective >= EFFECTIVE,
            step.effective,
            step.effective_all,
            step.effective,
            f"at least {EFFECTIVE:.0%}",
            f"{step.effective:.1%} of the decisions ({step.effective_all:.1%} by all weights)",
        ),
        Test(
            "no task loses",
            not (duel.worst > TASK_LOST and duel.worst_sure > 0.0),
            -duel.worst,
            -duel.worst,
            -duel.worst_sure,
            f"none loses {TASK_LOST * 100:g} point",
            f"{duel.worst_task or 'none'} loses {duel.worst * 100:+.2f} points",
        ),
        Test(
            "misses",
            duel.missed <= MISSED,
            duel.missed,
            duel.missed,
            duel.missed,
            f"at most {MISSED * 100:+g} point",
            f"{duel.missed * 100:+.2f} points of the requests are not answered on time any more",
        ),
    )
