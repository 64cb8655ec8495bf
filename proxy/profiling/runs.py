"""What came when: Runs of scripts, kept as a file of lines from which an interrupted profile goes on.

The first line says what was measured (a Header), each other one is a Run. A line that was cut by an interruption is left out. Times are
seconds from the run's begin, to the microsecond.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from .script import Call

__all__ = ["Header", "NotOurs", "Raw", "Run", "Stream"]

SCHEMA = 1


class NotOurs(ValueError):
    """A file that holds no measurements of this backend; the message says why."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The answer to one call."""

    sent: float
    prompt_tokens: int  # as the backend counted them
    cached_tokens: int | None  # as the backend says, where it does
    times: tuple[float, ...]  # when something came; empty for a call that failed
    counts: tuple[int, ...]  # tokens there by then

    @property
    def first(self) -> float:
        return self.times[0]

    @property
    def last(self) -> float:
        return self.times[-1]

    @property
    def tokens(self) -> int:
        """Tokens said."""
        return self.counts[-1] if self.counts else 0


@dataclass(frozen=True, slots=True)
class Run:
    """One script, played once."""

    kind: str
    key: str
    calls: tuple[Call, ...]
    streams: tuple[Stream, ...]  # of each call
    took_s: float
    foreign: int = 0  # most requests that the backend reported beyond ours
    failed: str | None = None  # why it was given up


@dataclass(frozen=True, slots=True)
class Header:
    """What is being measured."""

    url: str
    model: str
    way: str  # how the backend is asked
    told: dict[str, Any]  # what it says of its limits
    schema: int = SCHEMA


class Raw:
    """The file beside the profile. One Run a line, written when it is over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, header: Header) -> None:
        """Start the file anew."""
        self.path.write_bytes(orjson.dumps(asdict(header)) + b"\n")

    def add(self, run: Run) -> None:
        """Append a run."""
        with self.path.open("ab") as file:
            file.write(orjson.dumps(_rounded(asdict(run))) + b"\n")

    def mend(self) -> None:
        """Cut off a last line that was not written to its end."""
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[: whole.rfind(b"\n") + 1])

    def read(self) -> tuple[Header, list[Run]]:
        """All of it. Raises NotOurs."""
        try:
            head, *lines = self.path.read_bytes().split(b"\n")
            header = _header(orjson.loads(head))
            return header, list(_runs(lines[:-1]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise NotOurs(f"{self.path}: {error}") from error


def _header(raw: dict[str, Any]) -> Header:
    if raw.get("schema") != SCHEMA:
        raise NotOurs(f"its schema is {raw.get('schema')!r}, this version reads {SCHEMA}")
    return Header(**{f.name: raw[f.name] for f in fields(Header)})


def _runs(lines: list[bytes]) -> Iterator[Run]:
    for number, line in enumerate(lines, 2):
        try:
            yield _run(orjson.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise NotOurs(f"line {number}: {error}") from error


def _run(raw: dict[str, Any]) -> Run:
    calls = tuple(Call(**call) for call in raw.pop("calls"))
    streams = tuple(
        Stream(**{**stream, "times": tuple(stream["times"]), "counts": tuple(stream["counts"])}) for stream in raw.pop("streams")
    )
    return Run(calls=calls, streams=streams, **raw)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
