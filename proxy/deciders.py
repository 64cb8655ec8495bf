"""Who decides in a live process: by the config, by what is published, and by whose turn it is while a version is on trial."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bestserve.policy.actor import Actor
from bestserve.policy.calibration import calibrated
from bestserve.policy.canary import Finding
from bestserve.policy.decide import Chooser
from bestserve.policy.facts import Backend

from . import typical
from .choosers import chosen, learned, ruled
from .config import Config
from .metrics import Metrics
from .takeup import NOTHING, Taken, take
from .trial import Trial, rules_of

log = logging.getLogger("bestserve")


@dataclass(slots=True)
class Deciders:
    """Asked by the loop's thread only. `adopt` comes first."""

    metrics: Metrics
    wall: Callable[[], float]
    chooser: Chooser = field(init=False)  # what stands
    fallback: Chooser = field(init=False)  # decides where a policy fails
    taken: Taken = field(init=False, default=NOTHING)
    trial: Trial | None = field(init=False, default=None)
    finding: Finding | None = field(init=False, default=None)  # of the trial
    _config: Config = field(init=False)
    _directory: Path | None = field(init=False, default=None)  # that is followed
    backends: tuple[Backend, ...] = field(init=False, default=())  # as the config says they are
    _named: Chooser = field(init=False)  # what the config says, where nothing is published
    _told: str | None = field(init=False, default=None)  # what stands, as the metrics know it
    _vetoed: set[str] = field(init=False, default_factory=set)  # versions that went in this process alone

    def adopt(self, config: Config, backends: tuple[Backend, ...]) -> None:
        """Decide by another config, about other backends. At the first one what is published is read at once; where a reload names
        another directory, whoever follows it (`follow.Follower`) reads it, in a thread: until then the config's own policy decides."""
        self._config, self.backends = config, backends
        self._named, refusal = chosen(config, backends)
        if refusal is not None:
            log.error(refusal)
            self.metrics.refused_policy()
        before, self._directory = self._directory, config.policy.dir if config.policy.follows else None
        if self._directory != before:
            self.taken = NOTHING
        starts = self._told is None and self._directory is not None
        self.take_up(take(config.policy.dir, [typical.observation(config)]) if starts else self.taken)

    def take_up(self, taken: Taken) -> None:
        """Let what is published decide, from the next request on. Requests under way keep what decided them."""
        for refusal in set(taken.refusals) - set(self.taken.refusals):
            log.error("a published policy is not taken up: %s", refusal)
            self.metrics.refused_policy()
        config, self.taken = self._config, taken
        self.chooser = self._named if taken.standing is None else learned(taken.standing, config, self.backends)
        is_learned = isinstance(self.chooser.policy, Actor) or taken.challenger is not None
        self.fallback = ruled(config.policy.fallback if is_learned else "deadline-greedy", self.chooser.actions, config.budgets)
        before, self.trial = self.trial, self._trial(taken)
        self._say(before)

    def veto(self, version: str) -> None:
        """A version goes in this process, though that could not be written down."""
        self._vetoed.add(version)
        self.take_up(self.taken)

    def told(self, finding: Finding) -> None:
        """How the trial goes."""
        self.finding = finding
        self.metrics.gauge("bestserve_policy_canary_reward", finding.old, "old")
        self.metrics.gauge("bestserve_policy_canary_reward", finding.new, "new")

    def now(self) -> Chooser:
        """Whose turn it is."""
        trial = self.trial
        return self.chooser if trial is None or not trial.is_on(self.wall()) else trial.chooser

    def state(self) -> dict[str, Any]:
        """For people."""
        pointer, policy = self.taken.pointer, self._config.policy
        return {
            "decides": self.chooser.name,
            "version": pointer.stands,
            "pinned": pointer.pinned,
            "dir": str(policy.dir) if policy.follows else None,
            "refused": list(self.taken.refusals),
            "trial": None if self.trial is None else self._state_of(self.trial),
        }

    def _state_of(self, trial: Trial) -> dict[str, Any]:
        return {
            "policy": trial.chooser.name,
            "version": trial.version,
            "since": trial.since,
            "has_the_turn": trial.is_on(self.wall()),
            "finding": None if self.finding is None else asdict(self.finding),
        }

    def _trial(self, taken: Taken) -> Trial | None:
        """Begun, or the one that runs with what it has seen."""
        pointer, before = taken.pointer, self.trial
        if taken.challenger is None or pointer.version is None or pointer.version in self._vetoed:
            return None
        sums = before.sums if before is not None and (before.version, before.since) == (pointer.version, pointer.since) else {}
        chooser = learned(taken.challenger, self._config, self.backends)
        profiles = {backend.name: backend.profile for backend in calibrated(self.backends, chooser.calibration)}
        return Trial(pointer.version, pointer.since, rules_of(self._config.policy.canary), chooser, profiles, sums)

    def _say(self, before: Trial | None) -> None:
        """To the metrics and the log."""
        name, trial = self.chooser.name, self.trial
        if before is not None and (trial is None or before.chooser.name != trial.chooser.name):
            self.metrics.gauge("bestserve_policy_canary", 0, before.chooser.name)
            self.finding = None
        if trial is not None:
            self.metrics.gauge("bestserve_policy_canary", 1, trial.chooser.name)
            if before is None or before.version != trial.version:
                log.info("%s is on trial beside %s", trial.version, name)
        if self._told not in (None, name):
            self.metrics.gauge("bestserve_policy_info", 0, str(self._told))
            log.info("the policy is %s", name)
        self.metrics.gauge("bestserve_policy_info", 1, name)
        self._told = name
