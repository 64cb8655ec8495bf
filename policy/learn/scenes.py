"""Where a policy is trained: fleets, what is wrongly believed of them, and workloads, drawn anew each time (domain randomisation).

Nothing here is seen by an evaluation: its seeds and traces are its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from bestserve.policy.facts import SLO, TASKS, Backend, Budget
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, Trouble, scene_of
from bestserve.policy.simulate import Scene, Setting
from bestserve.policy.workload import Arrivals, Demand, draw_trace, poisson, renewal, unpredictable
from bestserve.profiles.schema import Engine, Profile

CONSTANTS = ("prefill_tokens_per_s", "step_fixed_s", "step_per_seq_s", "step_per_kv_token_s")
"""Of an engine, what a profile may be wrong about."""

SHORTEST_S, LONGEST_S = 20.0, 300.0
"""Bounds of a scene's virtual time."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """How wrong beliefs may be, and what may go wrong."""

    wrong: float = 0.5  # share of scenes with wrong profiles
    factor: float = 2.0  # constants are wrong by up to this factor
    quality: float = 0.05  # deviation of a believed quality
    trouble: float = 0.15  # share of scenes with a slow or dead backend
    late: float = 0.3  # share of scenes whose reports are late


def scene(
    dice: Generator, places: Places, mind: Mind, requests: int, doubt: Doubt = Doubt(), slo: SLO | None = None
) -> tuple[Scene, Places]:
    """A fleet with its doubts, and about so many requests, from calm to hopeless, held to one deadline or to any."""
    places = mistaken(dice, places, doubt) if dice.uniform() < doubt.wrong else places
    demand = _demand(dice, slo)
    arrivals, rate = _arrivals(dice, capacity(places, demand))
    seconds = min(max(requests / rate, SHORTEST_S), LONGEST_S)
    if dice.uniform() < doubt.trouble:
        places = replace(places, troubles=(_trouble(dice, len(places.backends), seconds),))
    trace = draw_trace(dice, arrivals, seconds, demand)
    setting = Setting(report_s=float(dice.choice([0.25, 0.5, 1.0, 2.0])), late_reports=float(dice.uniform() < doubt.late))
    return scene_of(places, trace, mind, dice, setting), places


def capacity(places: Places, demand: Demand) -> float:
    """Requests a second that a fleet can do at most, by its profiles: every backend busy with mean requests under the least budget."""
    mix = np.array(demand.mix)
    prompt = float(mix @ np.array(demand.prompt_median)) * math.exp(demand.prompt_sigma**2 / 2)
    tokens = float(mix @ np.array(demand.answer_median)) * math.exp(demand.answer_sigma**2 / 2)
    least = min((b.tokens for b in places.budgets if b.tokens is not None), default=None)
    tokens = tokens if least is None else min(tokens, 0.7 * least)
    return capacity_at(places, prompt, tokens)


def capacity_at(places: Places, prompt: float, tokens: float) -> float:
    """Requests of so many tokens a second."""
    return sum(1.0 / _work(b.profile.engine, prompt, tokens) for b in places.backends)


def _work(engine: Engine, prompt: float, tokens: float) -> float:
    share = engine.step_fixed_s / max(engine.max_running * 0.5, 1.0) + engine.step_per_seq_s + engine.step_per_kv_token_s * prompt
    return prompt / engine.prefill_tokens_per_s + tokens * share


def mistaken(dice: Generator, places: Places, doubt: Doubt) -> Places:
    """The same fleet, believed to be otherwise: what is believed is what was, and the truth moves."""
    spread = math.log(doubt.factor)

    def true(profile: Profile) -> Profile:
        common = dice.uniform(-spread, spread)
        factors = {name: math.exp(np.clip(common + dice.uniform(-0.3, 0.3), -spread, spread)) for name in CONSTANTS}
        factors["prefill_tokens_per_s"] = 1.0 / factors["prefill_tokens_per_s"]
        engine = replace(profile.engine, **{name: getattr(profile.engine, name) * factor for name, factor in factors.items()})
        quality = {task: float(np.clip(q + doubt.quality * dice.standard_normal(), 0.01, 1.0)) for task, q in profile.quality.items()}
        return replace(profile, engine=engine, quality=quality)

    lengths = tuple(math.exp(dice.uniform(-0.4, 0.4)) for _ in places.backends)
    return replace(places, true=tuple(true(b.profile) for b in places.backends), length_factor=lengths)


