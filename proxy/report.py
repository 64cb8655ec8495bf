"""`bestserve evaluate --report`: one page with plots that needs nothing else. Needs matplotlib (the extra `report`)."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from bestserve.policy.summary import WINDOW_S

from .contest import Played

__all__ = ["write"]

STYLE = (
    "body{font-family:sans-serif;max-width:1150px;margin:2em auto;color:#222}svg{max-width:100%;height:auto}table{border-collapse:collapse}\
td,th{padding:.2em .8em;text-align:right}td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f4f4f4}"
)
COLUMNS = (
    ("reward", "reward", "{:.4f}"),
    ("of bound", "of_bound", "{:.1%}"),
    ("quality", "quality", "{:.4f}"),
    ("on time", "on_time", "{:.1%}"),
    ("shed", "shed", "{:.1%}"),
    ("windows ≥ 96 %", "windows_96", "{:.0%}"),
    ("windows ≥ 98 %", "windows_98", "{:.0%}"),
)
WIDE, TALL = 11.0, 4.2  # inches


def write(path: Path, said: dict[str, Any], played: Sequence[Played], title: str) -> None:
    """Write the page of what `contest.together` said, with what is drawn of each match."""
    page = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style><body>']
    page += [f"<h1>{escape(title)}</h1>", *_tables(said)]
    for heading, note, picture in _plots(said, played):
        page += [f"<h2>{escape(heading)}</h2><p>{escape(note)}</p>", picture]
    path.write_text("\n".join(page) + "\n</body></html>\n", encoding="utf-8")


def _tables(said: dict[str, Any]) -> Iterator[str]:
    for workload in said["workloads"]:
        bound = workload["bounds"]
        yield f"<h2>{escape(workload['workload'])}</h2><p>{workload['rate']:.1f} requests a second. No policy earns more than "
        yield f"{bound['clairvoyant']:.4f} (clairvoyant), {bound['fluid']:.4f} (fluid) a request.</p><table><tr><th>policy</th>"
        yield "".join(f"<th>{escape(label)}</th>" for label, _, _ in COLUMNS) + "</tr>"
        for line in sorted(_of(said, workload["workload"]), key=lambda line: -line["reward"]):
            cells = "".join(f"<td>{form.format(line[key])}</td>" for _, key, form in COLUMNS)
            yield f"<tr><td>{escape(line['policy'])}</td>{cells}</tr>"
        yield "</table>"


def _plots(said: dict[str, Any], played: Sequence[Played]) -> Iterator[tuple[str, str, str]]:
    yield "Availability against rate", "Share of requests on time; a point is a workload, a bar its 95 % interval.", _rates(said, "on_time")
    yield "Quality against rate", "Mean quality served on time; the dashes are the clairvoyant bound.", _rates(said, "quality")
    yield "Regret to the bound", "Share of the clairvoyant bound's reward that was not earned.", _regret(said)
    first = min(each.match.seed for each in played)
    for workload in said["workloads"]:
        mine = [each for each in played if each.match.course.workload == workload["workload"] and each.curves]
        once = [each for each in mine if each.match.seed == first]
        yield f"Windows: {workload['workload']}", "Share of 10 s windows above each fraction of peak quality, all seeds.", _windows(mine)
        yield f"Use over time: {workload['workload']}", "Requests a second given to each backend and budget, first seed.", _use(once)
        yield f"Calibration: {workload['workload']}", "Predicted against measured, first seed, 400 requests at most.", _calibration(once)


def _rates(said: dict[str, Any], key: str) -> str:
    """A figure against the rate of each workload."""
    rates = {workload["workload"]: workload["rate"] for workload in said["workloads"]}

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        for policy in _policies(said):
            lines = sorted((line for line in said["results"] if line["policy"] == policy), key=lambda line: rates[line["workload"]])
            x, y = [rates[line["workload"]] for line in lines], [line[key] for line in lines]
            reach = [(i[1] - i[0]) / 2 if (i := line["interval95"][key]) else 0.0 for line in lines]
            panel.errorbar(x, y, yerr=reach, marker="o", ms=4, capsize=2, label=policy)
        if key == "quality":
            bound = sorted((rates[w["workload"]], w["bounds"]["clairvoyant"]) for w in said["workloads"])
            panel.plot(*zip(*bound, strict=True), "k--", lw=1, label="bound")
        panel.set(xlabel="requests a second", ylabel=key.replace("_", " "), xscale="log", ylim=(0, None))
        _legend(panel)

    return _svg(draw, f"rates {key}")


def _regret(said: dict[str, Any]) -> str:
    policies, workloads = _policies(said), said["workloads"]

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        for p, policy in enumerate(policies):
            found = {line["workload"]: 1.0 - line["of_bound"] for line in said["results"] if line["policy"] == policy}
            at = np.arange(len(workloads)) + (p + 0.5) / len(policies) * 0.8 - 0.4
            panel.bar(at, [found[w["workload"]] for w in workloads], 0.8 / len(policies), label=policy)
        panel.set_xticks(range(len(workloads)), [Path(w["workload"]).name for w in workloads], rotation=15)
        panel.set(ylabel="regret")
        _legend(panel)

    return _svg(draw, "regret")


def _windows(mine: Sequence[Played]) -> str:
    def draw(figure: Any) -> None:
        panel = figure.subplots()
        for policy in dict.fromkeys(each.match.policy for each in mine):
            found = [each.curves.windows for each in mine if each.match.policy == policy and each.curves]
            values = np.sort(np.concatenate(found))
            panel.step(values, 1.0 - np.arange(len(values)) / len(values), where="pre", label=policy)
        for level in (0.96, 0.98):
            panel.axvline(level, color="gray", lw=0.7, ls=":")
        panel.set(xlabel="quality served / peak", ylabel="share of windows at least there", xlim=(0, 1.05), ylim=(0, 1.02))
        _legend(panel)

    return _svg(draw, f"windows {_name(mine)}")


def _use(once: Sequence[Played]) -> str:
    def draw(figure: Any) -> None:
        for panel, each in zip(_panels(figure, len(once)), once, strict=False):
            assert each.curves is not None
            used = sorted(each.curves.actions.items(), key=lambda item: -item[1].sum())
            at = np.arange(len(used[0][1])) * WINDOW_S
            panel.stackplot(at, [rate for _, rate in used], labels=[name for name, _ in used], colors=_colors(len(used)))
            panel.set_title(each.match.policy, fontsize=9)
            panel.set(xlabel="s", ylabel="requests a second")
            _legend(panel)

    return _svg(draw, f"use {_name(once)}", rows=(len(once) + 1) // 2)


def _calibration(once: Sequence[Played]) -> str:
    def draw(figure: Any) -> None:
        for panel, what in zip(figure.subplots(1, 2), ("ttft", "tpot"), strict=True):
            for each in once:
                pairs = getattr(each.curves, what)
                panel.plot(pairs[:, 1] * 1e3, pairs[:, 0] * 1e3, "o", ms=2, alpha=0.4, label=each.match.policy)
            there = np.concatenate([getattr(each.curves, what) for each in once]) * 1e3
            if len(there):
                reach = there.min(), there.max()
                panel.plot(reach, reach, "-", color="gray", lw=1)
            panel.set(xscale="log", yscale="log", xlabel=f"measured {what}, ms", ylabel=f"predicted {what}, ms")
            _legend(panel)

    return _svg(draw, f"calibration {_name(once)}")


def _panels(figure: Any, n: int) -> list[Any]:
    """Two in a row; the last one is hidden where it is not used."""
    panels = list(figure.subplots((n + 1) // 2, 2, squeeze=False).reshape(-1))
    for panel in panels[n:]:
        panel.set_visible(False)
    return panels


def _svg(draw: Callable[[Any], None], salt: str, rows: int = 1) -> str:
    """A picture as the element that stands in the page; its ids are its own."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(WIDE, TALL * max(rows, 1)), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        kept = StringIO()
        figure.savefig(kept, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = kept.getvalue()
    return text[text.index("<svg") :]


def _legend(panel: Any) -> None:
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=7, loc="best")


def _colors(n: int) -> list[Any]:
    from matplotlib import colormaps

    shades = colormaps["tab20"]
    return [shades(i % 20) for i in range(n)]


def _policies(said: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(line["policy"] for line in said["results"]))


def _of(said: dict[str, Any], workload: str) -> list[dict[str, Any]]:
    return [line for line in said["results"] if line["workload"] == workload]


def _name(some: Sequence[Played]) -> str:
    return some[0].match.course.workload if some else ""
