"""How far answers are from what was expected of them, learnt as they come: offset and spread of log tokens, by backend and task.

A prompt explains most of an answer's length, and the model a part: some talk more. What a classifier learnt elsewhere is off by
a factor here, and that factor is soon seen. It is kept as three sums that fade, so an old habit is forgotten after some MEMORY
answers; a prior worth TRUST answers holds it near nothing while little was seen; and no answer, however long, moves it far.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .facts import Length

MEMORY = 500.0  # answers
TRUST = 20.0  # answers that the prior is worth
MOST = math.log(8.0)  # beyond this factor an answer counts as this far off
LEAST_SIGMA, MOST_SIGMA = 0.3, 1.6
_FADE = 1.0 - 1.0 / MEMORY


@dataclass(frozen=True, slots=True)
class Drift:
    """What was seen of one backend at one task. `n` answers are remembered, with the sums of what they were off by, and its square."""

    n: float = 0.0
    off: float = 0.0
    squares: float = 0.0

    def seen(self, off: float) -> "Drift":
        """The same with one more answer, off by so much in log tokens."""
        off = min(max(off, -MOST), MOST)
        return Drift(self.n * _FADE + 1.0, self.off * _FADE + off, self.squares * _FADE + off * off)


NONE = Drift()


def joined(drifts: Iterable[Drift]) -> Drift:
    """Of several backends, as if they were one."""
    many = list(drifts)
    return Drift(sum(d.n for d in many), sum(d.off for d in many), sum(d.squares for d in many))


def offset(drift: Drift, believed: float = 0.0) -> float:
    """By how much answers are longer than expected, in log tokens; shrunk to what was `believed` before while little was seen."""
    return (drift.off + TRUST * believed) / (drift.n + TRUST)


def widened(expected: Length, drift: Drift) -> Length:
    """The same median, with the spread that was seen about it; near what was expected while little was seen."""
    if drift.n < 1.0:
        return expected
    shift = offset(drift)
    spread = (drift.squares - 2 * shift * drift.off + drift.n * shift * shift + TRUST * expected.sigma**2) / (drift.n + TRUST)
    return Length(expected.median, round(min(max(math.sqrt(max(spread, 0.0)), LEAST_SIGMA), MOST_SIGMA) * 20) / 20)


def off_by(expected: Length, tokens: int, *, cut: bool) -> float | None:
    """By how much an answer was longer than expected, in log tokens. None for one that was cut before: it would have been longer."""
    off = math.log(max(tokens, 1)) - math.log(expected.median)
    return None if cut and off < 0 else off
