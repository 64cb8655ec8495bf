"""The files of the replay log: their names, how they are sealed and packed, and how they are read back.

A segment is named `OPENED-HOST-PID-TOKEN-NUMBER`: when it was opened, by which writer (one process; its token is drawn at its start), the
how-many-eth of that writer. Processes and hosts that share a directory therefore never meet in a file. Its suffix says what it is:

    .open.jsonl                     being written; a last line without an end is the end of the file, and no error
    .jsonl                          sealed: complete, and not written to again
    .jsonl.gz, .jsonl.zst           sealed and packed

`.part` is a packed file in the making. It is renamed once it is on the disk, and only then does the plain one go: whoever is killed in
between leaves both, of which readers take the packed one.
"""

import gzip
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Literal

Compression = Literal["gzip", "zstd", "none"]

OPEN, SEALED = ".open.jsonl", ".jsonl"
SUFFIXES: dict[Compression, str] = {"gzip": ".jsonl.gz", "zstd": ".jsonl.zst", "none": SEALED}
GZIP_LEVEL = 6

_NAME = re.compile(
    r"(?P<opened>\d{8}T\d{9}Z)-(?P<writer>.+-\d+-[0-9a-f]{8})-(?P<number>\d{6})(?P<suffix>(?:\.open)?\.jsonl(?:\.gz|\.zst)?)"
)
_RANK = (OPEN, SEALED, ".jsonl.zst", ".jsonl.gz")  # of two files of one segment the later one is taken


class BadSegment(ValueError):
    """A file that cannot be read on; the message says why."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the log."""

    path: Path
    opened: str  # UTC, to the millisecond, as it stands in the name
    writer: str
    number: int  # from 1
    suffix: str

    @property
    def is_open(self) -> bool:
        """Whether its writer may still write to it."""
        return self.suffix == OPEN

    @property
    def stem(self) -> str:
        """Its name without what changes when it is sealed and packed."""
        return self.path.name.removesuffix(self.suffix)


def stem_of(opened: str, writer: str, number: int) -> str:
    """The name of a new segment."""
    return f"{opened}-{writer}-{number:06d}"


def known(path: Path) -> Segment | None:
    """What a file is by its name; None when it is no segment."""
    match = _NAME.fullmatch(path.name)
    return None if match is None else Segment(path, match["opened"], match["writer"], int(match["number"]), match["suffix"])


def segments(folder: Path) -> list[Segment]:
    """Every segment of a directory, in the order of their opening. Raises OSError."""
    found: dict[str, Segment] = {}
    for segment in filter(None, map(known, folder.iterdir())):
        other = found.get(segment.stem)
        if other is None or _RANK.index(other.suffix) < _RANK.index(segment.suffix):
            found[segment.stem] = segment
    return [found[stem] for stem in sorted(found)]


def finished(folder: Path, compression: Compression) -> list[Segment]:
    """Those that will not change any more: sealed, and packed where that is wanted. Raises OSError."""
    return [s for s in segments(folder) if not s.is_open and (s.suffix != SEALED or compression == "none")]


def files(paths: Iterable[Path], *, since: float | None = None) -> list[Path]:
    """The files to read: those named, and the segments of directories. Those last written before `since` (seconds since 1970) are left
    out. Raises OSError."""
    every = [file for path in paths for file in ([s.path for s in segments(path)] if path.is_dir() else [path])]
    return [file for file in every if since is None or _written_at(file) >= since]


def _written_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # packed since it was listed
        return float("inf")


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with its end; only a last one may lack it. Raises OSError, and BadSegment where it cannot be read on."""
    try:
        with _opened(path) as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadSegment(f"its compression is broken: {error}") from error
    except OSError:
        raise
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise BadSegment(f"its compression is broken: {error}") from error


def _opened(path: Path) -> Any:
    try:
        return _reader(path)
    except FileNotFoundError:  # sealed or packed since it was listed
        segment = known(path)
        if segment is None:
            raise
        later = [path.with_name(segment.stem + suffix) for suffix in _RANK]
        return _reader(next((file for file in later if file.exists()), path))


def _reader(path: Path) -> Any:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")
    if path.name.endswith(".zst"):
        return zstd().open(path, "rb")
    return path.open("rb")


# --- sealing and packing ----------------------------------------------------------------------------------------------


def seal(path: Path) -> Path:
    """Rename an open segment, whose bytes are on the disk, to a sealed one. Raises OSError."""
    sealed = path.with_name(path.name.removesuffix(OPEN) + SEALED)
    path.rename(sealed)
    return sealed


def cut(path: Path) -> bytes:
    """Take off what follows the last whole line of a plain segment, and put it on the disk. Returns the last line. Raises OSError."""
    with path.open("r+b") as file:
        last, size = b"", 0
        for line in file:
            if line.endswith(b"\n"):
                last, size = line, size + len(line)
        file.truncate(size)
        os.fsync(file.fileno())
    return last


def pack(path: Path, compression: Compression) -> Path:
    """Compress a sealed segment: the new file is complete and on the disk before the plain one goes. Raises OSError."""
    stem = path.name.removesuffix(SEALED)
    target, part = path.with_name(stem + SUFFIXES[compression]), path.with_name(stem + ".part")
    if target == path:
        return path
    with path.open("rb") as plain, private(part) as file:
        with _packer(file, compression) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    written = path.stat()
    os.utime(part, (written.st_atime, written.st_mtime))
    part.replace(target)
    sync_folder(path.parent)
    path.unlink()
    return target


def private(path: Path) -> IO[bytes]:
    """A new file that only its owner may read, in place of any old one."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def sync_folder(folder: Path) -> None:
    """Put a directory's names on the disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _packer(file: IO[bytes], compression: Compression) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0)
    return zstd().open(file, "wb")


def zstd() -> Any:
    """Python's own zstd, from 3.14 on, or the library that brings it to earlier ones. Raises BadSegment when there is none."""
    name = _zstd_name()
    if name is None:
        raise BadSegment("reading zstd needs Python 3.14, or `pip install 'bestserve[zstd]'`")
    return import_module(name)


def has_zstd() -> bool:
    """Whether zstd can be read and written here."""
    return _zstd_name() is not None


def _zstd_name() -> str | None:
    return next((name for name in ("compression.zstd", "backports.zstd") if _is_there(name)), None)


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package around it is absent
        return False
