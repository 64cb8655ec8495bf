"""Appends to the segments of one writer, of which one is open at a time. Belongs to one thread; raises OSError, and then keeps nothing
of what it was given."""

import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from .segments import OPEN, seal, stem_of, sync_folder

_sync = getattr(os, "fdatasync", os.fsync)


class Tape:
    """`wall` is seconds since 1970, `clock` those of a monotonic clock."""

    def __init__(self, folder: Path, writer: str, *, clock: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        self.folder, self.writer = folder, writer
        self.size = 0  # bytes of the open segment
        self.opened_at = 0.0
        self._clock, self._wall = clock, wall
        self._number = 0  # of the open segment
        self._file: int | None = None
        self._path = folder
        self._named = False  # the open segment's name is on the disk

    @property
    def is_open(self) -> bool:
        """Whether there is an open segment."""
        return self._file is not None

    def append(self, data: bytes) -> None:
        """Write whole lines at the end of the open segment; open one if there is none."""
        file = self._open() if self._file is None else self._file
        try:
            _write_all(file, data)
        except OSError:
            self._take_back(file)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Put what was written on the disk."""
        if self._file is not None:
            _sync(self._file)
            if not self._named:
                sync_folder(self.folder)
                self._named = True

    def is_there(self) -> bool:
        """Whether the open segment, if any, is still what its name leads to."""
        if self._file is None:
            return True
        try:
            return self._path.stat().st_ino == os.fstat(self._file).st_ino
        except OSError:
            return False

    def seal(self) -> Path | None:
        """Finish the open segment, which was synced, and give its sealed file."""
        if self._file is None:
            return None
        self.drop()
        return seal(self._path)

    def drop(self) -> None:
        """Let go of the open segment, whatever became of it."""
        file, self._file, self.size = self._file, None, 0
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)

    def _open(self) -> int:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number += 1
        opened = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y%m%dT%H%M%S%f")[:-3] + "Z"
        self._path = self.folder / (stem_of(opened, self.writer, self._number) + OPEN)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.size, self.opened_at, self._named = 0, self._clock(), False
        return self._file

    def _take_back(self, file: int) -> None:
        """Undo half a write. A segment that cannot be shortened is left with a torn end, and the next one begun."""
        try:
            os.ftruncate(file, self.size)
        except OSError:
            self.drop()


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
