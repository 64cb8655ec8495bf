"""The directory of published policies: what there is, what decides, and how it came to that.

    20261122T081500Z-1a2b3c4d.ckpt    a version: when it was published, and the hash of its bytes, which is also in its policy's name
    20261122T081500Z-1a2b3c4d.json    its verdict: why it was published
    current                           a Pointer as JSON: what decides now. Live proxies look at it once a second
    history.jsonl                     a line for each thing that was done, and why
    lock                              whoever holds it writes

Every file appears whole or not at all: written aside, forced to the disk, renamed, and the directory forced to the disk. Writers on one
host wait for each other; hosts that share a directory need a file system that has locks. Readers take no lock.

A version that was just published is on trial: live proxies let it decide in turns with what stood before, and write down here that it
stands (`promote`) or goes (`withdraw`). See `policy.canary`.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import orjson

from bestserve.policy.checkpoint import Checkpoint, from_bytes

from . import checkpoints, files

CURRENT, HISTORY, LOCK = "current", "history.jsonl", "lock"
MOST_BEFORE = 20
"""Versions that are remembered for going back, one after another."""

_VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_MOST_BYTES = 100_000

Wall = Callable[[], float]


class Unpublished(ValueError):
    """What was asked of the directory cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What decides."""

    version: str | None = None  # None: nothing that was published; the config says who decides
    trial: bool = False  # it takes turns with the first of `before`, or with what the config says
    pinned: bool = False  # an operator's choice: what is published meanwhile waits
    before: tuple[str, ...] = ()  # what stood before, the latest first: where a rollback goes
    since: float = 0.0  # seconds since 1970

    @property
    def stands(self) -> str | None:
        """The version that has stood its trial; None where that is what the config says."""
        return (self.before[0] if self.before else None) if self.trial else self.version


NOBODY = Pointer()


@dataclass(frozen=True, slots=True)
class Version:
    """One that was published."""

    version: str
    policy: str  # its name in headers, metrics and records
    published: float  # seconds since 1970
    state: str  # decides, on trial, pinned, rolled back, stood, waits
    why: str | None  # it was rolled back
    verdict: Mapping[str, Any]


def publish(directory: Path, data: bytes, verdict: Mapping[str, Any], *, wall: Wall = time.time) -> str:
    """Add a checkpoint, on trial unless something is pinned; returns its version. Raises BadCheckpoint and OSError."""
    id = from_bytes(data).id  # noqa: A001
    directory.mkdir(parents=True, exist_ok=True)
    with _writing(directory):
        now, was = wall(), current(directory)
        version = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{id}"
        _write(directory / f"{version}.json", orjson.dumps(dict(verdict), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
        _write(directory / f"{version}.ckpt", data)
        _note(directory, now, "publish", version, why="another version is pinned" if was.pinned else None)
        if not was.pinned:
            _point(directory, _tried(was, version, now))
    return version


def promote(directory: Path, version: str, why: str, *, wall: Wall = time.time) -> bool:
    """A trial was stood. False when that version is not on trial (any more). Raises OSError."""
    with _writing(directory):
        was = current(directory)
        if was.version != version or not was.trial:
            return False
        _note(directory, wall(), "promote", version, why=why)
        _point(directory, replace(was, trial=False, since=wall()))
    return True


def withdraw(directory: Path, version: str, why: str, *, wall: Wall = time.time) -> bool:
    """A trial was not stood. False when that version is not on trial (any more). Raises OSError."""
    with _writing(directory):
        was = current(directory)
        if was.version != version or not was.trial:
            return False
        _go_back(directory, was, why, wall())
    return True


def rollback(directory: Path, why: str, *, wall: Wall = time.time) -> Pointer:
    """Go back to what stood before. Raises Unpublished and OSError."""
    with _writing(directory):
        was = current(directory)
        if was.version is None:
            raise Unpublished(f"nothing published decides in {directory}: there is nothing to go back from")
        if was.pinned:
            raise Unpublished(f"{was.version} is pinned: pin another version, or unpin first")
        return _go_back(directory, was, why, wall())


def pin(directory: Path, named: str, *, wall: Wall = time.time) -> Pointer:
    """Let one version decide, without a trial, whatever is published meanwhile. Raises Unpublished and OSError."""
    with _writing(directory):
        version, was, now = find(directory, named), current(directory), wall()
        _note(directory, now, "pin", version)
        return _point(directory, Pointer(version, pinned=True, before=_stack(was, version), since=now))


def unpin(directory: Path, *, wall: Wall = time.time) -> Pointer:
    """Follow what is published again: the newest that was not rolled back, on trial unless it has stood one.

    Raises Unpublished and OSError.
    """
    with _writing(directory):
        was, now = current(directory), wall()
        if not was.pinned or was.version is None:
            raise Unpublished(f"nothing is pinned in {directory}")
        _note(directory, now, "unpin", was.version)
        newest = next((v for v in listed(directory) if v.state != "rolled back"), None)
        if newest is None or newest.version == was.version:
            return _point(directory, replace(was, pinned=False, since=now))
        pointer = _tried(replace(was, pinned=False), newest.version, now)
        return _point(directory, replace(pointer, trial=newest.state == "waits"))


def current(directory: Path) -> Pointer:
    """What decides. Raises OSError, and Unpublished when the pointer is damaged. Where there is no directory nothing is published."""
    try:
        raw = (directory / CURRENT).read_bytes()
    except FileNotFoundError:
        return NOBODY
    try:
        said = orjson.loads(raw)
        pointer = Pointer(**{**said, "before": tuple(said["before"])})
        for version in (pointer.version, *pointer.before):
            if version is not None and not _VERSION.fullmatch(version):
                raise Unpublished(f"{version!r} is no version")
    except (LookupError, TypeError, ValueError) as error:
        raise Unpublished(f"{directory / CURRENT}: {error}; remove it, and pin a version") from error
    return pointer


def load(directory: Path, version: str) -> Checkpoint:
    """A version's checkpoint. Raises BadCheckpoint, which names the file."""
    return checkpoints.load(directory / f"{version}.ckpt")


