"""A simulated scene as Records: the very lines that a proxy writes, so that what learns from a log can be tried where the truth is known.

What is not handled
    Of a request that was refused somewhere, only the last attempt is told.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bestserve.policy.books import Look, rate_after
from bestserve.policy.decide import actions_of
from bestserve.policy.encode import ENCODER, N_FEATURES, TOKENS, observe, seen_of
from bestserve.policy.facts import SLO, Ask, Columns, Constants, Decision, Ending, FleetView, Floats, Length, Outcome, knowledge_of
from bestserve.policy.fleet import RATE_S
from bestserve.policy.heuristics import explored
from bestserve.policy.policies import Mind
from bestserve.policy.record import Record
from bestserve.policy.scene import Places, results_of, scene_of, scratch_of, world_of
from bestserve.policy.simulate import BROKE, DONE, RATE, RATE_AT, SHED, Results, Scene, Setting, Trace, answer_of, end_of, finish, play

from .bound import bind
from .compiled import compiled
from .run import AFTER_S


class Recorded(NamedTuple):
    """A scene that was played, with all that its decisions saw."""

    places: Places
    scene: Scene
    results: Results
    seen: dict[str, Floats]  # Look, "price", "cached" and "able" (has not refused), (N, B) each; "rate" (N,); "p" (N, A)


def recorded(places: Places, trace: Trace, mind: Mind, *, seed: int = 0, setting: Setting | None = None) -> Recorded:
    """Play a trace, and keep what each decision saw."""
    scene = scene_of(places, trace, mind, np.random.default_rng(seed), setting or Setting())
    n, n_backends = len(trace.at), len(places.backends)
    results, world, scratch = results_of(n), world_of(scene, places), scratch_of(places)
    bound = [bind(part) for part in (world, scene, results, scratch)]
    seen: dict[str, Floats] = {name: np.zeros((n, n_backends)) for name in (*Look._fields, "price", "cached", "able")}
    seen |= {"rate": np.zeros(n), "p": np.zeros((n, len(scratch.p)))}
    run = compiled(play)
    for i in range(n):
        run(*bound, i + 1)
        for name in Look._fields:
            seen[name][i] = getattr(scratch.look, name)
        seen["price"][i], seen["cached"][i], seen["p"][i] = world.price, scratch.cached, scratch.p
        seen["able"][i] = scratch.able
        seen["rate"][i] = rate_after(world.clock[RATE], world.clock[RATE_AT], float(trace.at[i]), RATE_S)
    compiled(finish)(*bound[:3], (float(trace.at[-1]) if n else 0.0) + AFTER_S)
    return Recorded(places, scene, results, seen)


def records(of: Recorded, *, wall: float, policy: str, prefix: str = "s") -> Iterator[Record]:
    """In the order in which attempts ended. `wall` is when the scene began."""
    ended = np.where(np.asarray(of.results.ending) == SHED, of.scene.trace.at, of.results.ended)
    ended = np.where(ended > 0, ended, of.scene.trace.at + AFTER_S)
    constants = Constants.of(of.places.backends)
    for i in np.argsort(ended, kind="stable").tolist():
        yield _record(of, constants, i, wall, policy, prefix)


def _record(of: Recorded, constants: Constants, i: int, wall: float, policy: str, prefix: str) -> Record:
    places, budgets = of.places, of.places.budgets
    ask, view = _ask(of, i), _view(of, constants, i)
    observation = observe(seen_of(ask, view, budgets, of.seen["cached"][i].tolist()))
    index = int(of.results.action[i])
    actions = actions_of(places.backends, budgets)
    tokens = 0.0 if actions[index].shed else observation.features[index * N_FEATURES + TOKENS]
    decision = Decision(
        id=f"{prefix}{i}",
        at=view.now,
        action=actions[index],
        index=index,
        actions=actions,
        mask=observation.mask,
        probabilities=of.seen["p"][i].tolist(),
        floor=explored(of.seen["p"][i].tolist(), observation, of.scene.setting.explore)[1],
        policy=policy,
        encoder=ENCODER,
        observation=observation,
        prompt_tokens=ask.prompt_tokens,
        expected_tokens=tokens,
    )
    outcome = _outcome(of, i, index)
    return Record(f"{prefix}{i}", 0, wall + view.now + outcome.total_s, "simulated", ask, view, decision, outcome)


def _ask(of: Recorded, i: int) -> Ask:
    trace = of.scene.trace
    slo = SLO(_bound(trace.ttft_s[i]), _bound(trace.tpot_s[i]), _bound(trace.e2e_s[i]), hard=bool(trace.hard[i]))
    return Ask(
        endpoint="chat",
        model="auto",
        allowed=frozenset(backend.name for backend in of.places.backends),
        stream=True,
        prompt_tokens=int(trace.prompt[i]),
        max_tokens=None if trace.ceiling[i] == math.inf else int(trace.ceiling[i]),
        n=1,
        needs=frozenset(),
        task=tuple(trace.told[i].tolist()),
        length=Length(math.exp(trace.mu[i]), float(trace.sigma[i])),
        slo=slo,
        tier="default",
        weight=float(trace.weight[i]),
        session=None if trace.session[i] < 0 else f"c{trace.session[i]}",
        usd_weight=of.scene.setting.usd_weight,
    )


def _bound(deadline: float) -> float | None:
    return None if deadline == math.inf else float(deadline)


def _view(of: Recorded, constants: Constants, i: int) -> FleetView:
    columns = {name: of.seen[name][i].tolist() for name in (*Look._fields, "price")}
    for name in ("usable", "held"):
        columns[name] = [bool(value) for value in columns[name]]
    columns["usable"] = [up and bool(able) for up, able in zip(columns["usable"], of.seen["able"][i], strict=True)]  # as `without`
    whole = Columns(now=float(of.scene.trace.at[i]), arrival_rate=float(of.seen["rate"][i]), **columns)
    return FleetView(of.places.backends, constants, whole, knowledge_of(of.places.backends))


def _outcome(of: Recorded, i: int, index: int) -> Outcome:
    trace, results, budgets = of.scene.trace, of.results, of.places.budgets
    ending, b, k = int(results.ending[i]), index // len(budgets), index % len(budgets)
    if ending == SHED:
        return Outcome(Ending.SHED, 0, None, 0.0, None, None, None, None, cut=False)
    if ending != DONE:
        broke = ending == BROKE
        waited = float(results.total_s[i]) if broke else AFTER_S
        return Outcome(Ending.BROKE if broke else Ending.ABANDONED, 200, None, waited, None, None, None, None, cut=False)
    end, ceiling = end_of(of.scene, b, k, i), float(trace.ceiling[i])
    free = answer_of(of.scene, b, k, i)
    return Outcome(
        ending=Ending.DONE,
        status=200,
        ttft_s=float(results.ttft_s[i]),
        total_s=float(results.total_s[i]),
        prompt_tokens=int(trace.prompt[i]),
        completion_tokens=int(results.tokens[i]),
        cached_tokens=int(of.seen["cached"][i, b]),
        finish_reason="length" if free > min(end, ceiling) else "stop",
        cut=bool(free > end and end < ceiling),
    )


def said_of(of: Recorded, dice: Generator, share: float) -> dict[int, float]:
    """Requests whose answer somebody judged, with what was said: 1 as often as the answer is truly good, else 0."""
    done = np.flatnonzero(np.asarray(of.results.ending) == DONE)
    judged = done[dice.uniform(size=len(done)) < share]
    good = dice.uniform(size=len(judged)) < np.asarray(of.results.quality)[judged]
    return dict(zip(judged.tolist(), good.astype(float).tolist(), strict=True))
