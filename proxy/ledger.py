"""What one writer of the replay log owes: a small file beside its segments that tells the living from the dead, and what a kill has cost.

The writer holds a lock on its ledger for as long as it lives; whoever gets the lock knows that the writer is dead, and takes over what it
left. The counts stand in memory that is mapped from the file, so they survive kill -9 of the process, at the cost of a store and without
a call to the system. They are not forced to the disk: after a power failure they may be as old as the kernel's last writing.

    made     lines that the writer took on and gave, or will give, a number
    sealed   number of the last line in a sealed segment
"""

import fcntl
import mmap
import os
import struct
from pathlib import Path

SUFFIX = ".ledger"
_MAGIC = b"bsledger"
_SIZE = 64
_MADE, _SEALED = 8, 16  # where the counts stand
_COUNT = struct.Struct("<Q")


class Ledger:
    """An open, locked ledger."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self._number = number
        self._memory = mmap.mmap(number, _SIZE)

    @classmethod
    def make(cls, folder: Path, writer: str) -> "Ledger":
        """A new writer's. Raises OSError."""
        path = folder / (writer + SUFFIX)
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(number, _MAGIC.ljust(_SIZE, b"\0"))  # blocks on the disk: a store never meets a full one
            return cls(path, number)
        except OSError:
            os.close(number)
            path.unlink(missing_ok=True)
            raise

    @classmethod
    def inherit(cls, path: Path) -> "Ledger | None":
        """A dead writer's; None while it lives, or when there is nothing to be read. Raises OSError."""
        try:
            number = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and len(head := os.pread(number, _SIZE, 0)) == _SIZE and head.startswith(_MAGIC):
                return cls(path, number)
            path.unlink(missing_ok=True)  # its writer died while making it
        except BlockingIOError:
            pass
        except OSError:
            os.close(number)
            raise
        os.close(number)
        return None

    @property
    def writer(self) -> str:
        """Whose it is."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def made(self) -> int:
        """See the head of this file."""
        return _COUNT.unpack_from(self._memory, _MADE)[0]  # type: ignore[no-any-return]

    @made.setter
    def made(self, count: int) -> None:
        _COUNT.pack_into(self._memory, _MADE, count)

    @property
    def sealed(self) -> int:
        """See the head of this file."""
        return _COUNT.unpack_from(self._memory, _SEALED)[0]  # type: ignore[no-any-return]

    @sealed.setter
    def sealed(self, count: int) -> None:
        _COUNT.pack_into(self._memory, _SEALED, count)

    def beat(self) -> None:
        """Say that the writer lives, for hosts that the lock does not reach. Raises OSError."""
        os.utime(self._number)

    def close(self) -> None:
        """Give the lock back, and leave the file."""
        self._memory.close()
        os.close(self._number)

    def remove(self) -> None:
        """All is accounted for."""
        self.path.unlink(missing_ok=True)
        self.close()
