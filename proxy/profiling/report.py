"""What the verb prints: the constants, how well they predict, what changed; as tables, or as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .conclude import Result
from .write import Change

__all__ = ["as_json", "show"]


def as_json(result: Result, changed: Sequence[Change], out: Path) -> dict[str, Any]:
    """Everything that is printed, and the intervals of 95 in 100."""
    return {
        "profile": str(out),
        "engine": {
            name: {"value": value, "error": source.error, "how": source.how, "source": source.source}
            for name, (value, source) in result.numbers.items()
        },
        "intervals": {name: list(estimate.interval) for name, estimate in result.estimates.items()},
        "validation": {name: asdict(mix) for name, mix in result.judged.summary().items()},
        "compared": [{**asdict(change), "ratio": change.ratio} for change in changed],
        "warnings": result.warnings,
        "runs": result.runs,
        "seconds": round(result.seconds, 1),
    }


def show(console: Console, result: Result, changed: Sequence[Change], out: Path) -> None:
    """The same as tables."""
    console.print(_constants(result))
    if result.judged.ttft:
        console.print(_judged(result))
    if changed:
        console.print(_changes(changed))
    for warning in result.warnings:
        console.print(f"[yellow]note[/yellow]  {warning}", highlight=False)
    console.print(f"wrote {out} from {result.runs} runs in {result.seconds:.0f} s", highlight=False)


def _constants(result: Result) -> Table:
    table = _table("what was found", "constant", "value", "in 95 of 100 cases", "error", "how")
    for name, (value, source) in result.numbers.items():
        estimate = result.estimates.get(name)
        between = "" if estimate is None else f"{_said(name, estimate.interval[0])} … {_said(name, estimate.interval[1])}"
        table.add_row(name, _said(name, value), between, "" if source.error is None else f"{source.error:.1%}", source.how)
    return table


def _judged(result: Result) -> Table:
    table = _table("predicted against measured, on mixes that were not fitted", "what", "compared", "median", "p90", "bias")
    names = {"ttft": "time to first token", "tpot": "time per token", "throughput": "tokens a second"}
    for name, mix in result.judged.summary().items():
        table.add_row(names[name], str(mix.n), f"{mix.median:.1%}", f"{mix.p90:.1%}", f"{mix.bias:+.1%}")
    return table


def _changes(changed: Sequence[Change]) -> Table:
    table = _table("against the old profile", "constant", "old", "new", "new / old", "old within the new interval")
    for change in changed:
        old, new = _said(change.name, change.old), _said(change.name, change.new)
        table.add_row(change.name, old, new, f"{change.ratio:.2f}", "yes" if change.within else "no")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    return table


def _said(name: str, value: float) -> str:
    """A value with its unit; seconds in what they are easily read in."""
    if name.endswith("per_s"):
        return f"{value:,.0f} /s"
    if not name.endswith("_s"):
        return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
    value = float(f"{value:.3g}")
    for unit, least in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= least:
            return f"{value / least:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns" if value else "0"
