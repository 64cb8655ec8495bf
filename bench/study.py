"""What the learned policy is worth, question by question, on one fleet.

    bestserve tune --fleet bench/fleets/qwen3.yaml --workload poisson:20 --workload poisson:60 --workload poisson:110 --out tuned.json
    python bench/study.py --fleet bench/fleets/qwen3.yaml --tuned tuned.json

Every policy meets the same requests; seeds begin at 1000, where tuning and training do not come. A heuristic is played untuned and tuned,
and the better one counts; "best heuristic" is the best of all of them, chosen for each workload by what is printed, which favours it.
Ratios are of means over seeds, with the 95 % interval of the seeds' own ratios (Student's t).
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.stats import t as student

from bestserve.policy.facts import Backend
from bestserve.policy.learn.scenes import capacity, capacity_at
from bestserve.policy.scene import Places
from bestserve.proxy.config import environment
from bestserve.proxy.contest import Match, Played, contest
from bestserve.proxy.entrants import static_all
from bestserve.proxy.evaluating import read_tuned
from bestserve.proxy.fleet_file import Fleet, read
from bestserve.proxy.mishaps import Mishaps, mishaps_of
from bestserve.proxy.simulating import demand_of
from bestserve.proxy.workloads import Course, workload_of

HEURISTICS = ("bid-price", "deadline-greedy", "weighted-score", "least-loaded")
FIRST_SEED = 1000
SHARES = (0.06, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
TRACED = (0.25, 0.5, 1.0)
"""The same, of recorded traces."""

KNOWN = 0.99
"""Of the variance of the logarithm of lengths, where they are known: all but a hundredth."""

RANGES = ((0.01, 0.3), (0.05, 0.5), (0.05, 1.2))
"""Both of what the fleet can do at most, by its profiles; the second of arrivals that jump."""

WRONG = 2.0
"""Up to which factor an engine's constants are other than its profile says."""

MANY = 8
"""GPUs that a fleet is held against, as in the paper."""


@dataclass(frozen=True, slots=True)
class Case:
    """One workload, under one set of circumstances."""

    label: str
    workload: str
    mix: str | None = None
    rate_scale: float = 1.0
    known: bool = False  # every request's task and length are
    mishaps: Mishaps = Mishaps()  # noqa: RUF009  frozen


class Study:
    """Plays cases on one fleet."""

    def __init__(self, fleet: Fleet, tuned: Path | None, seeds: int, seconds: float, jobs: int) -> None:
        self.fleet, self.seconds, self.jobs = fleet, seconds, jobs
        self.tuned, self.seeds = read_tuned(tuned), range(FIRST_SEED, FIRST_SEED + seeds)

    def on(self, places: Places) -> "Study":
        """Of another fleet, for which nothing is tuned: the same seeds for as long."""
        return Study(replace(self.fleet, places=places), None, len(self.seeds), self.seconds, self.jobs)

    def rewards(self, cases: Sequence[Case], policies: Sequence[str | None], of: Callable[[Played], float]) -> dict[Any, np.ndarray]:
        """(case, policy) -> a number of each seed; a heuristic with its own parameters and with tuned ones."""
        keys = [(case, policy) for case in cases for policy in policies]
        entries = [(key, parameters) for key in keys for parameters in self._ways(key[1])]
        matches = [self._match(case, policy, parameters, seed) for (case, policy), parameters in entries for seed in self.seeds]
        with click.progressbar(length=len(matches), file=sys.stderr) as bar:
            found = np.array([of(played) for played in contest(matches, self.jobs, lambda: bar.update(1))]).reshape(len(entries), -1)
        best: dict[Any, np.ndarray] = {}
        for (key, _), values in zip(entries, found, strict=True):
            if key not in best or values.mean() > best[key].mean():
                best[key] = values
        return best

    def _ways(self, policy: str | None) -> list[tuple[float, ...] | None]:
        return [None, self.tuned[policy]] if policy in self.tuned else [None]

    def _match(self, case: Case, policy: str | None, parameters: tuple[float, ...] | None, seed: int) -> Match:
        seconds = None if Path(case.workload).exists() else self.seconds
        course = Course(case.workload, seconds=seconds, rate_scale=case.rate_scale)
        demand = demand_of(self.fleet, case.mix)
        demand = replace(demand, insight=math.inf, foresight=KNOWN) if case.known else demand
        return Match(self.fleet, demand, course, seed, policy, parameters, case.mishaps)


def reward(played: Played) -> float:
    """Of a policy; of no policy, what a clairvoyant could get at most."""
    return played.bounds["clairvoyant"] if played.summary is None else played.summary.reward


