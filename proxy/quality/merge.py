"""A profile's numbers as a prior, what was measured as evidence: the posterior goes into a copy of the profile's file.

A number's prior weighs as many answers as its `error` says, else as many as PRIOR gives to how it came about. Only numbers that something
was measured for are touched, and the rest of the file, comments too, stays as it is. Each new number says what went into it.

Lengths are taken from the user's own prompts alone: how long answers to the shipped ones are says little about anybody's traffic. What an
instruction does to the length is a ratio on the same prompts, and is taken from both.
"""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestserve import profiles
from bestserve.policy import estimate
from bestserve.policy.estimate import Estimate, LogNormal, Prior
from bestserve.policy.lengths import refined
from bestserve.profiles import Profile, Source
from bestserve.proxy import files

from .tally import Shortening, Tally

PRIOR = {"measured": 60.0, "fitted": 30.0, "published": 30.0, "interpolated": 15.0, "assumed": 5.0}
"""Answers that a number weighs as much as, where it tells no error: one that was published, as much as one of the shipped sets."""

UNSAID = 5.0
"""... and where it does not even say where it comes from."""

SPREAD = 0.8
"""Standard deviation of the logarithm of one answer's length: what a relative error of a length is held against to say its weight."""

MARKS = ("bestserve quality", "bestserve profiles refine")
"""How the source of a number begins that we have written."""


@dataclass(frozen=True, slots=True)
class Merged:
    """One number of the new profile."""

    path: str  # dotted, as in `Profile.sources`
    before: float
    measured: float
    after: float
    fields: dict[str, Any]  # what stands in the file


def merge(profile: Profile, seen: Tally, *, command: str, own: bool, prior: float | None = None) -> list[Merged]:
    """The numbers that the measurement moves. `own`: the prompts are the user's. `prior` overrides the strength of every prior."""
    weigh = Weigher(profile, command, prior)
    numbers: list[Merged | None] = []
    for task in seen.tasks:
        cell = seen.cells.get((task, seen.free)) if seen.free is not None else None
        effect, usual = seen.effects[task], profile.budget_effect
        if cell:
            numbers.append(weigh.share(f"quality.{task}", profile.quality[task], cell.quality))
            if own and cell.length:
                numbers.append(weigh.length(f"lengths.{task}", profile.lengths[task], cell.length))
        numbers.append(weigh.share(f"budget_effect.kept_when_cut.{task}", usual.kept_when_cut[task], effect.kept_when_cut))
        numbers.append(weigh.share(f"budget_effect.kept_when_concise.{task}", usual.kept_when_concise[task], effect.kept_when_concise))
        path = f"budget_effect.length_when_concise.{task}"
        numbers.append(weigh.shortening(path, usual.length_when_concise[task], effect.length_when_concise))
    return [number for number in numbers if number is not None]


def again(profile: Profile, numbers: list[Merged]) -> list[str]:
    """Of these numbers, those whose prior is itself our measurement: the same answers would count twice."""
    return [n.path for n in numbers if n.path in profile.sources and profile.sources[n.path].source.startswith(MARKS)]


def write(base: str | Path, numbers: list[Merged], out: Path) -> None:
    """The profile's file with the new numbers in it. It is read back before it gets its name. Raises BadProfile or OSError."""
    import tomlkit

    document = tomlkit.parse(profiles.find(base).read_text(encoding="utf-8"))
    document["name"] = out.stem
    for number in numbers:
        *tables, key = number.path.split(".")
        table: Any = document
        for name in tables:
            table = table.setdefault(name, tomlkit.table())
        entry = tomlkit.inline_table()
        entry.update(number.fields)
        table[key] = entry
    text = tomlkit.dumps(document)
    profiles.parse(tomllib.loads(text), name=out.stem)
    files.write(out, text.encode())


@dataclass(frozen=True, slots=True)
class Weigher:
    """Weighs what was seen against what a profile says. `command` is what the source of a new number begins with; `strength` overrides
    that of every prior."""

    profile: Profile
    command: str
    strength: float | None

    def share(self, path: str, before: float, seen: Estimate | None) -> Merged | None:
        if seen is None or seen.n <= 0:
            return None
        prior = Prior(before, self._strength(path, before))
        after = estimate.shrink(prior, seen)
        fields = {"value": round(after.value, 4), **self._source(path, prior, f"{seen.value:.3f}", seen.n)}
        return Merged(path, before, seen.value, after.value, {**fields, "error": round(estimate.error(after), 3)})

    def length(self, path: str, before: profiles.Answers, seen: LogNormal) -> Merged:
        """Normal with normal: the median's logarithm by the weights; the spread of both, and of the distance between them."""
        prior = Prior(before.median, self._strength(path, None))
        n, log = seen.n, math.log(seen.median)
        after = refined(before, n * log, n * (seen.sigma**2 + log * log), n, prior.strength)
        said = f"median {seen.median:.0f}, sigma {seen.sigma:.2f}"
        fields = {"median": round(after.median, 1), "sigma": round(after.sigma, 3), **self._source(path, prior, said, n)}
        fields["error"] = round(after.sigma / math.sqrt(n + prior.strength), 3)
        return Merged(path, before.median, seen.median, after.median, fields)

    def shortening(self, path: str, before: float, seen: Shortening | None) -> Merged | None:
        if seen is None:
            return None
        prior = Prior(before, self._strength(path, None))
        n, m = seen.n, prior.strength
        after = min(1.0, before * math.exp(math.log(seen.ratio / before) * n / (n + m)))
        spread = max(seen.log_error * math.sqrt(n), SPREAD / 4)
        fields = {"value": round(after, 4), **self._source(path, prior, f"{seen.ratio:.3f}", n)}
        return Merged(path, before, seen.ratio, after, {**fields, "error": round(spread / math.sqrt(n + m), 3)})

    def _strength(self, path: str, mean: float | None) -> float:
        """`mean` is None for numbers that are no shares, whose error says their weight by SPREAD."""
        source = self.profile.sources.get(path)
        if self.strength is not None:
            return self.strength
        if source is None:
            return UNSAID
        if source.error is None:
            return PRIOR[source.how]
        if mean is not None:
            return estimate.strength(mean, source.error)
        return min(estimate.MOST, max(estimate.LEAST, (SPREAD / max(source.error, 1e-6)) ** 2))

    def _source(self, path: str, prior: Prior, said: str, n: float) -> dict[str, str]:
        before = self.profile.sources.get(path)
        weighed = f"{said} over n={n:.4g}; prior {prior.mean:.4g} as {prior.strength:.3g} answers{_from(before)}"
        return {"source": f"{self.command}: {weighed}", "how": "measured"}


def _from(source: Source | None) -> str:
    return f" ({source.how}: {source.source})" if source else ""
