"""What was paid to others, in a file that outlives the process and that all processes share.

Facts
    Money is held before it is spent: a request sets aside the most that it may cost, and gives back what it did not. What is held counts
    as spent, so however many requests begin at once, none is let through for which the cap has no room. A process that dies leaves what
    it held as spent, since nobody knows what the provider charged.

Plan
    A SQLite database: its transactions are what makes holding atomic over processes, and what survives a kill. A row of `paid` is what a
    backend was paid in one minute; a row of `held` is one request that is not over. A cap is over any sixty minutes, or any day, to the
    minute: the minute in which the window begins counts whole.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOUR_MIN, DAY_MIN = 60, 1440
WAIT_S = 2.0
"""Longest wait for another process that is writing."""

_TABLES = """
CREATE TABLE IF NOT EXISTS paid (backend TEXT, minute INTEGER, usd REAL NOT NULL, PRIMARY KEY (backend, minute)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (id INTEGER PRIMARY KEY, backend TEXT NOT NULL, minute INTEGER NOT NULL, usd REAL NOT NULL);
CREATE INDEX IF NOT EXISTS held_by_backend ON held (backend, minute);
"""

_SPENT = """
SELECT (SELECT total(usd) FROM paid WHERE backend = :backend AND minute >= :since)
     + (SELECT total(usd) FROM held WHERE backend = :backend AND minute >= :since)
"""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be paid to one backend, in USD. None is no cap."""

    hour: float | None = None
    day: float | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Money that is set aside for one request."""

    id: int
    backend: str
    minute: int
    usd: float


class Purse:
    """Raises sqlite3.Error when the file cannot be read or written: then nothing may be spent."""

    def __init__(self, path: Path, caps: Mapping[str, Caps]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.caps = caps
        self._db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # survives a killed process; a power cut may take the last moment
        self._db.executescript(_TABLES)

    def hold(self, backend: str, usd: float, wall: float) -> Hold | None:
        """Set money aside; None where the cap has no room for it. `wall` is seconds since 1970."""
        minute = int(wall // 60)
        with self._writing():
            if usd > self.left(backend, wall):
                return None
            row = self._db.execute("INSERT INTO held (backend, minute, usd) VALUES (?, ?, ?)", (backend, minute, usd))
            return Hold(int(row.lastrowid or 0), backend, minute, usd)

    def settle(self, hold: Hold, usd: float) -> None:
        """Pay what it did cost, and take the rest back."""
        with self._writing():
            self._db.execute("DELETE FROM held WHERE id = ?", (hold.id,))
            if usd > 0:
                self._db.execute(
                    "INSERT INTO paid VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET usd = usd + excluded.usd", (hold.backend, hold.minute, usd)
                )

    def left(self, backend: str, wall: float) -> float:
        """How much more may be set aside now; infinite where there is no cap, negative where answers cost more than was held."""
        caps, left = self.caps.get(backend, Caps()), float("inf")
        for cap, minutes in ((caps.hour, HOUR_MIN), (caps.day, DAY_MIN)):
            if cap is not None:
                left = min(left, cap - self.spent(backend, minutes, wall))
        return left

    def spent(self, backend: str, minutes: int, wall: float) -> float:
        """What was paid and is held in the last so many minutes, and in the one before them."""
        where = {"backend": backend, "since": int(wall // 60) - minutes}
        return float(self._db.execute(_SPENT, where).fetchone()[0])

    def forget(self, wall: float) -> None:
        """Drop what no window reaches any more."""
        before = int(wall // 60) - DAY_MIN
        with self._writing():
            for table in ("paid", "held"):
                self._db.execute(f"DELETE FROM {table} WHERE minute < ?", (before,))  # noqa: S608  two words of our own

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _writing(self) -> "_Writing":
        return _Writing(self._db)


class _Writing:
    """A transaction that nobody else writes in."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
