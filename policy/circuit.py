"""Whether a backend is asked: a circuit that opens, half-opens and closes, for each backend, in columns.

    A circuit counts failures in a row: at `failures` it opens for `open_s`; then one request is let through as a trial (half-open); if that
    succeeds the circuit closes, if not it opens again for twice as long, up to MOST_OPEN_S. Probes that fail in a row open it too. A
    probe that finds the backend ready closes a circuit that only probes had opened; where requests had failed it ends the waiting, and a
    request has to close it. A full queue is no failure: it only holds the backend back for HOLD_S, and not even that when nobody else
    could answer.

What is not handled: which process of several makes the half-open trial; each makes its own.
"""

import math
from enum import StrEnum
from typing import NamedTuple

from .numeric import Cells, FlagCells, numeric

HOLD_S = 0.2
MOST_OPEN_S = 60.0


class CircuitState(StrEnum):
    """Whether a backend is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitRules(NamedTuple):
    """When a backend is left alone, and for how long."""

    failures: int = 3  # in a row
    open_s: float = 5.0
    trial_s: float = 30.0  # how long one trial keeps the others out


class Circuits(NamedTuple):
    """(B,) each."""

    failures: Cells  # requests in a row
    misses: Cells  # probes in a row
    opened: FlagCells
    open_until: Cells
    open_s: Cells
    trial_until: Cells
    held_until: Cells

    @classmethod
    def of(cls, n_backends: int) -> "Circuits":
        """All closed."""
        never, none = [-math.inf] * n_backends, [0.0] * n_backends
        return cls(none[:], none[:], [False] * n_backends, never[:], none[:], never[:], never[:])


@numeric
def lets_through(circuits: Circuits, b: int, now: float) -> bool:
    """Whether a request may go to backend b now."""
    return not circuits.opened[b] or (now >= circuits.open_until[b] and now >= circuits.trial_until[b])


@numeric
def try_out(circuits: Circuits, rules: CircuitRules, b: int, now: float) -> bool:
    """A request is begun at b: whether it is the trial of a half-open circuit, which keeps others out meanwhile."""
    if circuits.opened[b]:
        circuits.trial_until[b] = now + rules.trial_s
        return True
    return False


@numeric
def succeed(circuits: Circuits, b: int) -> None:
    """Close the circuit: a request was answered."""
    circuits.failures[b], circuits.misses[b], circuits.opened[b] = 0.0, 0.0, False
    circuits.open_until[b], circuits.trial_until[b] = -math.inf, -math.inf


@numeric
def fail(circuits: Circuits, rules: CircuitRules, b: int, now: float) -> None:
    """A request failed."""
    circuits.failures[b] += 1.0
    judge(circuits, rules, b, now)


@numeric
def probed(circuits: Circuits, rules: CircuitRules, b: int, now: float, ready: bool) -> None:
    """A probe came back."""
    if not ready:
        circuits.misses[b] += 1.0
        judge(circuits, rules, b, now)
    elif circuits.opened[b] and circuits.failures[b] == 0.0:
        succeed(circuits, b)
    else:
        if circuits.opened[b] and circuits.misses[b] > 0.0:
            circuits.open_until[b] = min(circuits.open_until[b], now)
        circuits.misses[b] = 0.0


@numeric
def judge(circuits: Circuits, rules: CircuitRules, b: int, now: float) -> None:
    """After a failure: open the circuit, or open it again for longer when the trial failed."""
    if circuits.opened[b]:
        if now >= circuits.open_until[b]:
            circuits.open_s[b] = min(2.0 * circuits.open_s[b], MOST_OPEN_S)
            circuits.open_until[b] = now + circuits.open_s[b]
    elif max(circuits.failures[b], circuits.misses[b]) >= rules.failures:
        circuits.opened[b], circuits.open_s[b] = True, rules.open_s
        circuits.open_until[b] = now + rules.open_s


def state_of(circuits: Circuits, b: int, now: float) -> CircuitState:
    """For people and metrics."""
    if not circuits.opened[b]:
        return CircuitState.CLOSED
    return CircuitState.OPEN if now < circuits.open_until[b] else CircuitState.HALF_OPEN