def believed(places: Places) -> Places:
    """The same fleet, of which everything that is true of its engines, its quality and its lengths is known."""
    known = zip(places.backends, places.true, places.length_factor, strict=True)
    backends = tuple(replace(b, profile=true, longer=(math.log(factor),) * len(TASKS)) for b, true, factor in known)
    return replace(places, backends=backends)


def fleet(dice: Generator, profiles: Sequence[Profile]) -> Places:
    """A random fleet of 1 to 8 backends from some profiles, with 1 to 5 budgets."""
    n = int(dice.integers(1, 9))
    chosen = [profiles[int(i)] for i in dice.integers(0, len(profiles), n)]
    backends = tuple(Backend(f"b{i}", profile.model, profile) for i, profile in enumerate(chosen))
    caps = sorted(dice.choice([64, 128, 256, 384, 512, 1024, 2048], size=int(dice.integers(0, 5)), replace=False), reverse=True)
    told = dice.uniform() < 0.5
    budgets = (Budget(), *(Budget(int(cap), "Be brief." if told and dice.uniform() < 0.7 else None) for cap in caps))
    return Places(backends, budgets)


def _arrivals(dice: Generator, most: float) -> tuple[Arrivals, float]:
    """With how many come in a second, about."""
    rate = most * math.exp(dice.uniform(math.log(0.05), math.log(1.5)))
    kind = dice.integers(0, 4)
    if kind == 0:
        return poisson(rate), rate
    if kind == 1:
        return renewal(rate, float(dice.uniform(1.5, 5.0)), "gamma"), rate
    if kind == 2:
        return renewal(rate, float(dice.uniform(1.5, 4.0)), "weibull"), rate
    return unpredictable(0.1 * rate, min(2.0 * rate, 1.5 * most), float(dice.uniform(8.0, 30.0))), rate


def _demand(dice: Generator, slo: SLO | None) -> Demand:
    mix = tuple(dice.dirichlet(np.ones(len(TASKS))))
    any_slo = SLO(
        ttft_s=float(dice.choice([0.5, 1.0, 2.0, 4.0])),
        tpot_s=float(dice.choice([0.03, 0.06, 0.1, 0.2])),
        e2e_s=None if dice.uniform() < 0.6 else float(dice.choice([5.0, 10.0, 20.0])),
        hard=bool(dice.uniform() < 0.8),
    )
    tiers = ((1.0, 1.0),) if dice.uniform() < 0.6 else ((0.7, 1.0), (0.2, 2.0), (0.1, 0.5))
    read, written = _sizes(dice)
    usual = Demand()
    return replace(
        usual,
        mix=mix,
        slos=((1.0, slo or any_slo),),
        weights=tiers,
        prompt_median=tuple(read * p for p in usual.prompt_median),
        answer_median=tuple(written * a for a in usual.answer_median),
        insight=float(dice.choice([0.0, 2.0, 4.0, 8.0])),
        answer_sigma=float(dice.uniform(0.8, 1.1)),
        foresight=float(dice.uniform(0.05, 0.6)),
        misjudged=math.exp(dice.uniform(-0.4, 0.4)),
        follow=0.0 if dice.uniform() < 0.6 else 0.5,
    )


def _sizes(dice: Generator) -> tuple[float, float]:
    """How many times as long as usual prompts and answers are; in one scene of four much is read and little said, as in completing code."""
    if dice.uniform() < 0.25:
        return math.exp(dice.uniform(0.5, 1.7)), math.exp(dice.uniform(-2.0, -0.5))
    return math.exp(dice.uniform(-0.7, 0.7)), 1.0


def _trouble(dice: Generator, n: int, seconds: float) -> Trouble:
    b, begin = int(dice.integers(0, n)), float(dice.uniform(0.2, 0.6) * seconds)
    end = begin + float(dice.uniform(0.1, 0.3) * seconds)
    if dice.uniform() < 0.5:
        return Trouble(b, down=(begin, end))
    return Trouble(b, slow=(begin, end), slowness=float(dice.uniform(1.5, 4.0)))
