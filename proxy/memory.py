"""What a serving process remembers: its replay log, and the desk that takes feedback. Without `replay` in the config, nothing."""

import logging
import secrets
import threading
from collections.abc import Callable

from bestserve.policy.record import Record

from .config import Replay as Settings
from .entries import Around
from .errors import Failure, NobodyCan, NotFound
from .feedback import Bytes, Desk, Opinion, Seals, secret_of
from .metrics import Metrics
from .replay import Replay

log = logging.getLogger("bestserve")


class Memory:
    """Asked by the loop's thread only. Between `adopt` and `close` it has threads of its own."""

    def __init__(self, metrics: Metrics, *, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._metrics, self._wall, self._clock = metrics, wall, clock
        self._settings: Settings | None = None
        self._replay: Replay | None = None
        self._desk: Desk | None = None

    def adopt(self, settings: Settings | None) -> None:
        """Write another log from now on, or none. The one before is closed beside."""
        if settings == self._settings:
            return
        if self._replay is not None:
            threading.Thread(target=self._replay.close, name="replay-closing").start()
        self._settings, self._replay, self._desk = settings, None, None
        if settings is not None:
            self._replay = Replay(settings, self._metrics, wall=self._wall, clock=self._clock)
            self._desk = Desk(Seals(_secret(settings)), settings.feedback_per_minute, self._say)
            self._replay.start()

    def close(self) -> None:
        """Write what waits, and end. Blocks."""
        if self._replay is not None:
            self._replay.close()

    def toss(self) -> float:
        """To be asked when a request is decided: the odds with which its Record is kept, 0 when it is not."""
        return 0.0 if self._replay is None else self._replay.toss()

    def keep(self, record: Record, odds: float, *, caller: str, prompt: Bytes | None, left: bool) -> None:
        """Take note of an ended attempt; `odds` are what `toss` said."""
        if self._replay is not None and self._desk is not None and odds > 0:
            name = None if prompt is None else self._desk.seals.prompt(caller, prompt)
            self._replay.keep(record, Around(odds, caller, name, left))

    def told(self, decision: str, caller: str) -> str:
        """The id of a decision as its caller is told it."""
        return decision if self._desk is None else self._desk.seals.told(decision, caller)

    def feedback(self, caller: str, body: bytes) -> Opinion:
        """Take note of what a caller thinks of an answer. Raises Failure."""
        try:
            if self._desk is None:
                raise NotFound("Feedback is not taken: this proxy keeps no replay log.", code="feedback_not_taken")
            opinion = self._desk.take(caller, body, self._clock())
        except Failure as failure:
            self._metrics.feedback(failure.code or "invalid")
            raise
        self._metrics.feedback("taken")
        return opinion

    def judged(self, decision: str, caller: str, score: float) -> bool:
        """Take note of what a judge thinks of an answer. False when there is no room for it."""
        return self._replay is not None and self._replay.say(decision=decision, key=caller, score=score, by="judge")

    def _say(self, decision: str, caller: str, score: float) -> None:
        if self._replay is None or not self._replay.say(decision=decision, key=caller, score=score):
            raise NobodyCan("The feedback cannot be noted now. Please try again.", retry_after_s=1.0)


def _secret(settings: Settings) -> bytes:
    if settings.secret is not None:
        return settings.secret.encode()
    try:
        return secret_of(settings.dir)
    except OSError as error:
        log.error("no secret can be kept (%s); until a restart, feedback is taken only by the process that decided", error)  # noqa: TRY400
        return secrets.token_bytes(32)
