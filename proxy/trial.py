"""A version on trial in a live process: whose turn it is, what was earned, and how processes add up what each has seen.

Each process writes its sums into a file of its own below `trials/VERSION/` of the policy directory, once a window; each reads all of them,
so that every one comes to the same conclusion, wherever it runs and however short it lived. Which policy deserves a reward is told by the
window of the decision, not by the name in it: what the fallback decided since a policy had failed is that policy's doing. How good an
answer is believed to be is the new version's word for both: it was learnt last, and two measures would compare themselves.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bestserve.policy import canary
from bestserve.policy.canary import Rules, Sums
from bestserve.policy.decide import Chooser
from bestserve.policy.facts import Ending
from bestserve.policy.record import Record
from bestserve.policy.reward import reward
from bestserve.profiles import Profile

from . import files
from .config import Canary
from .dialects.openai import CAPS

FOLDER = "trials"

MOST_WINDOWS = 4096
"""That are remembered: a trial on a quiet night may take long."""

_NO_END = (Ending.REFUSED, Ending.REJECTED)
"""Attempts after which a request goes on elsewhere, or that were its client's fault."""


@dataclass(slots=True)
class Trial:
    """Asked by the loop's thread only."""

    version: str
    since: float  # when it was published, seconds since 1970
    rules: Rules
    chooser: Chooser
    profiles: Mapping[str, Profile]  # of the backends, as the new version believes them to be
    sums: dict[int, Sums] = field(default_factory=dict)  # of this process, by window

    def is_on(self, wall: float) -> bool:
        """Whether the new version decides now."""
        return self.rules.pairs == 0 or canary.is_new(self.version, canary.window_at(wall, self.rules))

    def note(self, record: Record, decided: float) -> None:
        """Count an attempt that was decided at this moment, in seconds since 1970."""
        if record.outcome.ending in _NO_END or record.ask.endpoint not in CAPS or not canary.is_counted(decided, self.rules):
            return
        window = canary.window_at(decided, self.rules)
        earned = Sums(earned_by(record, self.profiles), record.ask.weight, 1)
        self.sums[window] = self.sums.get(window, Sums()).plus(earned)
        if len(self.sums) > MOST_WINDOWS:
            del self.sums[min(self.sums)]


def rules_of(said: Canary) -> Rules:
    """As the config has them."""
    return Rules(window_s=said.window_s, pairs=said.pairs, least=said.requests)


def earned_by(record: Record, profiles: Mapping[str, Profile]) -> float:
    """The reward of an attempt."""
    action = record.decision.action
    profile = profiles.get(action.backend or "")
    return reward(record.outcome, record.ask, profile, told=action.budget.instruction is not None)


def share(directory: Path, version: str, writer: str, mine: Mapping[int, Sums]) -> None:
    """Let the others know. Raises OSError."""
    folder = directory / FOLDER / version
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / f"{writer}.json", orjson.dumps({str(window): list(sums) for window, sums in mine.items()}), lasting=False)


def shared(directory: Path, version: str, writer: str) -> list[dict[int, Sums]]:
    """What the others have seen. What cannot be read is as if it were not there."""
    found = []
    for path in (directory / FOLDER / version).glob("*.json"):
        if path.stem == writer:
            continue
        try:
            said = orjson.loads(path.read_bytes())
            found.append({int(window): Sums(float(r), float(w), int(n)) for window, (r, w, n) in said.items()})
        except (OSError, AttributeError, TypeError, ValueError):
            continue
    return found


def forget(directory: Path, version: str) -> None:
    """It is over."""
    shutil.rmtree(directory / FOLDER / version, ignore_errors=True)
