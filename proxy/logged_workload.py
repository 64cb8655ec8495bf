"""A replay log as a workload: what arrived then, at a fleet of today.

Arrivals, prompts, beliefs, deadlines, weights and sessions are as they were; what nobody saw is drawn (`learn.replayed`). A request counts
once, however often it was tried. Of a session's request, what its last one held is taken for the beginning of its prompt.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import Floats, Ints
from bestserve.policy.learn.logged import Logged, joined, some
from bestserve.policy.simulate import Trace

from .log_columns import read_file
from .segments import BadSegment, files, lines

_KEYS = (b'"kind":', b'"schema":')
"""One of them is in every line of a log, and in no trace."""


class BadLog(ValueError):
    """A log that cannot be played; the message says why."""


class Asked(NamedTuple):
    """The requests of a log, in the order in which they came."""

    requests: Logged
    skipped: list[str]  # lines that could not be read


def is_log(path: Path) -> bool:
    """Whether these are Records and not a trace's rows: a directory, or a file whose first line is one of a log."""
    if path.is_dir():
        return True
    try:
        first = next(lines(path), b"")
    except (OSError, BadSegment):
        return path.suffix in (".gz", ".zst")
    return any(key in first for key in _KEYS)


def read_requests(path: Path, *, skip_bad: bool) -> Asked:
    """Read a segment or a directory of them. Raises BadLog, which names the first bad line and counts the others."""
    try:
        pieces = [read_file(file, None, 0.0) for file in files([path])]
    except OSError as error:
        raise BadLog(f"{path}: cannot be read: {error.strerror}") from error
    problems = [str(problem) for piece in pieces for problem in piece.problems]
    if problems and not skip_bad:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise BadLog(f"{problems[0]}{more}; --skip-bad-rows leaves such rows out")
    tables = [(piece.columns, piece.names) for piece in pieces if piece.columns is not None and piece.names is not None]
    if not tables:
        raise BadLog(f"{path}: holds no request")
    from bestserve.policy.learn.replayed import begun  # needs scipy

    columns, *_ = joined(tables)
    return Asked(some(columns, begun(columns)), problems)


def replayed(requests: Logged, dice: Generator, *, rate_scale: float, seconds: float | None, longest: float) -> Trace:
    """The requests of one seed, so many times as fast, up to `seconds`; no prompt and no answer is longer than `longest`."""
    from bestserve.policy.learn.replayed import trace_of

    trace = trace_of(requests, requests.task, {}, dice)
    at = trace.at / rate_scale
    prompt, tokens = (np.minimum(sizes, int(longest)) for sizes in (trace.prompt, trace.tokens))
    session = requests.session.astype(np.int64)
    trace = trace._replace(at=at, prompt=prompt, tokens=tokens, session=session, shared=_shared(session, prompt, tokens))
    kept = int(np.searchsorted(at, math.inf if seconds is None else seconds))
    return Trace._make(column[:kept] for column in trace)


def _shared(session: Ints, prompt: Ints, tokens: Floats | Ints) -> Ints:
    """Tokens at the beginning of each prompt that its session's last request has had, answer included, (N,)."""
    had: dict[int, int] = {}
    shared = np.zeros(len(session), dtype=np.int64)
    for i, (who, size, answer) in enumerate(zip(session.tolist(), prompt.tolist(), tokens.tolist(), strict=True)):
        if who >= 0:
            shared[i] = min(had.get(who, 0), size - 1)
            had[who] = size + int(answer)
    return shared
