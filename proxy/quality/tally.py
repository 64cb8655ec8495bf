"""Scored answers -> what is known of the backend: quality, lengths and cuts per task and budget, and what budgets do to an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bestserve.policy import estimate
from bestserve.policy.estimate import Estimate, LogNormal
from bestserve.policy.facts import TASKS, Budget

from .budgets import is_free
from .ledger import Scored

Rows = Mapping[tuple[str, int], Scored]  # (prompt id, place of the budget) -> its answer


@dataclass(frozen=True, slots=True)
class Cell:
    """One task under one budget."""

    quality: Estimate
    cut: float  # share of answers that broke off
    length: LogNormal | None  # of answers that nothing cuts, where enough of them ended by themselves


@dataclass(frozen=True, slots=True)
class Shortening:
    """How much shorter answers get by an instruction."""

    ratio: float
    log_error: float  # standard error of its logarithm
    n: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What budgets do to one task. None where there was nothing to compare."""

    kept_when_cut: Estimate | None
    kept_when_concise: Estimate | None
    length_when_concise: Shortening | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Everything. A task is there if one of its prompts was scored."""

    budgets: tuple[Budget, ...]
    cells: Mapping[tuple[str, int], Cell]
    effects: Mapping[str, Effect]

    @property
    def tasks(self) -> list[str]:
        return [task for task in TASKS if any(where[0] == task for where in self.cells)]

    @property
    def free(self) -> int | None:
        """The place of the budget that sets no limit."""
        return _free(self.budgets)


def tally(rows: Rows, budgets: tuple[Budget, ...]) -> Tally:
    """See the head of this file."""
    cells = {}
    for task in TASKS:
        for k in range(len(budgets)):
            here = [row for (_, place), row in rows.items() if place == k and row.task == task]
            if here:
                cells[task, k] = _cell(here)
    return Tally(budgets, cells, {task: _effect(task, rows, budgets) for task in TASKS if any(where[0] == task for where in cells)})


def _cell(rows: Sequence[Scored]) -> Cell:
    counted = [row for row in rows if row.tokens is not None]
    return Cell(
        quality=estimate.share([row.score for row in rows]),
        cut=sum(row.cut for row in rows) / len(rows),
        length=estimate.lengths([row.tokens or 1 for row in counted], [row.cut for row in counted]),
    )


def _effect(task: str, rows: Rows, budgets: tuple[Budget, ...]) -> Effect:
    """Each answer under a budget beside the same prompt's answer without one, where that one ended by itself."""
    pairs = list(_pairs(task, rows, budgets))
    cut = [(row.score, free.score) for row, free, _ in pairs if row.cut]
    concise = [(row, free) for row, free, budget in pairs if budget.instruction and not row.cut]
    counted = [(row.tokens, free.tokens) for row, free in concise if row.tokens is not None and free.tokens is not None]
    ratio = estimate.ratio(counted)
    return Effect(
        kept_when_cut=estimate.kept(cut) if cut else None,
        kept_when_concise=estimate.kept([(row.score, free.score) for row, free in concise]) if concise else None,
        length_when_concise=Shortening(*ratio, len(counted)) if ratio else None,
    )


def _pairs(task: str, rows: Rows, budgets: tuple[Budget, ...]) -> list[tuple[Scored, Scored, Budget]]:
    base = _free(budgets)
    found = []
    for (id_, place), row in rows.items():
        free = rows.get((id_, base)) if base is not None and place != base else None
        if row.task == task and free is not None and not free.cut:
            found.append((row, free, budgets[place]))
    return found


def _free(budgets: tuple[Budget, ...]) -> int | None:
    return next((k for k, budget in enumerate(budgets) if is_free(budget)), None)
