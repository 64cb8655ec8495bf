"""Measures one backend: warm up, rounds of the plan until it is known well enough or the time is over, mixes between them and at the end.

Every run is written down as it ends, so what an interruption loses is the run under way. What is there already counts: towards the
time, towards the rounds, and towards the plays of each mix.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from bestserve.profiles.schema import Engine
from bestserve.proxy.dialects.sglang import Limits

from . import fit, limits, script
from .plan import MIXES_SHARE, PLAYS, Plan, cost_s
from .points import gather
from .refuse import CannotMeasure, foreign, refuse_failures, refuse_too_few, refuse_unmoved
from .runs import Run
from .script import Script

__all__ = ["Session"]

KNOWN = 0.01  # relative error at which a constant is known well enough
LEAST_ROUNDS, MOST_ROUNDS = 2, 50
_SHOWN_BY = {
    "prefill": ("prefill_tokens_per_s", "prefill_fixed_s"),
    "decode": ("step_fixed_s", "step_per_seq_s", "step_per_kv_token_s"),
    "remember": ("prefill_cached_cost",),
}
_WARM = ((1, 16, 8), (1, 16, 8), (1, 128, 8), (4, 16, 8))

Play = Callable[[Script], Awaitable[Run]]
Show = Callable[[str, float], None]


class Session:
    """See the head of this file. `play` plays a script; `keep` keeps what it brought; `show` is told what goes on, and the seconds of
    the budget that are spent."""

    def __init__(
        self,
        runs: list[Run],
        said: Limits,
        told: Mapping[str, int],
        *,
        play: Play,
        keep: Callable[[Run], None],
        show: Show,
        clock: Callable[[], float],
        budget_s: float,
        longest: int | None = None,
        seed: int = 0,
    ) -> None:
        self.runs, self.said, self.told, self.play, self.keep, self.show, self.clock = runs, said, told, play, keep, show, clock
        self.before_s, self.began = sum(run.took_s for run in runs), clock()
        self.plan = Plan(limits.engine_of(self._limits()), budget_s, longest, most=256 if said.max_running else 32)
        self.dice = random.Random(seed)  # noqa: S311
        self.mixes = list[Script]()  # once they are drawn

    async def measure(self) -> None:
        """All of it. Raises CannotMeasure."""
        for n, prompt, answer in _WARM:
            await self._play(script.warm(n, prompt, answer, self.dice.randrange(1 << 40)))
        await self._rounds()
        await self._mixes(PLAYS)

    async def _rounds(self) -> None:
        kinds: tuple[str, ...] = tuple(_SHOWN_BY)
        for number in range(1, MOST_ROUNDS):
            self.plan = replace(self.plan, engine=self._engine())
            played = [await self._afford(one, f"round {number}") for one in self.plan.round(kinds, self.dice.randrange(1 << 40))]
            if sum(played) < len(played) / 2:  # the time is nearly over
                break
            kinds = self._unknown() if number >= LEAST_ROUNDS else kinds
            if not kinds:
                break
            if number >= LEAST_ROUNDS:
                await self._mixes(int(PLAYS * (self._spent_s() - self._took_s("mix")) / self.plan.fit_s))

    async def _mixes(self, plays: int) -> None:
        """Play the mixes until each was played so often, or the time is over; but one of them once."""
        if not plays:
            return
        points = gather(self.runs)
        refuse_too_few(points)
        self.plan = replace(self.plan, engine=self._engine())
        refuse_unmoved(points, fit.constants(points, self.plan.engine.prefill_batch_tokens))
        wanted = self._wanted()
        for play in range(plays):
            for mix in wanted:
                played = self._played()
                ends_s = self._spent_s() + cost_s(mix, self.plan.engine)
                if played[mix.key] <= play and (ends_s <= self.plan.budget_s or not played):
                    await self._play(script.anew(mix, self.dice.randrange(1 << 40)), "held against")

    def _wanted(self) -> list[Script]:
        """The mixes, drawn once: those that were played before, and what else there is time for."""
        if not self.mixes:
            there = {run.key: Script(run.kind, run.key, run.calls) for run in self.runs if _is_mix(run)}
            left_s = self.plan.budget_s * MIXES_SHARE / PLAYS - sum(cost_s(mix, self.plan.engine) for mix in there.values())
            self.mixes = [*there.values(), *self.plan.mixes(self.dice.randrange(1 << 40), left_s, there)]
        return self.mixes

    def _played(self) -> Counter[str]:
        return Counter(run.key for run in self.runs if _is_mix(run))

    async def _afford(self, one: Script, what: str) -> bool:
        """Play a script if there is time for it."""
        if self._spent_s() - self._took_s("mix") + cost_s(one, self.plan.engine) > self.plan.fit_s:
            return False
        await self._play(one, what)
        return True

    async def _play(self, one: Script, what: str = "warming up") -> None:
        self.show(f"{what}: {one.key}", self._spent_s())
        run = await self.play(one)
        self.runs.append(run)
        self.keep(run)
        self.show(f"{what}: {one.key}", self._spent_s())
        refuse_failures(self.runs)
        foreign(self.runs)

    def _spent_s(self) -> float:
        """Of the time: what runs took before, and everything since."""
        return self.before_s + self.clock() - self.began

    def _took_s(self, kind: str) -> float:
        return sum(run.took_s for run in self.runs if run.kind == kind)

    def _limits(self) -> dict[str, float]:
        return {name: value for name, (value, _) in limits.numbers(self.said, self.told, self.runs).items()}

    def _engine(self) -> Engine:
        """As far as it is known by now."""
        bounds, points = self._limits(), gather(self.runs)
        try:
            refuse_too_few(points)
            values: dict[str, Any] = fit.constants(points, int(bounds["prefill_batch_tokens"])).named()
        except CannotMeasure:
            values = rough(self.runs)
        return limits.engine_of({**bounds, **values})

    def _unknown(self) -> tuple[str, ...]:
        """Kinds of scripts that show what is known worst by now, as long as that is not well enough."""
        estimates = fit.estimate(gather(self.runs), self.plan.engine.prefill_batch_tokens, draws=15, jackknife=False)
        loose = {kind: max(_error(name, estimates[name]) for name in names if name in estimates) for kind, names in self._shown(estimates)}
        worst = max(loose.values())
        return tuple(kind for kind, error in loose.items() if error > max(KNOWN, worst / 2))

    def _shown(self, estimates: Mapping[str, fit.Estimate]) -> list[tuple[str, tuple[str, ...]]]:
        return [(kind, names) for kind, names in _SHOWN_BY.items() if any(name in estimates for name in names)]


def _is_mix(run: Run) -> bool:
    return run.kind == "mix" and run.failed is None and not run.foreign


def _error(name: str, estimate: fit.Estimate) -> float:
    """How far a constant may be off, relative; of a share, twice as it is: what nearly nothing costs need not be known to a hundredth."""
    error = estimate.error or 0.0
    return 2 * error * estimate.value if name == "prefill_cached_cost" else error


def rough(runs: list[Run]) -> dict[str, float]:
    """Constants from the warm-up alone, good enough to plan by."""
    warm = {run.key: run.streams[0] for run in runs if run.kind == "warm" and run.failed is None}
    short, long, many = (warm.get(f"warm {n}x{prompt}+{answer}") for n, prompt, answer in _WARM[1:])
    if short is None or long is None or many is None:
        return {}
    step, steps = ((s.last - s.first) / max(s.tokens - 1, 1) for s in (short, many))
    first, later = short.first - short.sent, long.first - long.sent
    return {
        "prefill_tokens_per_s": 112 / max(later - first, 0.05 * first, 1e-4),
        "prefill_fixed_s": first,
        "step_fixed_s": max(step, 1e-5),
        "step_per_seq_s": max((steps - step) / 3, 0.0),
        "step_per_kv_token_s": 0.0,
    }
