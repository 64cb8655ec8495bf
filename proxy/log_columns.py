"""A replay log as columns: its files read side by side by a few processes, each Record encoded again on the way.

What comes back of a file is small: columns, what was said of answers, what was wrong, and the raw lines of some blocks of time, to be
looked at closely. Which blocks these are follows from the clock alone, so that all processes take the same.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bestserve.policy.facts import Ints
from bestserve.policy.learn.logged import Ledger, Logged, Names, Skew, hashed, joined, with_scores
from bestserve.policy.learn.offline import BLOCK_S
from bestserve.policy.record import BadRecord

from .entries import Kept, Problem, Said, read

LOOKED_AT = 20_000
"""Lines that are kept whole, about."""

_GUESSED_BYTES = 3_500
_GUESSED_PACKED = 400
_DENOMINATOR = 1000


class Opinion(NamedTuple):
    """What somebody said of an answer."""

    wall: float
    writer: str
    seq: int
    decision: str
    key: str
    score: float


@dataclass(slots=True)
class Piece:
    """What one file held."""

    columns: Logged | None = None
    names: Names | None = None
    opinions: list[Opinion] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skew: Counter[Skew] = field(default_factory=Counter)
    skewed: list[Problem] = field(default_factory=list)  # where the digest differs, the first few
    lines: list[bytes] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)  # which row of the columns each of these lines is


@dataclass(frozen=True, slots=True)
class Read:
    """A whole log."""

    columns: Logged
    names: Names
    lines: list[bytes]  # Records of some blocks of time
    rows: Ints  # which row of the columns each of them is
    problems: list[Problem]
    skew: Counter[Skew]
    skewed: list[Problem]


def read_log(files: Sequence[Path], since: float | None, pool: Executor | None, told: Callable[[int], None]) -> Read | None:
    """Everything that is younger than `since`. None where that is nothing. `told` hears of each file."""
    share = _share(files)
    pieces = list[Piece]()
    for piece in (pool.map if pool is not None else map)(partial(read_file, since=since, share=share), files):
        pieces.append(piece)
        told(len(pieces))
    tables = [(piece.columns, piece.names) for piece in pieces if piece.columns is not None and piece.names is not None]
    if not tables:
        return None
    columns, names, order = joined(tables)
    latest = _latest(pieces)
    lines = [raw for piece in pieces for raw in piece.lines]
    rows = np.argsort(order)[_rows(pieces)]
    skew = sum((piece.skew for piece in pieces), Counter[Skew]())
    problems, skewed = [p for piece in pieces for p in piece.problems], [p for piece in pieces for p in piece.skewed]
    scored = with_scores(columns, [(o.decision, o.key, o.score) for o in latest])
    return Read(scored, names, lines, rows, problems, skew, skewed)


def _rows(pieces: Sequence[Piece]) -> Ints:
    """Which rows lines are that were kept whole, counted over all pieces."""
    begin = np.cumsum([0, *(piece.skew.total() for piece in pieces)])
    return np.array([start + row for start, piece in zip(begin.tolist(), pieces, strict=False) for row in piece.rows], dtype=np.int64)


def read_file(path: Path, since: float | None, share: float) -> Piece:
    """One file."""
    piece, ledger = Piece(), Ledger()
    with _no_collecting():
        for placed in read([path], piece.problems.append):
            entry = placed.entry
            if isinstance(entry, Said) and entry.by is None:  # a judge's word is not its key's
                piece.opinions.append(Opinion(entry.wall, entry.writer, entry.seq, entry.decision, entry.key, entry.score))
            elif isinstance(entry, Kept) and (since is None or entry.wall >= since):
                _take(piece, ledger, entry, Problem(path, placed.number, ""), share)
    if len(ledger):
        piece.columns, piece.names = ledger.columns()
    piece.problems = [problem for problem in piece.problems if not problem.torn]
    return piece


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Without looking for garbage that goes in circles: there is none among lines."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _take(piece: Piece, ledger: Ledger, entry: Kept, here: Problem, share: float) -> None:
    try:
        line = entry.line()
        skew = ledger.take(line, odds=entry.around.odds, key=entry.around.key)
    except (BadRecord, LookupError, TypeError, ValueError) as error:
        piece.problems.append(Problem(here.path, here.line, str(error) or type(error).__name__))
        return
    piece.skew[skew] += 1
    if skew is Skew.OTHER and len(piece.skewed) < 10:
        piece.skewed.append(Problem(here.path, here.line, f"its facts do not encode to the digest {line.decision['digest']}"))
    if skew is Skew.SAME and hashed(str(int((entry.wall - entry.took) // BLOCK_S))) % _DENOMINATOR < share * _DENOMINATOR:
        piece.lines.append(entry.raw)
        piece.rows.append(len(ledger) - 1)


def _latest(pieces: Sequence[Piece]) -> list[Opinion]:
    """The last word of each key on each decision."""
    last: dict[tuple[str, str], Opinion] = {}
    for opinion in (opinion for piece in pieces for opinion in piece.opinions):
        place = opinion.decision, opinion.key
        last[place] = max(opinion, last.get(place, opinion))
    return list(last.values())


def _share(files: Sequence[Path]) -> float:
    """Of blocks that are kept whole, so that there are about LOOKED_AT lines of them."""
    guessed = sum(_lines(path) for path in files)
    return min(1.0, LOOKED_AT / max(guessed, 1.0))


def _lines(path: Path) -> float:
    try:
        size = path.stat().st_size
    except OSError:
        return 0.0
    return size / (_GUESSED_PACKED if path.suffix in (".gz", ".zst") else _GUESSED_BYTES)
