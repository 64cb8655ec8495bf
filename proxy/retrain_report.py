"""What a retrain found, in tables on a terminal, and on one page with plots that needs nothing else (matplotlib, the extra `report`)."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from . import files
from .report import STYLE

Said = dict[str, Any]
SAYS = {True: "passed", False: "failed", None: "no say"}


def show(said: Said) -> None:
    """On the terminal, or in a pipe."""
    console = Console(width=None if sys.stdout.isatty() else 140, emoji=False)
    for line in _head(said):
        console.print(line, highlight=False)
    for title, columns, rows in _tables(said):
        table = Table(*columns, box=box.SIMPLE, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in _end(said):
        console.print(line, highlight=False)


def write(path: Path, said: Said) -> None:
    """The page, in one move."""
    title = f"Retrain: {said['verdict']['decision']}"
    page = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style><body>']
    page += [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in (*_end(said), *_head(said)))]
    for heading, draw, rows in PLOTS:
        if rows(said):
            page += [f"<h2>{escape(heading)}</h2>", _svg(draw, said)]
    for heading, columns, lines in _tables(said):
        page += [f"<h2>{escape(heading)}</h2><table><tr>", *(f"<th>{escape(column)}</th>" for column in columns), "</tr>"]
        page += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines]
        page.append("</table>")
    files.write(path, ("\n".join(page) + "\n</body></html>\n").encode(), lasting=False)


def _head(said: Said) -> Iterator[str]:
    yield f"{said['attempts']:,} attempts from {said['span'][0]} to {said['span'][1]}, {said['scores']:,} of them scored"
    yield f"what decides now: {said['incumbent']}"
    yield f"encoded again: {said['mismatches']} mismatches, {said['unknown']} of older schemas; {said['problems']} lines could not be read"


def _end(said: Said) -> Iterator[str]:
    yield f"{said['verdict']['decision']}: {said['verdict']['why']}"
    if said["published"]:
        yield f"published as {said['published']}"
    elif said["dry_run"]:
        yield "nothing was published (--dry-run)"


def _tables(said: Said) -> Iterator[tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]]:
    yield (
        "What the log says of the backends",
        ("backend", "what", "believed", "calibrated", "95 %", "answers"),
        map(_calibrated, said["calibration"]),
    )
    yield (
        "Answers that budgets cut",
        ("backend", "budget", "answers", "observed", "believed", "calibrated"),
        map(_cut, said["truncation"]),
    )
    yield "Tests", ("test", "", "needs", "said"), map(_test, said["verdict"]["tests"])


def _test(test: Said) -> tuple[str, ...]:
    return test["name"], SAYS[test["passed"]], test["needs"] or "nothing", test["why"]


def _calibrated(row: Said) -> tuple[str, ...]:
    values = (f"{row['profile']:.4g}", f"{row['calibrated']:.4g}", f"{row['low']:.4g} to {row['high']:.4g}", f"{row['answers']:,}")
    return row["backend"], row["what"], *values


def _cut(row: Said) -> tuple[str, ...]:
    return row["backend"], row["budget"], f"{row['answers']:,}", *(f"{row[key]:.1%}" for key in ("observed", "profile", "calibrated"))


# --- plots ------------------------------------------------------------------------------------------------------------


def _gains(said: Said) -> list[Said]:
    names = ("doubly robust, one step", "doubly robust, all weights", "SNIPS", "fitted Q", "duel in the calibrated simulator")
    return [test for test in said["verdict"]["tests"] if test["name"] in names]


def _rows(said: Said, prefix: str) -> list[Said]:
    return [row for row in said["calibration"] if row["what"].startswith(prefix)]


def _constants(said: Said) -> list[Said]:
    return [row for row in said["calibration"] if "." not in row["what"]]


def _draw_gains(axes: Any, said: Said) -> None:
    tests = _gains(said)
    for i, test in enumerate(tests):
        axes.plot([100 * test["low"], 100 * test["high"]], [i, i], lw=3, color="C0" if test["needs"] else "C7")
        axes.plot(100 * test["value"], i, "o", color="C0" if test["needs"] else "C7")
    axes.axvline(0.0, color="gray", lw=1)
    axes.set(yticks=range(len(tests)), yticklabels=[test["name"] for test in tests], xlabel="gain of the challenger, %")


def _draw_constants(axes: Any, said: Said) -> None:
    rows = [row for row in _constants(said) if row["profile"] > 0]
    for i, row in enumerate(rows):
        axes.plot([row["low"] / row["profile"], row["high"] / row["profile"]], [i, i], lw=3)
        axes.plot(row["calibrated"] / row["profile"], i, "ko", ms=3)
    axes.axvline(1.0, color="gray", lw=1)
    labels = [f"{row['backend']} {row['what']}" for row in rows]
    axes.set(yticks=range(len(rows)), yticklabels=labels, xlabel="times what was believed", xscale="log")


def _draw_pairs(prefix: str, unit: str) -> Callable[[Any, Said], None]:
    def draw(axes: Any, said: Said) -> None:
        rows = _rows(said, prefix)
        for backend in dict.fromkeys(row["backend"] for row in rows):
            mine = [row for row in rows if row["backend"] == backend]
            x, y = [row["profile"] for row in mine], [row["calibrated"] for row in mine]
            error = [[row["calibrated"] - row["low"] for row in mine], [row["high"] - row["calibrated"] for row in mine]]
            axes.errorbar(x, y, yerr=error, fmt="o", ms=4, label=backend)
        reach = axes.get_xlim()
        axes.plot(reach, reach, color="gray", lw=1)
        axes.set(xlabel=f"believed {unit}", ylabel="calibrated")
        axes.legend(frameon=False)

    return draw


PLOTS: Sequence[tuple[str, Callable[[Any, Said], None], Callable[[Said], list[Said]]]] = (
    ("Gain of the challenger, by who judges", _draw_gains, _gains),
    ("Engine constants beside what was believed", _draw_constants, _constants),
    ("Quality by task", _draw_pairs("quality.", "quality"), lambda said: _rows(said, "quality.")),
    (
        "Length of answers beside what is foreseen, log of a factor",
        _draw_pairs("longer.", "log of a factor"),
        lambda said: _rows(said, "longer."),
    ),
)


def _svg(draw: Callable[[Any, Said], None], said: Said) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9.0, 4.0), layout="constrained")
        draw(figure.subplots(), said)
        into = StringIO()
        figure.savefig(into, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = into.getvalue()
    return text[text.index("<svg") :]
