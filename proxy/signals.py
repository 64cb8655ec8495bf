"""What is known of an answer's worth beyond its Record: what the client said of it, and what the client did.

A retry is the same prompt of the same key (by its hash) that begins within RETRY_S after the answer has ended. What a program sends over
and over again looks the same; whoever learns from it should know.
"""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bestserve.policy.record import BadRecord, Line

from .entries import Kept, Placed, Problem, Said, read

RETRY_S = 300.0

_Place = tuple[str, str, str | None]  # decision, name of the key, who speaks


@dataclass(frozen=True, slots=True)
class Signals:
    """Of one attempt. A request that was tried at several backends has a Record for each; they mean the last one."""

    cut: bool  # a cap that we set ended it
    left: bool  # the client went away before the end
    retried_s: float | None  # seconds until the client asked the same again; None when it did not, within RETRY_S
    score: float | None  # what the client said last, from 0 to 1
    judged: float | None = None  # what a judge said, likewise


@dataclass(frozen=True, slots=True)
class Joined:
    """A Record and its signals."""

    kept: Kept
    line: Line
    signals: Signals


@dataclass(slots=True)
class Index:
    """What is said of decisions anywhere in the log. Made in a pass before the Records are read, since it may stand anywhere."""

    _said: dict[_Place, tuple[float, str, int, float]] = field(default_factory=dict)  # time, writer, number, score
    _begun: "dict[str, array[float]]" = field(default_factory=lambda: defaultdict(lambda: array("d")))  # prompt -> begins of its requests

    @classmethod
    def of(cls, entries: Iterable[Placed]) -> "Index":
        """Of these entries."""
        index = cls()
        for placed in entries:
            entry = placed.entry
            if isinstance(entry, Said):
                index.hear(entry)
            elif isinstance(entry, Kept) and entry.attempt == 0 and entry.around.prompt is not None:
                index._begun[entry.around.prompt].append(entry.wall - entry.took)
        for prompt, begun in index._begun.items():
            index._begun[prompt] = array("d", sorted(begun))
        return index

    def hear(self, said: Said) -> None:
        """The latest word on a decision counts, wherever it was written; and only its own key's."""
        word, place = (said.wall, said.writer, said.seq, said.score), (said.decision, said.key, said.by)
        self._said[place] = max(word, self._said.get(place, word))

    def score(self, decision: str, key: str, by: str | None = None) -> float | None:
        """What a decision's key said of it last; or what a judge did."""
        word = self._said.get((decision, key, by))
        return None if word is None else word[3]

    def retried_s(self, kept: Kept, within_s: float = RETRY_S) -> float | None:
        """Seconds from an answer's end until the same was asked again."""
        begun = self._begun.get(kept.around.prompt or "")
        i = 0 if begun is None else bisect_left(begun, kept.wall)
        if begun is None or i == len(begun) or begun[i] - kept.wall > within_s:
            return None
        return begun[i] - kept.wall

    def signals(self, kept: Kept, line: Line) -> Signals:
        """All that is known of an attempt."""
        score, judged = (self.score(kept.decision, kept.around.key, by) for by in (None, "judge"))
        return Signals(line.outcome.cut, kept.around.left, self.retried_s(kept), score, judged)


def joined(
    files: list[Path],
    problem: Callable[[Problem], None],
    *,
    watched: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> Iterator[Joined]:
    """Every Record of some files with its signals, in two passes. What cannot be read is told to `problem`, and passed over.

    `watched` is told the files of each pass and gives them on: where a bar can be shown.
    """
    index = Index.of(read(watched(files), lambda _: None))  # told in the second pass
    for placed in read(watched(files), problem):
        if isinstance(placed.entry, Kept):
            try:
                line = placed.entry.line()
            except BadRecord as error:
                problem(Problem(placed.path, placed.number, str(error)))
            else:
                yield Joined(placed.entry, line, index.signals(placed.entry, line))
