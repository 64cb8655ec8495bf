"""Measured points against the fit, as one picture or one page that needs nothing else. Needs matplotlib (the extra `profile`)."""

from base64 import b64encode
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

from .conclude import Result

__all__ = ["draw", "plain"]


def plain(path: Path) -> bool:
    """Whether a path asks for what can be drawn."""
    return path.suffix in (".html", ".png")


def draw(result: Result, title: str, path: Path) -> None:
    """Write a .png, or a .html with the picture inside."""
    picture = _png(result, title)
    if path.suffix == ".png":
        path.write_bytes(picture)
        return
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<body style="font-family:sans-serif;max-width:1100px;margin:2em auto"><h1>{escape(title)}</h1>'
        f'<img style="max-width:100%" alt="measured against fitted" src="data:image/png;base64,{b64encode(picture).decode()}">'
        f"<pre>{escape(result.comment)}</pre></body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _png(result: Result, title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.5), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(2, 2)
    _prefills(panels[0, 0], result)
    _steps(panels[0, 1], result)
    _compared(panels[1, 0], "time to first token, ms", [(p.predicted * 1e3, p.measured * 1e3) for p in result.judged.ttft])
    _compared(panels[1, 1], "time per token, ms", [(p.predicted * 1e3, p.measured * 1e3) for p in result.judged.tpot])
    kept = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(kept, format="png")
    return kept.getvalue()


def _prefills(panel: Any, result: Result) -> None:
    engine = result.engine
    lone, stalls = result.points.lone, result.points.stalls
    alone = [(p.seconds - p.steps * p.step_s) * 1e3 for p in stalls]
    panel.plot([p.tokens for p in lone], [p.seconds * 1e3 for p in lone], "o", ms=4, alpha=0.5, label="a lone prompt to its first token")
    panel.plot([p.tokens for p in stalls], alone, "x", ms=5, alpha=0.6, label="what a prompt took from a sequence that decoded")
    at = sorted({p.tokens for p in lone} | {p.tokens for p in stalls})
    busy = [-(-n // engine.prefill_batch_tokens) * engine.prefill_fixed_s + n / engine.prefill_tokens_per_s for n in at]
    panel.plot(at, [(s + engine.overhead_s) * 1e3 for s in busy], "-", color="tab:blue", label="fitted, with what passes beside")
    panel.plot(at, [s * 1e3 for s in busy], "--", color="tab:orange", label="fitted, the engine alone")
    panel.set(xscale="log", yscale="log", xlabel="tokens of the prompt", ylabel="ms", title="prefill")
    panel.legend(fontsize=8)


def _steps(panel: Any, result: Result) -> None:
    points, found = result.points.steps, result.constants
    for key in dict.fromkeys(p.key for p in points):
        mine = [p for p in points if p.key == key]
        fitted = found.step_s(mine[0].n, sum(p.context for p in mine) / len(mine))
        (line,) = panel.plot([p.n for p in mine], [p.seconds * 1e3 for p in mine], "o", ms=4, alpha=0.5, label=key.partition(" ")[2])
        panel.plot([mine[0].n], [fitted * 1e3], "_", ms=22, color=line.get_color())
    panel.set(xscale="log", yscale="log", xlabel="sequences together", ylabel="ms", title="a decode step; bars are fitted")
    panel.legend(fontsize=8, title="sequences x prompt")


def _compared(panel: Any, what: str, pairs: list[tuple[float, float]]) -> None:
    """Predicted against measured, with the line where they are the same."""
    panel.set(xlabel="measured", ylabel="predicted", title=f"mixes that were not fitted: {what}")
    if not pairs:
        return
    low, high = min(map(min, pairs)), max(map(max, pairs))
    panel.plot([measured for _, measured in pairs], [predicted for predicted, _ in pairs], "o", ms=4, alpha=0.5)
    panel.plot([low, high], [low, high], "-", color="gray", lw=1)
    panel.set(xscale="log", yscale="log")