def compared(study: Study, cases: Sequence[Case], policy: str, *, bounded: bool = True) -> list[dict[str, Any]]:
    """Each case: the policy against the best heuristic, the best static serving, and the bound, which takes longer than all others."""
    statics = [name for name in static_all(study.fleet.places) if name.endswith("@none")]
    found = study.rewards(cases, [policy, *HEURISTICS, *statics, *([None] if bounded else [])], reward)
    rows = []
    for case in cases:
        ours = found[case, policy]
        rule, static = (max(names, key=lambda name: found[case, name].mean()) for names in (HEURISTICS, statics))
        ratio, spread = against(ours, found[case, rule])
        rows.append(
            {
                "case": case.label,
                "reward": ours.mean(),
                "best heuristic": rule,
                "its reward": found[case, rule].mean(),
                "ratio": ratio,
                "±": spread,
                "best static": f"{found[case, static].mean():.3f} ({static.partition(':')[2]})",
                **({"of bound": (ours / found[case, None]).mean()} if bounded else {}),
            }
        )
    return rows


def against(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Ratio of means, and half of its 95 % interval over seeds."""
    ratios = ours / np.maximum(theirs, 1e-9)
    n = len(ratios)
    half = float(student.ppf(0.975, n - 1) * ratios.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return float(ours.mean() / max(theirs.mean(), 1e-9)), half


def beside(study: Study, cases: Sequence[Case], policy: str, rival: str) -> list[dict[str, Any]]:
    """Each case: the policy against another one, which may have been trained for this very fleet."""
    found = study.rewards(cases, [policy, rival], reward)
    rows = []
    for case in cases:
        ours, theirs = found[case, policy], found[case, rival]
        ratio, spread = against(ours, theirs)
        rows.append({"case": case.label, "reward": ours.mean(), "rival": theirs.mean(), "ratio": ratio, "±": spread})
    return rows


def reading(study: Study, policy: str) -> list[dict[str, Any]]:
    """The share of the bound on this fleet, and on one whose engines read prompts of the same tokens as fast whether alone or together.

    An engine begins to read a prompt as soon as it can, mostly one in a step of its own; the bound lets the prompts of some 8,192
    tokens share one step's fixed time, whenever they came.
    """
    places, most, rows = study.fleet.places, capacity(study.fleet.places, demand_of(study.fleet)), []
    free = study.on(replace(places, backends=tuple(map(unfixed, places.backends))))
    for share in SHARES:
        case = Case(f"{share:g} of capacity", f"poisson:{share * most:.3g}")
        shown: dict[str, Any] = {"case": case.label}
        for label, one in (("", study), (", no fixed time", free)):
            for known in (False, True):
                this = replace(case, known=known)
                found = one.rewards([this], [policy, None], reward)
                shown[f"{'all known, ' if known else ''}of bound{label}"] = (found[this, policy] / found[this, None]).mean()
        rows.append(shown)
    return rows


def unfixed(backend: Backend) -> Backend:
    """The same, reading each prompt in no more than its tokens' time."""
    engine = replace(backend.profile.engine, prefill_fixed_s=1e-9)
    return replace(backend, profile=replace(backend.profile, engine=engine))


def cases_of(study: Study, traces: Sequence[str]) -> list[Case]:
    """Everything that is asked of a fleet."""
    places, s = study.fleet.places, study.seconds
    most = capacity(places, demand_of(study.fleet))
    last = places.backends[-1].name
    down = mishaps_of(1.0, [f"{last}=down@{s * 0.3:.0f}-{s * 0.7:.0f}"], places)
    low, high = f"{0.05 * most:.3g}", f"{1.2 * most:.3g}"
    half = f"poisson:{0.5 * most:.3g}"
    return [
        *(Case(f"{share:g} of capacity", f"poisson:{share * most:.3g}") for share in SHARES),
        Case("unpredictable", f"unpredictable:{low}-{high}:15"),
        Case("bursts, CV 4", f"bursty:{0.4 * most:.3g}:4"),
        Case("arrivals shift", f"diurnal:{low}-{high}:{s:.0f}"),
        Case("mix shifts", half, mix="code=0.5,math=0.5:chat=0.5,extract=0.5"),
        Case(f"{last} dies", half, mishaps=down),
        *(of_trace(study, trace, share) for trace in traces for share in TRACED),
    ]


def of_trace(study: Study, trace: str, share: float) -> Case:
    """A recorded trace, played so fast that its mean rate is a share of what the fleet can do with requests of its mean size."""
    recorded = workload_of(Course(trace)).recorded
    if recorded is None:
        raise click.ClickException(f"{trace} is no trace")
    most = capacity_at(study.fleet.places, float(recorded.prompt.mean()), float(recorded.tokens.mean()))
    rate = len(recorded.at) / float(recorded.at[-1])
    return Case(f"{Path(trace).stem}, {share:g} of capacity", trace, rate_scale=share * most / rate)


def availability(study: Study, policy: str) -> float:
    """The largest rate of a geometric grid (steps of 15 %) with at least 95 % on time, over all seeds together."""
    rates = [capacity(study.fleet.places, demand_of(study.fleet)) * 2.0 * 1.15**-k for k in range(40)]
    low, high = -1, len(rates)  # on time at rates[high:], not at rates[: low + 1]
    while high - low > 1:
        middle = (low + high) // 2
        case = Case("", f"poisson:{rates[middle]:.4g}")
        found = study.rewards([case], [policy], lambda played: played.summary.on_time if played.summary else 0.0)
        low, high = (low, middle) if found[case, policy].mean() >= 0.95 else (middle, high)
    return rates[high] if high < len(rates) else 0.0


def windows(study: Study, policy: str) -> list[dict[str, Any]]:
    """Share of windows at 96 and 98 % of peak on unpredictable workloads, against the best static serving of each."""
    most, statics = capacity(study.fleet.places, demand_of(study.fleet)), static_all(study.fleet.places)
    rows = []
    for low, high in RANGES:
        case, row = Case("", f"unpredictable:{low * most:.3g}-{high * most:.3g}:15"), {"capacity": f"{low:g} to {high:g}"}
        for share in ("windows_96", "windows_98"):
            found = study.rewards([case], [policy, *statics], lambda played: getattr(played.summary, share))  # noqa: B023
            best = max(statics, key=lambda name: found[case, name].mean())
            ours, theirs = (found[case, name].mean() for name in (policy, best))
            row |= {share: ours, f"best static, {share[-2:]}": f"{theirs:.3f} ({best.partition(':')[2]})"}
            row[f"times, {share[-2:]}"] = ours / theirs if theirs else math.inf
        rows.append(row)
    return rows


def knowing(study: Study, policy: str) -> list[dict[str, Any]]:
    """What the policy would earn if it knew every request's task and length, which is part of what the bound knows."""
    most, rows = capacity(study.fleet.places, demand_of(study.fleet)), []
    for share in SHARES:
        usual = Case(f"{share:g} of capacity", f"poisson:{share * most:.3g}")
        told = replace(usual, known=True)
        found = study.rewards([usual, told], [policy, None], reward)
        ratio, spread = against(found[told, policy], found[usual, policy])
        rows.append(
            {
                "case": usual.label,
                "reward": found[usual, policy].mean(),
                "all known": found[told, policy].mean(),
                "ratio": ratio,
                "±": spread,
                "of bound": (found[usual, policy] / found[usual, None]).mean(),
                "all known, of bound": (found[told, policy] / found[told, None]).mean(),
            }
        )
    return rows


def truth(study: Study, policy: str) -> list[dict[str, Any]]:
    """Where engines are other than their profiles: what a policy makes of it untold, and what it and bid-price would if they were told."""
    most, rows = capacity(study.fleet.places, demand_of(study.fleet)), []
    for share in SHARES:
        untold, told = (
            Case(f"{share:g} of capacity", f"poisson:{share * most:.3g}", mishaps=Mishaps(WRONG, told=told)) for told in (False, True)
        )
        found = study.rewards([untold, told], [policy, "bid-price"], reward)
        theirs = found[untold, "bid-price"]
        ways = {"bid-price told": found[told, "bid-price"], "policy": found[untold, policy], "policy told": found[told, policy]}
        rows.append({"case": untold.label, "bid-price": theirs.mean(), **{way: against(values, theirs)[0] for way, values in ways.items()}})
    return rows


def per_gpu(study: Study, policy: str) -> list[dict[str, Any]]:
    """Quality on time for each GPU, beside that of MANY GPUs that all run the largest model, at the same arrivals."""
    places = study.fleet.places
    most, gpus = capacity(places, demand_of(study.fleet)), sum(backend.profile.n_gpus for backend in places.backends)
    large = max(places.backends, key=lambda backend: backend.profile.params_b)
    n = MANY // large.profile.n_gpus
    crowd = study.on(replace(places, backends=tuple(replace(large, name=f"large-{i + 1}") for i in range(n))))
    cases = [
        Case("unpredictable, 0.05 to 1.2", f"unpredictable:{0.05 * most:.3g}-{1.2 * most:.3g}:15"),
        *(Case(f"{share:g} of capacity", f"poisson:{share * most:.3g}") for share in SHARES[:-2]),
    ]
    static = "static-all:large@none"
    ours, theirs = (one.rewards(cases, [name], quality) for one, name in ((study, policy), (crowd, static)))
    rows = []
    for case in cases:
        each, their = ours[case, policy] / gpus, theirs[case, static] / MANY
        ratio, spread = against(each, their)
        rows.append({"case": case.label, "per GPU": each.mean(), f"{MANY} GPUs, large": their.mean(), "ratio": ratio, "±": spread})
    return rows


def quality(played: Played) -> float:
    """On time, mean over requests."""
    return played.summary.quality if played.summary else math.nan


def largest(study: Study) -> str:
    """All GPUs running the largest model."""
    sizes = {backend.name: backend.profile.params_b for backend in study.fleet.places.backends}
    return f"static-all:{max(sizes, key=lambda name: sizes[name])}@none"


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """As Markdown."""
    click.echo(f"\n{title}\n\n| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows:
        click.echo("| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """A table, and what it comes to."""
    table(title, rows)
    ratios, shares = [row["ratio"] for row in rows], [row["of bound"] for row in rows if "of bound" in row]
    click.echo(f"\nratio: mean {np.mean(ratios):.3f}, least {min(ratios):.3f}")
    if shares:
        click.echo(f"of bound: mean {np.mean(shares):.3f}")


def cases_part(study: Study, cases: Sequence[Case], policy: str) -> Any:
    """Every case, engines as their profiles."""
    rows = compared(study, cases, policy)
    show("profiles right", rows)
    return rows


def wrong_part(study: Study, cases: Sequence[Case], policy: str) -> Any:
    """Every case that has no trouble of its own, engines other than their profiles."""
    these = [replace(case, mishaps=Mishaps(WRONG)) for case in cases if not case.mishaps.troubles]
    rows = compared(study, these, policy, bounded=False)
    show(f"profiles wrong by up to {WRONG:g}", rows)
    return rows


def availability_part(study: Study, _cases: Sequence[Case], policy: str) -> Any:
    """The policy's, the largest model's, and bid-price's."""
    found = {name: availability(study, name) for name in (policy, largest(study), "bid-price")}
    click.echo(f"\nlargest rate with 95 % on time: {found}")
    return found


Part = Callable[[Study, Sequence[Case], str], Any]
"""(study, cases, policy) -> what is told, which it prints, too."""


def table_part(title: str, rows_of: Callable[[Study, str], list[dict[str, Any]]]) -> Part:
    """One that is a table."""

    def part(study: Study, _cases: Sequence[Case], policy: str) -> Any:
        rows = rows_of(study, policy)
        table(title, rows)
        return rows

    return part


PARTS: dict[str, Part] = {
    "cases": cases_part,
    "wrong": wrong_part,
    "availability": availability_part,
    "windows": table_part("windows of 10 s, arrivals that jump", windows),
    "gpu": table_part("quality on time for each GPU", per_gpu),
    "truth": table_part("profiles wrong: what telling would be worth, of what bid-price earns untold", truth),
    "known": table_part("tasks and lengths known", knowing),
    "reading": table_part("prompts that are read without a step's fixed time", reading),
}


@click.command()
@click.option("--fleet", "path", type=click.Path(path_type=Path), required=True)
@click.option("--policy", default="pretrained", show_default=True)
@click.option("--rival", help="Another policy, e.g. one trained for this fleet: play the cases with these two, and nothing else.")
@click.option("--tuned", type=click.Path(path_type=Path), help="What `bestserve tune --out` wrote.")
@click.option("--seeds", default=5, show_default=True)
@click.option("--seconds", default=240.0, show_default=True, help="Of arrivals.")
@click.option("--trace", "traces", multiple=True, help="An Azure or Mooncake file; its rate is scaled to the fleet.")
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="Default: all.")
@click.option("--jobs", default=2, show_default=True)
def main(
    path: Path,
    policy: str,
    rival: str | None,
    tuned: Path | None,
    seeds: int,
    seconds: float,
    traces: Sequence[str],
    parts: Sequence[str],
    jobs: int,
) -> None:
    """Print tables in Markdown, and everything as a last line of JSON."""
    study = Study(read(environment(), path), tuned, seeds, seconds, jobs)
    cases = cases_of(study, traces)
    said: dict[str, Any] = {"fleet": path.stem, "policy": policy, "seeds": seeds, "seconds": seconds}
    if rival is not None:
        said["rival"] = rival
        said["beside"] = beside(study, cases, policy, rival)
        show(f"{policy} beside {rival}", said["beside"])
    else:
        said |= {part: PARTS[part](study, cases, policy) for part in parts or PARTS}
    click.echo(json.dumps(said, default=float))


if __name__ == "__main__":
    main()
