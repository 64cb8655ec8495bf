"""The lines of the replay log, each a kind of entry, and what they say together.

    record    one attempt: an envelope around `policy.record`'s line, which has a schema of its own
    feedback  what a client thought of an answer
    lost      how many lines a writer could not keep, and why

The envelope comes first on its line, so that it can be read without the Record in it. `format` is the number of the envelope's shape; a
line of a newer one is refused. A line without a kind is a bare Record, as a simulation writes them. FORMAT 1 is golden in tests/golden/log.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bestserve.policy.record import BadRecord, Line, Record, from_bytes, to_bytes

from .segments import BadSegment, lines

FORMAT = 1
_MARK = b',"record":'


@dataclass(frozen=True, slots=True)
class Around:
    """What is known of an attempt beyond its Record."""

    odds: float  # with which the coin kept this line; 1 unless the log could not keep up
    key: str  # name of the caller's key
    prompt: str | None  # hash of the prompt and its caller, by the log's own secret
    left: bool  # the client went away before the end


@dataclass(frozen=True, slots=True)
class Kept:
    """A record line. The Record itself is read when it is asked for."""

    writer: str
    seq: int  # from 1, in steps of 1 for each writer; 0 for a bare Record
    wall: float  # of the attempt's end, in seconds since 1970
    took: float  # seconds
    decision: str
    attempt: int  # from 0 within one request
    around: Around
    raw: bytes

    def line(self) -> Line:
        """The Record in today's schema. Raises BadRecord."""
        return from_bytes(self.raw)


@dataclass(frozen=True, slots=True)
class Said:
    """A feedback line: what the caller with this key thought of an answer, from 0 to 1; or what a judge did."""

    writer: str
    seq: int
    wall: float
    decision: str
    key: str
    score: float
    by: str | None = None  # "judge"; None: the caller


@dataclass(frozen=True, slots=True)
class Lost:
    """Lines that are not in the log. `first` and `last` are their numbers, where they had been given some."""

    writer: str
    wall: float
    n: int
    why: str
    first: int | None = None
    last: int | None = None


Entry = Kept | Said | Lost


# --- writing ----------------------------------------------------------------------------------------------------------


def record_line(writer: str, seq: int, record: Record, around: Around) -> bytes:
    """A Record in its envelope."""
    head = {
        "kind": "record",
        "format": FORMAT,
        "writer": writer,
        "seq": seq,
        "wall": record.wall,
        "took": record.outcome.total_s,
        "decision": record.decision.id,
        "attempt": record.attempt,
        "key": around.key,
        "prompt": around.prompt,
        "odds": around.odds,
        "left": around.left,
    }
    return b"%b%b%b}\n" % (orjson.dumps(head)[:-1], _MARK, to_bytes(record)[:-1])


def feedback_line(writer: str, seq: int, *, wall: float, decision: str, key: str, score: float, by: str | None = None) -> bytes:
    """What a client said, or a judge."""
    more = {} if by is None else {"by": by}
    return _line(kind="feedback", format=FORMAT, writer=writer, seq=seq, wall=wall, decision=decision, key=key, score=score, **more)


def lost_line(lost: Lost) -> bytes:
    """What was lost."""
    return _line(
        kind="lost",
        format=FORMAT,
        writer=lost.writer,
        seq=None,
        wall=lost.wall,
        lost=lost.n,
        why=lost.why,
        first=lost.first,
        last=lost.last,
    )


def _line(**fields: Any) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


# --- reading ----------------------------------------------------------------------------------------------------------


class BadLine(ValueError):
    """A line that is no entry; the message says why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a file. `torn` is a last line without an end, which is what a kill leaves."""

    path: Path
    line: int  # from 1
    message: str
    torn: bool = False

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry, and where it stands."""

    path: Path
    number: int  # of the line, from 1
    entry: Entry


def read(files: Iterable[Path], problem: Callable[[Problem], None]) -> Iterator[Placed]:
    """Every entry of some files. What cannot be read is told to `problem`, and passed over."""
    for path in files:
        number = 0
        try:
            for number, line in enumerate(lines(path), 1):
                if not line.endswith(b"\n"):
                    problem(Problem(path, number, "the last line has no end", torn=True))
                    break
                try:
                    yield Placed(path, number, parse(line))
                except BadLine as error:
                    problem(Problem(path, number, str(error)))
        except BadSegment as error:
            problem(Problem(path, number + 1, str(error)))
        except OSError as error:
            problem(Problem(path, number + 1, f"cannot be read: {error.strerror or error}"))


def parse(line: bytes) -> Entry:
    """One line. Of a record only the envelope is read. Raises BadLine."""
    cut = line.find(_MARK)
    try:
        head = orjson.loads(line if cut < 0 else b"%b}" % line[:cut])
        return _entry(head, line, cut)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadLine(_why(error)) from error


def _entry(head: dict[str, Any], line: bytes, cut: int) -> Entry:
    kind = head.get("kind")
    if kind is None:
        return _bare(line)
    if head["format"] > FORMAT:
        raise ValueError(f"format {head['format']} was written by a newer bestserve; this one reads up to {FORMAT}: please update")
    common = {"writer": head["writer"], "wall": float(head["wall"])}
    if kind == "lost":
        return Lost(**common, n=int(head["lost"]), why=str(head["why"]), first=head["first"], last=head["last"])
    common |= {"seq": int(head["seq"]), "decision": str(head["decision"])}
    if kind == "feedback":
        return Said(**common, key=str(head["key"]), score=_score(head["score"]), by=head.get("by"))
    if kind != "record":
        raise ValueError(f"kind: {kind!r} is not a kind of line")
    around = Around(float(head["odds"]), str(head["key"]), head["prompt"], bool(head["left"]))
    raw = line[cut + len(_MARK) : -2] if cut >= 0 else orjson.dumps(head["record"])
    return Kept(**common, took=float(head["took"]), attempt=int(head["attempt"]), around=around, raw=raw)


def _score(said: Any) -> float:
    if not isinstance(said, int | float) or not 0 <= said <= 1:  # NaN is not, either
        raise ValueError(f"score: {said!r} is no number from 0 to 1")
    return float(said)


def _bare(line: bytes) -> Kept:
    try:
        record = from_bytes(line)
    except BadRecord as error:
        raise ValueError(str(error)) from error
    around = Around(1.0, "", None, left=False)
    return Kept("", 0, record.wall, record.outcome.total_s, str(record.decision["id"]), record.attempt, around, line)


def _why(error: Exception) -> str:
    if isinstance(error, orjson.JSONDecodeError):
        return f"is not JSON: {error.msg}, at character {error.pos + 1}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
