"""What `bestserve quality` prints: tables for people, one JSON object for programs."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from bestserve.policy.estimate import Estimate

from .budgets import name
from .merge import Merged
from .tally import Shortening, Tally


def as_dict(tally: Tally, merged: Sequence[Merged]) -> dict[str, Any]:
    """The tally by task and budget. A number that could not be had is null."""
    return {
        "budgets": [{"name": name(b), "tokens": b.tokens, "instruction": b.instruction} for b in tally.budgets],
        "tasks": {
            task: {
                "budgets": {name(b): asdict(tally.cells[task, k]) for k, b in enumerate(tally.budgets) if (task, k) in tally.cells},
                **asdict(tally.effects[task]),
            }
            for task in tally.tasks
        },
        "merged": [{"number": m.path, "before": m.before, "measured": m.measured, "after": m.after} for m in merged],
    }


def show(tally: Tally, merged: Sequence[Merged]) -> None:
    """The tables."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_cells(tally))
    if tally.free is not None and len(tally.budgets) > 1:
        console.print(_effects(tally))
    if merged:
        console.print(_merged(merged))
    for budget in tally.budgets:
        if budget.instruction:
            console.print(f"{name(budget)}: with {budget.instruction!r}", highlight=False)


def _cells(tally: Tally) -> Table:
    table = _table(
        "quality, with 95 % intervals; length of answers that nothing cuts", "task", "budget", "n", "quality", "", "cut", "tokens", "sigma"
    )
    for task in tally.tasks:
        for k, budget in enumerate(tally.budgets):
            cell = tally.cells.get((task, k))
            if cell:
                length = (f"{cell.length.median:.0f}", f"{cell.length.sigma:.2f}") if cell.length else ("–", "–")
                q = cell.quality
                table.add_row(task, name(budget), f"{q.n:.0f}", f"{q.value:.2f}", _interval(q), f"{cell.cut:.0%}", *length)
        table.add_section()
    return table


def _effects(tally: Tally) -> Table:
    table = _table(
        "what budgets do, as shares of the free answer to the same prompt",
        "task",
        "kept when cut",
        "kept when concise",
        "length when concise",
    )
    for task in tally.tasks:
        effect = tally.effects[task]
        table.add_row(task, _share(effect.kept_when_cut), _share(effect.kept_when_concise), _ratio(effect.length_when_concise))
    return table


def _merged(merged: Sequence[Merged]) -> Table:
    table = _table("the profile's numbers", "number", "before", "measured", "after")
    for m in merged:
        table.add_row(m.path, f"{m.before:.3g}", f"{m.measured:.3g}", f"{m.after:.3g}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 or column == "budget" else "right")
    return table


def _interval(e: Estimate) -> str:
    return f"{e.low:.2f} – {e.high:.2f}"


def _share(e: Estimate | None) -> str:
    return f"{e.value:.2f} ({_interval(e)})" if e and e.n else "–"


def _ratio(s: Shortening | None) -> str:
    return f"{s.ratio:.2f} (n={s.n})" if s else "–"
