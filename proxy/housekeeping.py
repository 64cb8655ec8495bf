"""What is done for a replay directory beside writing: packing, taking over what the dead have left, keeping within limits, uploading.

Each process packs its own segments. The rest is done by one process of a directory at a time, whoever holds its lock. A writer is dead
when its ledger's lock can be had. Of another host, which a lock may not reach, it must also have been silent for SILENT_S.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from .config import Replay as Settings
from .entries import BadLine, Lost, parse
from .ledger import SUFFIX, Ledger
from .segments import OPEN, SEALED, Segment, cut, finished, known, lines, pack, seal, segments
from .upload import Uploader

log = logging.getLogger("bestserve")

LOOK_S = 2.0
DUTY_S = 30.0
SILENT_S = 600.0
LOCK = "housekeeping.lock"


class Loser(Protocol):
    """Counts lines that will never be written."""

    def __call__(self, why: str, n: int, *, writer: str, first: int, last: int) -> None: ...


class Housekeeper:
    """A thread. `take` may be called from any other."""

    def __init__(self, settings: Settings, writer: str, *, lost: Loser, uploaded: Callable[[bool], None]) -> None:
        self._settings, self._writer, self._lost = settings, writer, lost
        self._sealed: deque[Path] = deque()
        self._uploader = Uploader(settings.upload, uploaded) if settings.upload else None
        self._duty_at = 0.0
        self._troubled = False
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay-housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def take(self, sealed: Path) -> None:
        """Pack a sealed segment, soon."""
        self._sealed.append(sealed)
        self._wake.set()

    def close(self, seconds: float) -> None:
        """One more round, and an end. What is not done by then is done at the next start."""
        self._ending.set()
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._round()
            self._wake.wait(LOOK_S)
            self._wake.clear()
        self._duty_at = 0.0
        self._round()

    def _round(self) -> None:
        try:
            self._pack()
            if time.monotonic() >= self._duty_at:
                self._duty_at = time.monotonic() + DUTY_S
                self._duties()
            self._troubled = False
        except OSError as error:
            if not self._troubled:
                log.error("the replay directory cannot be looked after: %s", error)  # noqa: TRY400  a trace says no more
            self._troubled = True

    def _pack(self) -> None:
        while self._sealed:
            with contextlib.suppress(FileNotFoundError):  # the directory was emptied
                pack(self._sealed[0], self._settings.compression)
            self._sealed.popleft()
            self._duty_at = min(self._duty_at, time.monotonic() if self._uploader else self._duty_at)

    def _duties(self) -> None:
        folder = self._settings.dir
        if not folder.is_dir():
            self._duty_at = time.monotonic() + LOOK_S
            return
        with locked(folder / LOCK) as alone:
            if not alone:
                self._duty_at = time.monotonic() + LOOK_S
                return
            if not self._ending.is_set():  # afterwards our writer could not tell of losses
                adopt(folder, self._writer, self._lost)
            pack_left(folder, self._settings)
            if self._uploader is not None:
                self._uploader.step(finished(folder, self._settings.compression), self._ending)
            keep_within(folder, self._settings, self._uploader)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether nobody else is at it. Raises OSError."""
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(number)


# --- what the dead have left ------------------------------------------------------------------------------------------


def adopt(folder: Path, writer: str, lost: Loser, *, now: float | None = None) -> None:
    """Seal the open segments of dead writers, and count what their ends have cost. `writer` is the living one who does it."""
    at = time.time() if now is None else now
    for path in sorted(folder.glob("*" + SUFFIX)):
        name = path.name.removesuffix(SUFFIX)
        if name != writer and (_host(name) == _host(writer) or _silent(path, at)):
            ledger = Ledger.inherit(path)
            if ledger is not None:
                _settle(folder, ledger, lost)
    owned = _owned(folder)
    for segment in segments(folder):
        if segment.is_open and segment.writer not in owned and _silent(segment.path, at):
            _finish(segment)


def _settle(folder: Path, ledger: Ledger, lost: Loser) -> None:
    """Of one dead writer."""
    last, made = ledger.sealed, ledger.made
    for segment in segments(folder):
        if segment.writer == ledger.writer and segment.suffix in (OPEN, SEALED):
            last = max(last, _last_number(segment.path))
            if segment.is_open:
                _finish(segment)
    if last < made:
        log.warning("a process of the replay log ended without closing it: %d lines are lost", made - last)
        lost("killed", made - last, writer=ledger.writer, first=last + 1, last=made)
    ledger.remove()


def _finish(segment: Segment) -> None:
    cut(segment.path)
    if segment.path.stat().st_size:
        seal(segment.path)
    else:
        segment.path.unlink()


def _last_number(path: Path) -> int:
    last = 0
    for line in lines(path):
        with contextlib.suppress(BadLine):
            entry = parse(line)
            last = last if isinstance(entry, Lost) else max(last, entry.seq)
    return last


def pack_left(folder: Path, settings: Settings) -> None:
    """Finish the packing that dead writers have begun, or have not."""
    owned = _owned(folder)
    for path in [path for path in folder.iterdir() if path.suffix == ".part"]:
        segment = known(path.with_suffix(SEALED))
        if segment is not None and segment.writer not in owned:
            path.unlink()
    taken = {segment.path for segment in segments(folder)}
    for segment in filter(None, map(known, sorted(folder.iterdir()))):
        if segment.suffix == SEALED and segment.writer not in owned:
            if segment.path in taken:
                pack(segment.path, settings.compression)
            else:  # there is a packed one beside it
                segment.path.unlink()


def _owned(folder: Path) -> set[str]:
    """The writers that have a ledger."""
    return {path.name.removesuffix(SUFFIX) for path in folder.glob("*" + SUFFIX)}


def _host(writer: str) -> str:
    return writer.rsplit("-", 2)[0]


def _silent(path: Path, now: float) -> bool:
    try:
        return path.stat().st_mtime < now - SILENT_S
    except FileNotFoundError:
        return False


# --- limits -----------------------------------------------------------------------------------------------------------


def keep_within(folder: Path, settings: Settings, uploader: Uploader | None = None, *, now: float | None = None) -> None:
    """Remove the oldest sealed segments that are too much or too old; none that has still to be uploaded."""
    at = time.time() if now is None else now
    every = [(segment, segment.path.stat()) for segment in segments(folder)]
    too_much = sum(stat.st_size for _, stat in every) - settings.most_bytes
    for segment, stat in every:
        is_over = too_much > 0 or stat.st_mtime < at - settings.most_age_s
        if is_over and not segment.is_open and (uploader is None or uploader.has(segment.path)):
            segment.path.unlink()
            too_much -= stat.st_size
