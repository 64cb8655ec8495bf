"""The replay log's writing side: what a request hands over, and the thread that puts it into segments.

Facts
    A request must not wait for a disk, and a disk may be slow, full or gone. Whoever drops records *when busy* teaches the policy that the
    world is calm. A process may be killed at any time.

Plan
    A request appends its Record to a bounded queue and goes on: no lock, no system call, nothing is serialised. One thread of each
    process looks every POLL_S, makes lines, appends them to a segment and forces them to the disk every `fsync_ms`. A kill of the
    process costs what has not been looked at, a failure of power what has not been forced.

    When the queue is more than half full, a coin that is thrown *when the request is decided* says whether its Record will be kept; its
    odds depend on the queue alone and stand on the line, so that a reader can weigh what was kept by their inverse. What meets a full queue
    nevertheless is lost, which is counted, and told by a line of its own once there is room.

    Every line has a number. The ledger knows how many were given out, so that the next process can tell what a kill has cost.

    A file that cannot be written stops nothing: the thread says so once, holds what it has, and tries again every RETRY_S.

What is not handled
    The count of what a failure of power has cost is a lower bound, because the ledger is not forced to the disk.
"""

import logging
import os
import random
import re
import secrets
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from bestserve.policy.record import Record

from .config import Replay as Settings
from .entries import Around, Lost, feedback_line, lost_line, record_line
from .housekeeping import Housekeeper
from .ledger import Ledger
from .tape import Tape

log = logging.getLogger("bestserve")

POLL_S = 0.05
RETRY_S = 1.0
CLOSE_S = 10.0
BATCH = 16  # lines that are written together; between two writes the loop's thread has its turn
LEAST_ODDS = 1 / 64


class Counts(Protocol):
    """Where the log says how it is. `proxy.metrics.Metrics` is one."""

    def replay_lost(self, why: str, n: int) -> None: ...
    def replay_unkept(self) -> None: ...
    def replay_wrote(self, n_bytes: int) -> None: ...
    def replay_failing(self, failing: bool) -> None: ...
    def replay_uploaded(self, ok: bool) -> None: ...


class _Opinion(NamedTuple):
    """Feedback on its way."""

    wall: float
    decision: str
    key: str
    score: float
    by: str | None = None  # None: the client


@dataclass(slots=True)
class _Batch:
    """Lines that are being written."""

    data: bytes = b""
    first: int = 1
    last: int = 0


@dataclass(slots=True)
class _Losses:
    """What is lost and has not been told on a line yet. Told by two threads."""

    numbered: list[Lost] = field(default_factory=list)
    unnumbered: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __bool__(self) -> bool:
        return bool(self.numbered or self.unnumbered)

    def add(self, lost: Lost) -> None:
        """One more; those without numbers are summed by their reason."""
        with self.lock:
            if lost.first is None:
                self.unnumbered[lost.why] += lost.n
            else:
                self.numbered.append(lost)

    def take(self, writer: str, wall: float) -> list[Lost]:
        """All of them, which are the taker's to tell or to give back."""
        with self.lock:
            every = self.numbered + [Lost(writer, wall, n, why) for why, n in self.unnumbered.items()]
            self.numbered, self.unnumbered = [], Counter()
        return every


