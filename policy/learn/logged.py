"""Lines of a log as columns, each encoded again from its facts on the way: what a log is calibrated and judged by.

Skew between serving and learning is a measurement, not a hope: what a Record was decided on stands in it as a digest, and what its facts
encode to now must have the same one. Lines of schema 1 did not hold all that was encoded and count as unknown.
"""

import math
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from bestserve.policy.encode import ENCODER, observe
from bestserve.policy.facts import TASKS, Ending, Floats, Ints, Mask
from bestserve.policy.record import Line


class Skew(IntEnum):
    """What encoding a line again came to."""

    SAME = 0
    OTHER = 1  # the digest differs
    UNKNOWN = 2  # the line does not hold all that was encoded, or another encoder wrote it


ENDINGS = tuple(Ending)
DONE, SHED = ENDINGS.index(Ending.DONE), ENDINGS.index(Ending.SHED)


class Logged(NamedTuple):
    """N attempts. Of the backend that was asked, where one is meant; times in seconds.

    A whole log is kept narrow, in 32 bits where these are enough; `some` of it comes wide.
    """

    wall: Floats  # when it ended, since 1970
    took: Floats
    ttft: Floats  # nan where none was seen
    backend: Ints  # place in `Names.backends`; -1 for a Shed
    ending: Ints  # of ENDINGS
    tokens: Floats  # of the answer; nan where nobody counted
    prompt: Floats  # as the backend counted, else as was estimated
    cached: Floats
    cut: Mask  # by our budget
    stopped: Mask  # it ended by itself
    cap: Floats  # of the budget; inf
    told: Mask  # to be brief
    ceiling: Floats  # the client's; inf
    n: Floats  # answers asked for
    mu: Floats  # predicted mean and deviation of the log of the length
    sigma: Floats
    ttft_slo: Floats  # deadlines; inf
    tpot_slo: Floats
    e2e_slo: Floats
    hard: Mask
    weight: Floats
    usd: Floats
    usd_weight: Floats
    attempt: Ints
    in_flight: Floats  # as was seen when it was decided, of the backend that was asked
    prefill: Floats
    places: Floats
    odds: Floats  # with which the line was kept
    policy: Ints  # place in `Names.policies`
    key: Ints  # of the caller: a hash of its name
    said: Ints  # a hash of its id and key: of what may be said of it
    session: Ints  # a hash; -1
    stream: Mask
    task: Floats  # (N, T): probabilities
    score: Floats  # what was said of it; nan


class Names(NamedTuple):
    """What numbers in columns stand for."""

    backends: tuple[str, ...]
    profiles: tuple[str, ...]  # of the same backends: a name counts anew when its profile changes
    policies: tuple[str, ...]


_FLAGS = {"cut", "stopped", "told", "hard", "stream"}
_HASHES = {"key", "said", "session"}
_WHOLE = {"backend", "ending", "attempt", "policy"}
_EXACT = {"wall", "took", "ttft"}
_ROW = tuple(name for name in Logged._fields if name not in ("task", "score"))


