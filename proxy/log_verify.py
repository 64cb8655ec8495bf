"""Whether a replay log is whole: every line is read, and the numbers of every writer are followed.

A torn last line is what a kill leaves; lines that the log itself says are lost are accounted for. Neither is a fault.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bestserve.policy.record import BadRecord

from .entries import Kept, Lost, Placed, Problem, Said, read


@dataclass(frozen=True, slots=True)
class Gap:
    """A jump in one writer's numbers, and where it was seen."""

    path: Path
    line: int
    writer: str
    first: int  # missing
    last: int


@dataclass(slots=True)
class Findings:
    """What was found."""

    files: int = 0
    records: int = 0
    feedback: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # by why
    problems: list[Problem] = field(default_factory=list)
    torn: list[Problem] = field(default_factory=list)
    _last: dict[str, int] = field(default_factory=dict)  # writer -> number of its last line
    _gaps: list[Gap] = field(default_factory=list)
    _told: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong beyond torn ends."""
        return not self.problems

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "ok": self.ok,
            "files": self.files,
            "writers": len(self._last),
            "records": self.records,
            "feedback": self.feedback,
            "lost": dict(self.lost),
            "torn": list(map(_plain, self.torn)),
            "problems": list(map(_plain, self.problems)),
        }

    def problem(self, problem: Problem) -> None:
        """Something that cannot be read."""
        (self.torn if problem.torn else self.problems).append(problem)

    def see(self, placed: Placed) -> None:
        """Look at one entry."""
        entry = placed.entry
        if isinstance(entry, Lost):
            self._lost(entry)
            return
        self.records += isinstance(entry, Kept)
        self.feedback += isinstance(entry, Said)
        if isinstance(entry, Kept):
            self._look(placed, entry)
        if entry.seq:
            self._follow(placed, entry)

    def end(self) -> None:
        """Judge the gaps, now that all losses are known."""
        for gap in self._gaps:
            if not any(first <= gap.first and gap.last <= last for first, last in self._told[gap.writer]):
                self.problems.append(Problem(gap.path, gap.line, f"lines {gap.first} to {gap.last} of {gap.writer} are missing before it"))

    def _lost(self, lost: Lost) -> None:
        if lost.first is None or lost.last is None:
            self.lost[lost.why] += lost.n
        elif (lost.first, lost.last) not in self._told[lost.writer]:
            self.lost[lost.why] += lost.n
            self._told[lost.writer].append((lost.first, lost.last))

    def _look(self, placed: Placed, kept: Kept) -> None:
        try:
            line = kept.line()
        except BadRecord as error:
            self.problems.append(Problem(placed.path, placed.number, str(error)))
            return
        if not line.decision.get("digest"):
            self.problems.append(Problem(placed.path, placed.number, "the decision has no digest of what it was made from"))

    def _follow(self, placed: Placed, entry: Kept | Said) -> None:
        last = self._last.get(entry.writer)
        if last is not None and entry.seq <= last:
            self.problems.append(Problem(placed.path, placed.number, f"line {entry.seq} of {entry.writer} is there twice, or too late"))
            return
        if last is not None and entry.seq > last + 1:
            self._gaps.append(Gap(placed.path, placed.number, entry.writer, last + 1, entry.seq - 1))
        self._last[entry.writer] = entry.seq


def verify(files: Iterable[Path]) -> Findings:
    """Read everything. Files of one writer must come in their order, as `segments.files` gives them."""
    findings = Findings()
    for placed in read(_counted(files, findings), findings.problem):
        findings.see(placed)
    findings.end()
    return findings


def _counted(files: Iterable[Path], findings: Findings) -> Iterable[Path]:
    for file in files:
        findings.files += 1
        yield file


def _plain(problem: Problem) -> dict[str, Any]:
    return {"path": str(problem.path), "line": problem.line, "message": problem.message}
