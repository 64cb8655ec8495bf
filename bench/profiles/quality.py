"""Quality per task, from published scores.

Facts · Qwen's report on Qwen3 scores its own ladder, six sizes of Qwen2.5 and Llama 3.1 8B on the same 21 benchmarks, in its own hands
and without thinking. So those stand on one scale: `REPORT` says which benchmarks stand for which task, as a share of full marks, averaged.

Plan · A model that the report lacks (Qwen2.5 0.5B; Llama 1B, 3B and 70B) is bridged from a neighbour that it has: another source scored
both on a like benchmark, and the difference of their log-odds there is added to the neighbour's score here. How far off that is, is
measured where the answer is known: every size of Qwen2.5 bridged from the third above it (`bridge_error`). OPT is from another world,
base models without instruction: what stands for its tasks is said in OPT.

DIR/quality holds model_quality.csv, which is not in this repository; each of its rows names where it was copied from.
"""

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bestserve.profiles import TASKS
from measured import read
from shapes import LADDERS, Model

VECTARA = "Vectara summarisation factual consistency (README 2025-06)"
IFEVAL = "IFEval strict prompt"
FULL = {"AlignBench v1.1": 10.0, "WritingBench": 10.0}  # full marks, where they are not 100
REPORT_FAMILIES = ("Qwen3 (non-thinking)", "ref-in-Qwen3-report", "Qwen3", "Qwen2.5-Instruct", "Llama")  # the last three: Vectara's


@dataclass(frozen=True, slots=True)
class Judged:
    """Which benchmarks stand for a task, and why, where they do so by assumption."""

    benchmarks: tuple[str, ...]
    why: str = ""

    @property
    def how(self) -> str:
        return "assumed" if self.why else "published"


REPORT = {
    "code": Judged(("LiveCodeBench v5",)),
    "math": Judged(("MATH-500",)),
    "qa": Judged(("MMLU-Redux", "GPQA-Diamond")),
    "extract": Judged(("BFCL v3",), "no extraction score for all sizes; arguments found in a text"),
    "summ": Judged((VECTARA, IFEVAL), "consistency alone is the same for all sizes"),
    "rewrite": Judged((IFEVAL,)),
    "translate": Judged(("INCLUDE", "MMMLU 14 languages"), "no translation score for all sizes; languages known"),
    "write": Judged(("Creative Writing v3", "WritingBench")),
    "classify": Judged(("MMLU-Redux",), "no classification score for all sizes; choice among labels"),
    "chat": Judged(("Arena-Hard", "AlignBench v1.1")),
}
LIVE = "LiveBench 0831"
OPT = {
    "qa": Judged(("sciq", "arc_easy", "arc_challenge")),
    "classify": Judged(("winogrande", "wsc", "piqa"), "choice among labels"),
    "extract": Judged(("lambada_openai",), "a word that the passage holds"),
    **dict.fromkeys(("summ", "rewrite", "translate", "write", "chat"), Judged(("lambada_openai", "piqa"), "the next word, common sense")),
}
OPT_HARDLY = {"opt-125m": 0.01, "opt-1.3b": 0.02, "opt-6.7b": 0.03}  # code and mathematics: assumed


@dataclass(frozen=True, slots=True)
class Bridge:
    """From a neighbour that the report has to a model that it lacks: the like benchmark of each of the report's."""

    anchor: str
    families: tuple[str, ...]  # whose rows score both
    names: tuple[str, str]  # of the anchor and of the model in those rows
    like: Mapping[str, str]


BLOG = {
    "LiveCodeBench v5": "LiveCodeBench 2305-2409",
    "MATH-500": "MATH",
    "MMLU-Redux": "MMLU-redux",
    "GPQA-Diamond": "GPQA",
    IFEVAL: "IFeval strict-prompt",
    **dict.fromkeys(
        ("BFCL v3", "INCLUDE", "MMMLU 14 languages", "Creative Writing v3", "WritingBench", "Arena-Hard", "AlignBench v1.1"), LIVE
    ),
}
CARD = {
    "LiveCodeBench v5": "MATH (CoT)",
    "MATH-500": "MATH (CoT)",
    "MMLU-Redux": "MMLU",
    "GPQA-Diamond": "GPQA",
    "BFCL v3": "BFCL V2",
    **dict.fromkeys(("INCLUDE", "MMMLU 14 languages"), "MGSM (CoT)"),
    **dict.fromkeys((IFEVAL, "Creative Writing v3", "WritingBench", "Arena-Hard", "AlignBench v1.1"), "IFEval"),
}
_EIGHT = "Llama-3.1-8B-Instruct"
BRIDGES = {
    "Qwen2.5-0.5B-Instruct": Bridge(
        "Qwen2.5-1.5B-Instruct", ("Qwen2.5-Instruct",), ("Qwen2.5-1.5B-Instruct", "Qwen2.5-0.5B-Instruct"), BLOG
    ),
    "Llama-3.2-1B-Instruct": Bridge(_EIGHT, ("Llama-3.x-Instruct",), (_EIGHT, "Llama-3.2-1B-Instruct"), CARD),
    "Llama-3.2-3B-Instruct": Bridge(_EIGHT, ("Llama-3.x-Instruct",), (_EIGHT, "Llama-3.2-3B-Instruct"), CARD),
    "Llama-3.1-70B-Instruct": Bridge(
        _EIGHT,
        ("Llama-3.1-Instruct",),
        ("Llama3.1-8B-Instruct", "Llama-3.1-70B-Instruct"),
        {**BLOG, **dict.fromkeys(("Arena-Hard", "AlignBench v1.1"), "Arena-Hard")},
    ),
}