class Ledger:
    """Takes lines one by one; `columns` are what it has taken."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._tasks: list[tuple[float, ...]] = []
        self._backends: dict[tuple[str, str], int] = {}
        self._policies: dict[str, int] = {}
        self._caller = cache(hashed)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, line: Line, *, odds: float = 1.0, key: str = "") -> Skew:
        """One attempt; what encoding it again came to."""
        seen, decision, outcome, ask = line.seen, line.decision, line.outcome, line.ask
        action, view = decision["action"], line.view
        b, name_number, skew = -1, -1, Skew.UNKNOWN
        if seen is not None and decision.get("encoder") == ENCODER:
            skew = Skew.SAME if observe(seen).digest() == decision["digest"] else Skew.OTHER
        if action is not None:
            b = view["backends"].index(action["backend"])
            name_number = self._backends.setdefault((action["backend"], view["profiles"][b]), len(self._backends))
        cap = math.inf if action is None or action["budget"] is None else float(action["budget"])
        slo = ask.slo
        row = (
            line.wall,
            outcome.total_s,
            _or(outcome.ttft_s, math.nan),
            name_number,
            ENDINGS.index(outcome.ending),
            _or(outcome.completion_tokens, math.nan),
            float(outcome.prompt_tokens or ask.prompt_tokens),
            float(outcome.cached_tokens or 0),
            outcome.cut,
            outcome.finish_reason not in ("length", None),
            cap,
            seen is not None and b >= 0 and bool(seen.caps.told[decision["index"] % len(seen.caps.tokens)]),
            _or(ask.max_tokens, math.inf),
            ask.n,
            math.log(ask.length.median),
            ask.length.sigma,
            _or(slo.ttft_s, math.inf),
            _or(slo.tpot_s, math.inf),
            _or(slo.e2e_s, math.inf),
            slo.hard,
            ask.weight,
            outcome.usd,
            ask.usd_weight,
            line.attempt,
            view["in_flight"][b] if b >= 0 else 0.0,
            view["prefill_tokens"][b] if b >= 0 else 0.0,
            _or(view["places"][b], math.inf) if b >= 0 else 0.0,
            odds,
            self._policies.setdefault(decision["policy"], len(self._policies)),
            (caller := self._caller(key)),
            hashed(f"{decision['id']} {caller}"),
            -1 if ask.session is None else hashed(ask.session),
            ask.stream,
        )
        self._rows.append(row)
        self._tasks.append(ask.task)
        return skew

    def columns(self) -> tuple[Logged, Names]:
        """All that was taken, in the order in which it came."""
        n = len(self._rows)
        made = {}
        for name, column in zip(_ROW, zip(*self._rows, strict=True) if n else [()] * len(_ROW), strict=True):
            made[name] = np.array(column, dtype=_kind(name))
        task = np.array(self._tasks, dtype=np.float32).reshape(n, len(TASKS))
        names = Names(tuple(b for b, _ in self._backends), tuple(p for _, p in self._backends), tuple(self._policies))
        return of((*(made[name] for name in _ROW), task, np.full(n, math.nan, dtype=np.float32))), names


def hashed(text: str) -> int:
    """A number for a name, the same in every process."""
    data = text.encode()
    return crc32(data) << 31 ^ crc32(data, 0x9E3779B9) >> 1


def joined(pieces: Sequence[tuple[Logged, Names]]) -> tuple[Logged, Names, Ints]:
    """Several ledgers' columns as one, in the order of the ends of attempts; and which row of the pieces, one after another, each is."""
    backends: dict[tuple[str, str], int] = {}
    policies: dict[str, int] = {}
    moved = list[Logged]()
    for columns, names in pieces:
        b: Any = np.array([backends.setdefault(pair, len(backends)) for pair in zip(names.backends, names.profiles, strict=True)] + [-1])
        p: Any = np.array([policies.setdefault(name, len(policies)) for name in names.policies] or [0])
        moved.append(columns._replace(backend=b[columns.backend].astype(np.int32), policy=p[columns.policy].astype(np.int32)))
    order: Ints = np.argsort(np.concatenate([piece.wall for piece in moved]), kind="stable")
    names = Names(tuple(b for b, _ in backends), tuple(p for _, p in backends), tuple(policies))
    return of(np.concatenate(parts)[order] for parts in zip(*moved, strict=True)), names, order


def with_scores(columns: Logged, said: Iterable[tuple[str, str, float]]) -> Logged:
    """The same with what callers said of answers: a decision's id, the name of a key, a score. Only the decision's own key counts."""
    scores = {hashed(f"{decision} {hashed(key)}"): score for decision, key, score in said}
    if not scores:
        return columns
    ids = np.array(sorted(scores), dtype=np.int64)
    place = np.minimum(np.searchsorted(ids, columns.said), len(ids) - 1)
    found = ids[place] == columns.said
    values = np.array([scores[i] for i in ids.tolist()])[place]
    return columns._replace(score=np.where(found, values, np.nan).astype(np.float32))


def some(columns: Logged, which: Mask | Ints | slice) -> Logged:
    """Some of them, wide."""
    return of(_wide(column[which]) for column in columns)


def _wide(column: Any) -> Any:
    return column.astype(np.float64) if column.dtype == np.float32 else column.astype(np.int64) if column.dtype == np.int32 else column


def _kind(name: str) -> Any:
    if name in _FLAGS:
        return np.bool_
    if name in _HASHES:
        return np.int64
    return np.int32 if name in _WHOLE else np.float64 if name in _EXACT else np.float32


def of(columns: Iterable[Any]) -> Logged:
    """From its columns, in their order."""
    return Logged(*columns)


def _or(value: float | None, other: float) -> float:
    return other if value is None else float(value)