class Replay:
    """The log of one process. `toss`, `keep` and `say` belong to one thread, the loop's."""

    def __init__(
        self,
        settings: Settings,
        counts: Counts,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.writer = writer_name()
        self.failing = False
        self._counts, self._wall, self._clock, self._draw = counts, wall, clock, draw
        self._queue: deque[tuple[Record, Around] | _Opinion] = deque()
        self._most = settings.queue
        self._tape = Tape(settings.dir, self.writer, clock=clock, wall=wall)
        self._ledger: Ledger | None = None
        self._left: list[Ledger] = []  # ledgers whose files have gone; closed at the end, since `keep` may just be using one
        self._losses = _Losses()
        self._batch = _Batch()
        self._made = 0  # lines taken on
        self._written = 0  # number of the last one in a segment
        self._synced = 0  # of the last one on the disk
        self._sealed = 0  # of the last one in a sealed segment
        self._synced_at = clock()
        self._again_at = clock()  # not tried before
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._keeper = Housekeeper(settings, self.writer, lost=self.lost, uploaded=counts.replay_uploaded)

    def start(self) -> None:
        """Begin to write, and to look after the directory."""
        self._thread.start()
        self._keeper.start()

    def close(self) -> None:
        """Write what waits, seal, pack and upload it; give up after CLOSE_S each."""
        self._ending.set()
        self._wake.set()
        self._thread.join(CLOSE_S)
        self._keeper.close(CLOSE_S)

    # --- a request's side ---

    def toss(self) -> float:
        """Throw the coin for a request that is being decided: the odds when its Record is to be kept, else 0."""
        odds = odds_at(len(self._queue) / self._most)
        if odds == 1.0 or self._draw() < odds:
            return odds
        self._counts.replay_unkept()
        return 0.0

    def keep(self, record: Record, around: Around) -> None:
        """Take note of an ended attempt for which the coin said so."""
        if not self._enqueue((record, around)):
            self.lost("unwritable" if self.failing else "full", 1)

    def say(self, *, decision: str, key: str, score: float, by: str | None = None) -> bool:
        """Take note of feedback. False when there is no room for it: whoever says it is told, so it is not counted as lost."""
        return self._enqueue(_Opinion(self._wall(), decision, key, score, by))

    def _enqueue(self, item: tuple[Record, Around] | _Opinion) -> bool:
        waiting = len(self._queue)
        if waiting >= self._most or self._ending.is_set():
            return False
        self._made += 1
        if self._ledger is not None:
            self._ledger.made = self._made
        self._queue.append(item)
        if waiting * 2 > self._most:
            self._wake.set()
        return True

    def lost(self, why: str, n: int, *, writer: str = "", first: int | None = None, last: int | None = None) -> None:
        """Count lines that will never be written, and remember to say so. `writer` is whose they were, when not ours."""
        self._counts.replay_lost(why, n)
        self._losses.add(Lost(writer or self.writer, self._wall(), n, why, first, last))

    # --- the thread's side ---

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(POLL_S)
            self._wake.clear()
            self._turn()
        self._again_at = 0.0
        self._turn()
        self._end()

    def _turn(self) -> None:
        now = self._clock()
        if now < self._again_at:
            return
        try:
            self._work()
        except Exception as error:  # of the disk, nearly always; whatever it is, the thread must not end by it
            self._again_at = now + RETRY_S
            self._fail(error)
        else:
            self._recover()

    def _work(self) -> None:
        """Write what waits; force it to the disk when it is time to; seal what is full or old. Raises OSError."""
        self._look()
        while self._queue or self._batch.data:
            if not self._batch.data:
                self._batch = self._next()
            self._tape.append(self._batch.data)
            self._written = self._batch.last
            self._counts.replay_wrote(len(self._batch.data))
            self._batch = _Batch()
            self._sync_if_due()
        self._sync_if_due()

    def _look(self) -> None:
        """Whether our files are still there. What was in a segment that is not is lost."""
        self._miss()
        if self._ledger is None or not self._ledger.path.exists():
            self.settings.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._left += [self._ledger] if self._ledger else []
            ledger = Ledger.make(self.settings.dir, self.writer)
            ledger.made, ledger.sealed = self._made, self._sealed
            self._ledger = ledger
            ledger.made = self._made  # again: a request may have come in between

    def _miss(self) -> None:
        if not self._tape.is_there():
            self._tape.drop()
            self._give_up("vanished", self._sealed + 1)

    def _next(self) -> _Batch:
        """Lines of what waits longest."""
        first = self._written + 1
        lines = [self._line(number) for number in range(first, first + min(BATCH, len(self._queue)))]
        return _Batch(b"".join(lines), first, first + len(lines) - 1)

    def _line(self, number: int) -> bytes:
        item = self._queue.popleft()
        try:
            if isinstance(item, _Opinion):
                return feedback_line(self.writer, number, **item._asdict())
            return record_line(self.writer, number, *item)
        except Exception:  # a fault of ours, which must not end the log
            log.exception("a line of the replay log could not be made")
            self.lost("unmade", 1, first=number, last=number)
            return b""

    def _sync_if_due(self, *, now_or_never: bool = False) -> None:
        now = self._clock()
        if now - self._synced_at < self.settings.fsync_s and not now_or_never:
            return
        self._tell_losses()
        if self._synced < self._written or self._tape.size:
            self._sync()
        self._synced_at = now
        if self._tape.is_open and (self._tape.size >= self.settings.segment_bytes or now - self._tape.opened_at >= self.settings.segment_s):
            self._seal()

    def _tell_losses(self) -> None:
        told = self._losses.take(self.writer, self._wall()) if self._losses else []
        try:
            if told:
                self._tape.append(b"".join(map(lost_line, told)))
        except OSError:
            for lost in told:
                self._losses.add(lost)
            raise

    def _sync(self) -> None:
        try:
            self._tape.sync()
        except OSError:  # what the kernel could not write it may have let go: nothing is known of it
            self._miss()
            self._tape.drop()
            self._give_up("unwritable", self._synced + 1)
            raise
        self._synced = self._written
        if self._ledger is not None:
            self._ledger.beat()

    def _give_up(self, why: str, first: int) -> None:
        """Lines from `first` on that were in a segment are not to be counted on."""
        if first <= self._written:
            self.lost(why, self._written - first + 1, first=first, last=self._written)
        self._sealed = self._synced = self._written
        if self._ledger is not None:
            self._ledger.sealed = self._sealed

    def _seal(self) -> None:
        try:
            sealed = self._tape.seal()
        except OSError:  # removed in the moment since it was looked for
            self._give_up("vanished", self._sealed + 1)
            raise
        self._sealed = self._written
        if self._ledger is not None:
            self._ledger.sealed = self._sealed
        if sealed is not None:
            self._keeper.take(sealed)

    def _end(self) -> None:
        """Seal what is written; count what could not be."""
        waiting = self._made - self._written
        if waiting:
            self.lost("unwritable", waiting, first=self._written + 1, last=self._made)
        try:
            self._sync_if_due(now_or_never=True)
            self._seal()
        except OSError as error:
            self._fail(error)
            return
        if self._ledger is not None:
            self._ledger.remove()
        for ledger in self._left:
            ledger.close()

    def _fail(self, error: Exception) -> None:
        if not self.failing:
            self.failing = True
            self._counts.replay_failing(True)
            log.error("the replay log cannot be written (%s); serving goes on, and what finds no room in the queue is lost", error)

    def _recover(self) -> None:
        if self.failing:
            self.failing = False
            self._counts.replay_failing(False)
            log.warning("the replay log is written again")


def odds_at(fill: float) -> float:
    """Of the coin, by how full the queue is (0 to 1): 1 up to a half, then falling evenly to LEAST_ODDS."""
    return 1.0 if fill <= 0.5 else max(2.0 * (1.0 - fill), LEAST_ODDS)


def writer_name() -> str:
    """HOST-PID-TOKEN, told apart from every other process's, also of another host or another time."""
    host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