def listed(directory: Path) -> list[Version]:
    """Every version, the newest first. Raises OSError, and Unpublished when pointer or history are damaged."""
    pointer, done = current(directory), list(history(directory))
    names = sorted((p.stem for p in directory.glob("*.ckpt") if _VERSION.fullmatch(p.stem)), reverse=True)
    return [_version(directory, name, pointer, [line for line in done if line["version"] == name]) for name in names]


def history(directory: Path) -> Iterator[dict[str, Any]]:
    """What was done, the oldest first: at, did, version, why. A torn last line is the end. Raises OSError, and Unpublished for others."""
    try:
        lines = (directory / HISTORY).read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for number, line in enumerate(lines[:-1], 1):  # after the last newline stands nothing, or what a kill has torn
        try:
            yield {key: orjson.loads(line)[key] for key in ("at", "did", "version", "why")}
        except (LookupError, TypeError, ValueError) as error:
            raise Unpublished(f"{directory / HISTORY}:{number}: {type(error).__name__}: {error}") from error


def find(directory: Path, named: str) -> str:
    """The version of that name; the end of one, or its policy's name, will do. Raises Unpublished with the nearest one."""
    names = sorted(p.stem for p in directory.glob("*.ckpt") if _VERSION.fullmatch(p.stem))
    found = [name for name in names if named == name] or [name for name in names if name.endswith("-" + named.removeprefix("actor-"))]
    if len(found) == 1:
        return found[0]
    if found:
        raise Unpublished(f"{named!r} is any of {', '.join(found)}")
    near = get_close_matches(named, names, 1, 0.5)
    raise Unpublished(f"{directory} has no version {named!r}" + (f"; did you mean {near[0]}?" if near else ""))


def _version(directory: Path, name: str, pointer: Pointer, done: list[dict[str, Any]]) -> Version:
    last = next((line for line in reversed(done) if line["did"] in ("promote", "rollback", "pin")), {"did": None, "why": None})
    state = {"promote": "stood", "rollback": "rolled back", "pin": "stood", None: "waits"}[last["did"]]
    if name == pointer.version:
        state = "on trial" if pointer.trial else "pinned" if pointer.pinned else "decides"
    published = datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    why = last["why"] if state == "rolled back" else None
    return Version(name, f"actor-{name[-8:]}", published, state, why, _verdict(directory / f"{name}.json"))


def _verdict(path: Path) -> Mapping[str, Any]:
    try:
        said = orjson.loads(path.read_bytes())
    except (OSError, ValueError):  # a version is one without it
        return {}
    return said if isinstance(said, dict) else {}


def _go_back(directory: Path, was: Pointer, why: str, now: float) -> Pointer:
    _note(directory, now, "rollback", str(was.version), why=why)
    return _point(directory, Pointer(next(iter(was.before), None), before=was.before[1:], since=now))


def _tried(was: Pointer, version: str, now: float) -> Pointer:
    """A version on trial, after what has stood."""
    return Pointer(version, trial=True, before=_stack(was, version), since=now)


def _stack(was: Pointer, version: str) -> tuple[str, ...]:
    """What stood until now, and before it; each once."""
    stack = was.before if was.trial or was.version is None else (was.version, *was.before)
    return tuple(v for v in dict.fromkeys(stack) if v != version)[:MOST_BEFORE]


def _point(directory: Path, pointer: Pointer) -> Pointer:
    _write(directory / CURRENT, orjson.dumps(asdict(pointer), option=orjson.OPT_INDENT_2))
    return pointer


def _note(directory: Path, now: float, did: str, version: str, *, why: str | None = None) -> None:
    """A line at the end of the history; what a kill has torn is ended first."""
    line = orjson.dumps({"at": now, "did": did, "version": version, "why": why}, option=orjson.OPT_APPEND_NEWLINE)
    with (directory / HISTORY).open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        whole = size if size == 0 else _whole(file.fileno(), size)
        file.truncate(whole)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _whole(number: int, size: int) -> int:
    """Bytes until the end of the last whole line."""
    begin = max(0, size - _MOST_BYTES)
    return begin + os.pread(number, size - begin, begin).rfind(b"\n") + 1


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all. Raises OSError."""
    files.write(path, data)
    _settle(path.parent)


def _settle(directory: Path) -> None:
    """Force the directory's names to the disk."""
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Alone, on this host."""
    try:
        number = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError as error:
        raise Unpublished(f"{directory} is not there: nothing was published yet") from error
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