@dataclass(frozen=True, slots=True)
class Score:
    """One number of a profile, and where it comes from."""

    value: float
    source: str
    how: str
    error: float | None = None


class Scores:
    """The published scores, and the qualities made of them."""

    def __init__(self, data: Path) -> None:
        self._rows = read(data / "quality" / "model_quality.csv")

    @cached_property
    def _found(self) -> dict[tuple[str, str, str], tuple[float, str]]:
        """(family, model, benchmark) -> share of full marks, source."""
        return {
            (row["family"], row["model"], row["benchmark"]): (float(row["score"]) / FULL.get(row["benchmark"], 100.0), row["source"])
            for row in self._rows
        }

    def _score(self, families: tuple[str, ...], model: str, benchmark: str) -> tuple[float, str] | None:
        return next((found for family in families if (found := self._found.get((family, model, benchmark)))), None)

    def quality(self, model: Model) -> dict[str, Score]:
        """Task -> quality, over TASKS."""
        name = model.hub.partition("/")[2]
        if model.family == "opt":
            return {task: self._opt(name, task) for task in TASKS}
        return {task: self._in_report(name, task) for task in TASKS}

    def thinking(self, model: Model) -> dict[str, Score]:
        """Task -> quality after thinking, where the report has it: Qwen3, and not summaries, which are half Vectara's."""
        if model.family != "qwen3":
            return {}
        name, families = model.hub.partition("/")[2], ("Qwen3 (thinking)",)
        return {task: self._mean(name, families, judged, judged.how) for task, judged in REPORT.items() if task != "summ"}

    def _in_report(self, name: str, task: str) -> Score:
        judged = REPORT[task]
        if name not in BRIDGES:
            return self._mean(name, REPORT_FAMILIES, judged, judged.how)
        bridge = BRIDGES[name]
        parts = [self._score(REPORT_FAMILIES, name, VECTARA) if b == VECTARA else self._bridged(bridge, b) for b in judged.benchmarks]
        like = sorted({bridge.like[b] for b in judged.benchmarks if b != VECTARA})
        source = f"{_sources(parts)}, {' and '.join(like)}, on top of {bridge.anchor}'s quality, which see"
        return Score(_fmean(parts), source, "interpolated", self.bridge_error(task))

    def _mean(self, name: str, families: tuple[str, ...], judged: Judged, how: str) -> Score:
        parts = [self._score(families, name, benchmark) for benchmark in judged.benchmarks]
        why = f" ({judged.why})" if judged.why else ""
        return Score(_fmean(parts), f"{_sources(parts)}, {' and '.join(map(_short, judged.benchmarks))}{why}", how)

    def _bridged(self, bridge: Bridge, benchmark: str) -> tuple[float, str] | None:
        here = self._score(REPORT_FAMILIES, bridge.anchor, benchmark)
        there = [self._score(bridge.families, name, bridge.like[benchmark]) for name in bridge.names]
        if here is None or there[0] is None or there[1] is None:
            return None
        return _expit(_logit(here[0]) + _logit(there[1][0]) - _logit(there[0][0])), there[1][1]

    def _opt(self, name: str, task: str) -> Score:
        if task not in OPT:
            return Score(OPT_HARDLY[name], "a base model of 2022; no score of it is at hand", "assumed")
        return self._mean(name, ("OPT (0-shot lm-eval)",), OPT[task], OPT[task].how)

    def bridge_error(self, task: str) -> float | None:
        """Relative error of a bridge, root mean square over the sizes of Qwen2.5 that the report has, each from the third above it, some
        nine times as large. None where both sources publish the very score."""
        names = [m.hub.partition("/")[2] for m in LADDERS if m.family == "qwen2.5"][1:]
        error = math.sqrt(statistics.fmean(error**2 for error in self._bridge_errors(names, task)))
        return error if error >= 0.005 else None

    def _bridge_errors(self, names: list[str], task: str) -> Iterator[float]:
        benchmarks = [b for b in REPORT[task].benchmarks if b != VECTARA]
        for name, anchor in zip(names, names[3:], strict=False):
            bridge = Bridge(anchor, ("Qwen2.5-Instruct",), (anchor, name), BLOG)
            parts = [self._bridged(bridge, benchmark) for benchmark in benchmarks]
            known = [self._score(REPORT_FAMILIES, name, benchmark) for benchmark in benchmarks]
            yield _fmean(parts) / _fmean(known) - 1


def _fmean(parts: list[tuple[float, str] | None]) -> float:
    return statistics.fmean(part[0] for part in parts if part is not None)


def _sources(parts: list[tuple[float, str] | None]) -> str:
    return "; ".join(dict.fromkeys(part[1] for part in parts if part is not None))


def _short(benchmark: str) -> str:
    return "factual consistency" if benchmark == VECTARA else benchmark


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
