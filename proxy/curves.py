"""The curves of a training on one page that needs nothing else. Needs matplotlib (the extra `report`)."""

from collections.abc import Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from bestserve.policy.checkpoint import PARAMETERS

from . import files
from .report import STYLE

PANELS = (
    ("critic", "number", ("error", "error_predicted"), "Squared error of what a request earns, on decisions not learnt from"),
    ("search", "iteration", ("reward",), "Mean reward of each iteration's scenes (fresh ones each time)"),
    ("search", "iteration", ("noise",), "Spread of the differences between opposite policies, as a share of the reward"),
    ("search", "iteration", ("moved",), "How far the actor's layer has moved"),
    ("search", "iteration", PARAMETERS, "The prior's parameters"),
)


def draw(path: Path, log: Sequence[dict[str, Any]]) -> None:
    """Write the page of a log so far, in one move."""
    page = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Training</title><style>{STYLE}</style><body><h1>Training</h1>']
    for kind, x, ys, title in PANELS:
        lines = [line for line in log if line["kind"] == kind]
        if lines:
            page += [f"<h2>{escape(title)}</h2>", _panel([line[x] for line in lines], {y: [line[y] for line in lines] for y in ys})]
    files.write(path, ("\n".join(page) + "\n</body></html>\n").encode(), lasting=False)


def _panel(x: list[float], ys: dict[str, list[float]]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    axes = figure.subplots()
    for name, values in ys.items():
        axes.plot(x, values, marker=".", label=name)
    axes.legend(frameon=False)
    axes.grid(visible=True, alpha=0.3)
    into = StringIO()
    figure.savefig(into, format="svg")
    text = into.getvalue()
    return text[text.index("<svg") :]
