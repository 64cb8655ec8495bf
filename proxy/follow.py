"""Follows what is published: looks at the directory once a second, takes up what is new, and concludes trials.

Everything that touches the directory happens in a thread, so that a disk that hangs keeps nobody waiting. What goes wrong is told once and
counted; what decides goes on deciding.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from bestserve.policy import canary
from bestserve.policy.canary import Finding, State
from bestserve.policy.ranges import strange

from . import published, takeup, typical
from .published import Unpublished
from .serving import Serving
from .takeup import Mark, Taken
from .trial import Trial, forget, share, shared

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("bestserve")

POLL_S = 1.0
AFTER_S = 2.0
"""After a window's beginning all processes have written down what they have seen."""

SAMPLES = 64
"""Recent requests that a policy is tried on, and that are compared with its training."""


async def keep_following(here: Serving) -> None:
    """Forever."""
    follower = Follower(here)
    while True:
        await asyncio.sleep(POLL_S)
        try:
            await follower.step()
        except Exception:
            log.exception("following what is published failed; it is tried again")


@dataclass(slots=True)
class Follower:
    """Of one process."""

    here: Serving
    writer: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    _mark: Mark | None = None
    _taken: Taken | None = None  # what it left there: at a reload it may be gone
    _failed: dict[str, str] = field(default_factory=dict)  # what was last said of reading and of writing the directory
    _written: int = 0  # windows
    _judged: int = 0

    async def step(self) -> None:
        """Look once."""
        here = self.here
        directory, follows = here.config.policy.dir, here.config.policy.follows
        if here.deciders.trial is not None:
            await self._try(here.deciders.trial, directory)
        if follows:
            try:
                await self._look(directory)
            except OSError as error:
                self._say("read", f"{directory}: {error.strerror or error}")
            else:
                self._say("read", None)

    async def _look(self, directory: Path) -> None:
        mark = await asyncio.to_thread(takeup.mark, directory)
        if mark == self._mark and self.here.deciders.taken is self._taken and not self._taken.refusals:
            return
        samples = self.here.samples(SAMPLES) or [typical.observation(self.here.config)]
        taken = await asyncio.to_thread(takeup.take, directory, samples, self.here.deciders.taken)
        policy = self.here.config.policy
        if not policy.follows or policy.dir != directory:  # reloaded meanwhile
            return
        if taken.key != self.here.deciders.taken.key:
            before = self.here.deciders.trial
            self.here.deciders.take_up(taken)
            if before is not None and not (taken.pointer.trial and taken.pointer.version == before.version):
                await asyncio.to_thread(forget, directory, before.version)
        self._mark, self._taken = mark, self.here.deciders.taken

    async def _try(self, trial: Trial, directory: Path) -> None:
        """Write down what was seen, once a window; and conclude, when all have."""
        now, rules = self.here.wall(), trial.rules
        window = canary.window_at(now, rules)
        if window != self._written:
            self._written = window
            await self._write(directory, share, directory, trial.version, self.writer, dict(trial.sums))
        known = canary.window_at(now - min(AFTER_S, rules.window_s / 2), rules)
        if known != self._judged or rules.pairs == 0:
            self._judged = known
            await self._judge(trial, directory)

    async def _judge(self, trial: Trial, directory: Path) -> None:
        here = self.here
        others = await asyncio.to_thread(shared, directory, trial.version, self.writer)
        sums = canary.pooled([trial.sums, *others])
        finding = canary.judge(trial.version, sums, since=trial.since, now=here.wall(), rules=trial.rules)
        here.deciders.told(finding)
        checkpoint, most = here.deciders.taken.challenger, here.config.policy.canary.strange
        if checkpoint is not None and finding.state is not State.BELOW and most < 1:
            samples = here.samples(SAMPLES)
            found = await asyncio.to_thread(strange, checkpoint, samples)
            here.metrics.gauge("bestserve_policy_strange_ratio", found.share)
            if len(samples) == SAMPLES and found.share > most:
                why = f"{found.share:.0%} of the latest requests are unlike what it was trained on, by {', '.join(found.inputs)}"
                await self._go_back(trial, directory, "range", why)
                return
        await self._conclude(trial, directory, finding)

    async def _conclude(self, trial: Trial, directory: Path, finding: Finding) -> None:
        if finding.state is State.BELOW:
            await self._go_back(trial, directory, "reward", str(finding))
        elif finding.state is State.STANDS and await self._write(directory, published.promote, directory, trial.version, str(finding)):
            log.info("%s stands: %s", trial.version, finding)

    async def _go_back(self, trial: Trial, directory: Path, reason: str, why: str) -> None:
        """For everybody; where that cannot be written down, at least here."""
        ours = await self._write(directory, published.withdraw, directory, trial.version, f"{reason}: {why}")
        if ours is not False:
            log.error("%s is rolled back%s: %s", trial.version, " in this process alone" if ours is None else "", why)
            self.here.metrics.rolled_back(reason)
        if ours is None:
            self.here.deciders.veto(trial.version)

    async def _write(self, directory: Path, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What a function that writes says; None when it cannot."""
        try:
            said = await asyncio.to_thread(write, *args, **kwargs)
        except (OSError, Unpublished) as error:
            self._say("write", f"{directory}: {error}")
            return None
        self._say("write", None)
        return said

    def _say(self, doing: str, problem: str | None) -> None:
        """Once, until it is another."""
        if problem is None:
            self._failed.pop(doing, None)
        elif problem != self._failed.get(doing):
            log.error("the policy directory cannot be %s: %s", {"read": "read", "write": "written"}[doing], problem)
            self._failed[doing] = problem
        self.here.metrics.gauge("bestserve_policy_dir_failing", float(bool(self._failed)))
