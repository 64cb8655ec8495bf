"""From runs to a result: constants with errors, what they predict of the mixes, and what the profile will say. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bestserve.profiles import Source
from bestserve.profiles.schema import Engine
from bestserve.proxy.dialects.sglang import Limits

from . import fit, limits
from .fit import Constants, Estimate
from .judge import Judged, judge
from .points import Points, gather
from .refuse import foreign, refuse_failures, refuse_too_few, refuse_unmoved
from .runs import Header, Run

__all__ = ["Result", "conclude"]

Number = tuple[float, Source]


@dataclass(frozen=True, slots=True)
class Result:
    """What was found out."""

    engine: Engine
    numbers: dict[str, Number]  # every constant and limit, with its source
    estimates: dict[str, Estimate]
    constants: Constants
    points: Points
    judged: Judged
    warnings: list[str]
    runs: int
    seconds: float
    comment: str


def conclude(header: Header, runs: Sequence[Run], told: Mapping[str, int], *, command: str, today: str) -> Result:
    """Raises CannotMeasure when the runs show nothing that could be believed."""
    said = Limits(**header.told)
    warnings = [warning] if (warning := foreign(runs)) else []
    refuse_failures(runs)
    points = gather(runs)
    refuse_too_few(points)
    numbers = limits.numbers(said, told, runs)
    batch_tokens = int(numbers["prefill_batch_tokens"][0])
    found = fit.constants(points, batch_tokens)
    refuse_unmoved(points, found)
    estimates = fit.estimate(points, batch_tokens)
    source = f"bestserve profile on {today}, " + (f"SGLang {said.version}" if said.version else "a backend that does not say its version")
    numbers = {**{name: (e.value, Source(source, "measured", e.error)) for name, e in estimates.items()}, **numbers}
    engine = limits.engine_of({name: value for name, (value, _) in numbers.items()})
    judged = judge(runs, engine)
    warnings += _loose(estimates) + _doubts(said, runs, points, judged)
    comment = _comment(header, runs, judged, warnings, command, today)
    return Result(engine, numbers, estimates, found, points, judged, warnings, len(runs), sum(r.took_s for r in runs), comment)


LOOSE = 0.2
"""Relative error from which on a machine was hardly at rest."""


def _loose(estimates: Mapping[str, Estimate]) -> list[str]:
    """What is told when the constants that matter most are hardly known."""
    errors = {name: estimates[name].error or 0.0 for name in ("prefill_tokens_per_s", "step_fixed_s") if name in estimates}
    loose = [f"{name} to {error:.0%}" for name, error in errors.items() if error > LOOSE]
    return [f"known only roughly, {' and '.join(loose)}: something else used the machine, or the time was short"] if loose else []


def _doubts(said: Limits, runs: Sequence[Run], points: Points, judged: Judged) -> list[str]:
    """What a reader should know."""
    doubts = []
    if failed := [run for run in runs if run.failed is not None]:
        doubts.append(f"{len(failed)} of {len(runs)} runs failed and are left out; the last one, {failed[-1].key}: {failed[-1].failed}")
    if not judged.ttft:
        doubts.append("no mix was played: nothing is known of how well this predicts")
    if points.remembered and said.remembers is False:
        doubts.append("its prefix cache is off: a beginning that was read before costs as much as any other")
    if not points.remembered:
        doubts.append("the cost of a remembered prefix was not measured")
    longest = max(p.tokens for p in points.lone)
    doubts.append(
        f"prompts of up to {longest} tokens were measured, and contexts of up to {_longest_context(points):.0f} tokens a sequence"
    )
    return doubts


def _longest_context(points: Points) -> float:
    return max(p.context / p.n for p in points.steps)


def _plays(runs: Sequence[Run]) -> str:
    """How often the mixes were played."""
    played = Counter(run.key for run in runs if run.kind == "mix" and run.failed is None and not run.foreign).values()
    often = f"{min(played)} to {max(played)}" if len(set(played)) > 1 else str(max(played))
    return f"{often} play" + "s" * (max(played) > 1)


def _comment(header: Header, runs: Sequence[Run], judged: Judged, warnings: Sequence[str], command: str, today: str) -> str:
    kinds = Counter(run.kind for run in runs if run.failed is None)
    told = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    version = f"SGLang {header.told['version']}" if header.told.get("version") else "a backend that does not say its version"
    lines = [
        f"Measured on {today} with: {command}",
        f"{version}, asked for {header.way}; {len(runs)} runs in {sum(run.took_s for run in runs):.0f} s ({told}).",
        *(f"Note: {warning}." for warning in warnings),
    ]
    if summary := judged.summary():
        lines.append(f"Predicted against measured on mixes that were not fitted, means of {_plays(runs)}, relative error:")
        for name, mix in summary.items():
            lines.append(f"    {name:<10} median {mix.median:6.1%}   p90 {mix.p90:6.1%}   bias {mix.bias:+6.1%}   ({mix.n} compared)")
    lines.append("`error` is one sigma, relative: of noise, and of which sizes were measured; docs/profiling.md says how.")
    return "\n".join(lines)
