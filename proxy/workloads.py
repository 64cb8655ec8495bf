"""Workloads by their names on the command line: what arrives, and when.

    poisson:RATE                            independent arrivals, RATE a second
    bursty:RATE[:CV[:gamma|weibull]]        gaps with a coefficient of variation (4)
    unpredictable:LOW-HIGH[:DWELL]          a rate that jumps to another between two, after DWELL seconds in the mean (20)
    diurnal:LOW-HIGH[:PERIOD]               a rate that swings between two once in PERIOD seconds (the whole duration)
    FILE                                    recorded arrivals and lengths, see `policy.traces`
    DIR, or a segment                       a replay log, see `logged_workload`

A rate scale multiplies rates; a recorded trace is played so many times as fast.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bestserve.policy.facts import TASKS
from bestserve.policy.simulate import Trace
from bestserve.policy.traces import BadTrace, Recorded, read_trace, tasks_of
from bestserve.policy.workload import Arrivals, Demand, diurnal, draw_trace, mix_of, poisson, renewal, trace_of, unpredictable

from .config_words import near
from .logged_workload import Asked, BadLog, is_log, read_requests, replayed

DURATION_S = 600.0
"""How long a drawn workload is where nobody says; a recorded one is as long as it is."""

MOST = 5_000_000
"""Requests of one workload: more would not fit into memory."""


class BadWorkload(ValueError):
    """A workload that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What arrives. Ready to be drawn, for any seed."""

    name: str  # as it was asked for
    arrivals: Arrivals | None = None  # at a rate scale of 1, or
    recorded: Recorded | None = None
    rate: float = 0.0  # the highest mean rate of `arrivals`, before the scale
    asked: Asked | None = None  # of a log

    @property
    def skipped(self) -> list[str]:
        """Rows that could not be read, and were to be left out."""
        source = self.recorded or self.asked
        return [] if source is None else source.skipped


@dataclass(frozen=True, slots=True)
class Course:
    """How a workload is run."""

    workload: str
    seconds: float | None = None
    rate_scale: float = 1.0
    skip_bad: bool = False


def workload_of(course: Course) -> Workload:
    """Read its name. Raises BadWorkload."""
    word, colon, rest = course.workload.partition(":")
    if word in KINDS and colon:
        return _drawn(course, word, rest.split(":"))
    path = Path(course.workload)
    if path.exists() and is_log(path):
        return _logged(path, course)
    if not path.is_file():
        kinds = ", ".join(f"{kind}:…" for kind in KINDS)
        raise BadWorkload(f"{course.workload!r} is not a workload, a file or a directory; there are {kinds}{near(word, KINDS)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return Workload(course.workload, recorded=read_trace(lines, skip_bad=course.skip_bad))
    except BadTrace as error:
        raise BadWorkload(f"{path}: {error}; --skip-bad-rows leaves such rows out") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadWorkload(f"{path}: cannot be read as text") from error


def trace_for(course: Course, demand: Demand, seed: int) -> Trace:
    """Its requests. Raises BadWorkload."""
    return drawn(workload_of(course), course, demand, seed)


def drawn(workload: Workload, course: Course, demand: Demand, seed: int) -> Trace:
    """The requests of one seed. Raises BadWorkload when there would be none, or too many."""
    dice = np.random.default_rng(seed)
    if workload.recorded is not None:
        return _replayed(workload.recorded, course, demand, dice)
    if workload.asked is not None:
        return replayed(workload.asked.requests, dice, rate_scale=course.rate_scale, seconds=course.seconds, longest=demand.longest)
    assert workload.arrivals is not None
    seconds = course.seconds or DURATION_S
    if workload.rate * seconds > MOST:
        raise BadWorkload(f"{workload.name}: {workload.rate * seconds:.3g} requests are more than {MOST:,}; shorten --duration")
    trace = draw_trace(dice, workload.arrivals, seconds, demand)
    if not len(trace.at):
        raise BadWorkload(f"{workload.name}: nobody arrives within {seconds:g} s")
    return trace


def _replayed(recorded: Recorded, course: Course, demand: Demand, dice: np.random.Generator) -> Trace:
    """A recorded trace at another speed, from its beginning."""
    at = recorded.at / course.rate_scale
    kept = at < (course.seconds or math.inf)
    part = Recorded(at[kept], recorded.prompt[kept], recorded.tokens[kept])
    return trace_of(dice, part.at, part.prompt, part.tokens, tasks_of(dice, part, demand), demand)


def _logged(path: Path, course: Course) -> Workload:
    try:
        return Workload(course.workload, asked=read_requests(path, skip_bad=course.skip_bad))
    except BadLog as error:
        raise BadWorkload(str(error)) from error


def _drawn(course: Course, kind: str, said: list[str]) -> Workload:
    try:
        arrivals, rate = KINDS[kind](said, course)
    except ValueError as error:
        raise BadWorkload(f"{course.workload}: {error}") from error
    return Workload(course.workload, arrivals, rate=rate)


def _poisson(said: list[str], course: Course) -> tuple[Arrivals, float]:
    (text,) = _parts(said, 1, 1, "poisson:RATE")
    rate = _positive(text, "rate") * course.rate_scale
    return poisson(rate), rate


def _bursty(said: list[str], course: Course) -> tuple[Arrivals, float]:
    text, cv, family = _parts(said, 1, 3, "bursty:RATE[:CV[:gamma|weibull]]", "4", "gamma")
    if family not in ("gamma", "weibull"):
        raise ValueError(f"{family!r} is neither gamma nor weibull{near(family, ('gamma', 'weibull'))}")
    rate, spread = _positive(text, "rate") * course.rate_scale, _positive(cv, "coefficient of variation")
    if not 0.1 <= spread <= 20.0:
        raise ValueError(f"a coefficient of variation of {spread:g} is not between 0.1 and 20")
    return renewal(rate, spread, family), rate


def _unpredictable(said: list[str], course: Course) -> tuple[Arrivals, float]:
    between, dwell = _parts(said, 1, 2, "unpredictable:LOW-HIGH[:DWELL]", "20")
    low, high = _range(between, course)
    return unpredictable(low, high, _positive(dwell, "dwell")), high


def _diurnal(said: list[str], course: Course) -> tuple[Arrivals, float]:
    between, period = _parts(said, 1, 2, "diurnal:LOW-HIGH[:PERIOD]", str(course.seconds or DURATION_S))
    low, high = _range(between, course)
    return diurnal(low, high, _positive(period, "period")), high


KINDS: dict[str, Callable[[list[str], Course], tuple[Arrivals, float]]] = {
    "poisson": _poisson,
    "bursty": _bursty,
    "unpredictable": _unpredictable,
    "diurnal": _diurnal,
}


def _parts(said: list[str], least: int, most: int, form: str, *usual: str) -> list[str]:
    if not least <= len(said) <= most or not all(said):
        raise ValueError(f"is not of the form {form}")
    return said + list(usual[len(said) - least :])


def _positive(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise ValueError(f"a {what} must be a number above 0, is {text!r}")
    return value


def _range(text: str, course: Course) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    if not dash:
        raise ValueError(f"two rates are written LOW-HIGH, not {text!r}")
    rates = _positive(low, "rate") * course.rate_scale, _positive(high, "rate") * course.rate_scale
    if rates[0] > rates[1]:
        raise ValueError(f"the lower rate {low} is above the higher one {high}")
    return rates


def with_mix(demand: Demand, text: str | None) -> Demand:
    """A demand of a task mix like `code=0.3,qa=0.7`; `code=1:chat=1` drifts from the first to the second. Raises BadWorkload."""
    if text is None:
        return demand
    try:
        first, *later = (mix_of(_shares(part)) for part in text.split(":"))
    except ValueError as error:
        raise BadWorkload(f"--task-mix {text}: {error}") from error
    if len(later) > 1:
        raise BadWorkload(f"--task-mix {text}: a mix drifts from one to one other")
    return replace(demand, mix=first, later_mix=later[0] if later else None)


def _shares(text: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in text.split(",")]
    shares = dict[str, float]()
    for task, _, share in pairs:
        if task not in TASKS:
            raise ValueError(f"{task!r} is not a task; there are {', '.join(TASKS)}{near(task, TASKS)}")
        if task in shares:
            raise ValueError(f"{task} is there twice")
        shares[task] = _positive(share, f"share of {task}")
    return shares
