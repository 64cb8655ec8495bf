"""Drift: days on which the mix, the rates and a backend change; daily retraining beside a policy that is frozen; and the gate itself.

    python bench/drift.py                       # 6 days, 36 candidates; --json for programs

Every day's log is written by what decides that day: bid-price at first, later what the gate has let through. In the evening the log is
retrained on, and five more challengers are made of what came out, most of them poisoned: a network of noise, a policy that sheds what is
not splendid, one that never minds the price, beliefs that overstate a backend, beliefs that let one decode three times as fast. The gate
judges each; then each meets fresh traffic of that day in the true world beside the incumbent, paired by seed. A false promotion is one
that passes and is truly worse by more than 1 %; a missed one does not pass and is truly better by more than 1 %.

The profiles are true on the first day. From half of the days on one backend is another: it decodes 1.6 times as fast and is 6 points
better, and nobody has changed its profile.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from bestserve.policy.calibration import Calibration, Corrected, calibrated
from bestserve.policy.checkpoint import Checkpoint, from_bytes, to_bytes
from bestserve.policy.facts import TASKS, Backend
from bestserve.policy.learn.improve import Args
from bestserve.policy.learn.logged import Ledger
from bestserve.policy.learn.recording import recorded, records, said_of
from bestserve.policy.learn.retrain import Incumbent, Judgement, Question, judge, known_of, retrain
from bestserve.policy.learn.run import run
from bestserve.policy.record import from_bytes as line_of
from bestserve.policy.record import to_bytes as bytes_of
from bestserve.policy.scene import Places
from bestserve.policy.simulate import Setting, Trace
from bestserve.policy.workload import Arrivals, Demand, draw_trace, mix_of, unpredictable
from bestserve.profiles.schema import Profile
from bestserve.proxy.fleet_file import read
from bestserve.proxy.retraining import of_checkpoint, of_rule

ROOT = Path(__file__).parent.parent
EXPLORE, FEEDBACK, FALSE = 0.03, 0.2, 0.01
MORNING = mix_of({"code": 3, "math": 2, "chat": 3, "write": 2, "qa": 2})
EVENING = mix_of({"classify": 3, "extract": 3, "summ": 2, "translate": 2, "chat": 2})
UPGRADED = "medium"


@dataclass(frozen=True, slots=True)
class Day:
    """What the world is like."""

    true: tuple[Profile, ...]
    demand: Demand
    arrivals: Arrivals
    seconds: float


def day_of(number: int, of: int, backends: Sequence[Backend], n: int) -> Day:
    """The mix goes from one to another, rates double and fall again, and one backend is another from half of the days on."""
    share = number / max(of - 1, 1)
    mix = tuple((1 - share) * a + share * b for a, b in zip(MORNING, EVENING, strict=True))
    high = 80.0 * (1.0 + math.sin(math.pi * share))
    true = tuple(_upgraded(b.profile) if b.name == UPGRADED and number >= of / 2 else b.profile for b in backends)
    mean = (high - 5.0) / math.log(high / 5.0)
    return Day(true, Demand(mix=mix), unpredictable(5.0, high, 15.0), n / mean)


def _upgraded(profile: Profile) -> Profile:
    names = ("step_fixed_s", "step_per_seq_s", "step_per_kv_token_s")
    engine = replace(profile.engine, **{name: getattr(profile.engine, name) / 1.6 for name in names})
    return replace(profile, engine=engine, quality={task: min(1.0, quality + 0.06) for task, quality in profile.quality.items()})


def question_of(places: Places, day: Day, incumbent: Incumbent, number: int, seed: int) -> Question:
    """The day's log, as it is read."""
    dice = np.random.default_rng([seed, number])
    trace = draw_trace(dice, day.arrivals, day.seconds, day.demand)
    here = replace(places, backends=calibrated(places.backends, incumbent.calibration), true=day.true)
    log = recorded(here, trace, incumbent.mind, seed=number, setting=Setting(explore=EXPLORE))
    ledger, lines, said = Ledger(), [], said_of(log, dice, FEEDBACK)
    scores = []
    for record in records(log, wall=1_790_000_000.0 + 86_400 * number, policy=incumbent.name):
        lines.append(bytes_of(record))
        ledger.take(line_of(lines[-1]))
        scores.append(said.get(int(record.request_id[1:]), math.nan))
    columns, names = ledger.columns()
    columns = columns._replace(score=np.array(scores))
    return Question(columns, names, lines, np.arange(len(lines)), np.ones(len(lines)), places.backends, places.budgets, incumbent, EXPLORE)


def poisoned(made: Checkpoint, dice: np.random.Generator) -> dict[str, Checkpoint]:
    """Challengers that should not pass, most of them, made of one that may."""
    shed, factor, *rest = made.parameters
    noise = {name: array + 0.3 * dice.standard_normal(array.shape) for name, array in made.network._asdict().items()}
    names = list(made.calibration)
    good, fast = (names[int(i)] for i in dice.choice(len(names), 2, replace=False))
    return {
        "a network of noise": replace(made, network=made.network._replace(**noise)),
        "sheds what is not splendid": replace(made, parameters=(0.6, factor, *rest)),
        "never minds the price": replace(made, parameters=(shed, 0.0, *([0.0] * (len(rest) - 1)), rest[-1])),
        "believes one too good": replace(made, calibration=_believing(made.calibration, good, better=0.25)),
        "believes one too fast": replace(made, calibration=_believing(made.calibration, fast, faster=3.0)),
    }


def _believing(calibration: Calibration, name: str, *, better: float = 0.0, faster: float = 1.0) -> Calibration:
    by = calibration[name]
    quality = {task: min(1.0, by.quality.get(task, 0.6) + better) for task in TASKS}
    engine = {key: value / faster if key.startswith("step") else value for key, value in by.engine.items()}
    return {**calibration, name: Corrected(by.profile, engine, quality, by.kept_when_cut, by.kept_when_concise, by.longer)}


def reward(places: Places, day: Day, incumbent: Incumbent, traces: Sequence[Trace]) -> np.ndarray:
    """Of each trace, in the true world."""
    here = replace(places, backends=calibrated(places.backends, incumbent.calibration), true=day.true)
    return np.array([float(np.mean(run(here, trace, incumbent.mind, seed=i).reward)) for i, trace in enumerate(traces)])


def line(number: int, name: str, judgement: Judgement, true: np.ndarray, base: np.ndarray) -> dict[str, object]:
    """What the gate said of one, and what is true."""
    gains = (true - base) / base.mean()
    return {
        "day": number,
        "candidate": name,
        "published": judgement.verdict.publish,
        "true": float(gains.mean()),
        "true_pm": float(2 * gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else math.nan,
        "duel": judgement.duel.gain,
        "duel_abstains": judgement.duel.abstains,
        "step": judgement.step.switch.value,
        "step_low": judgement.step.switch.low,
        "step_all": judgement.step.doubly_robust.value,
        "snips": judgement.step.snips.value,
        "fitted_q": float(judgement.heads.mean()),
        "fitted_q_low": float(np.quantile(judgement.heads, 0.1)),
        "effective": judgement.step.effective,
        "effective_all": judgement.step.effective_all,
        "missed": judgement.duel.missed,
        "failed": [test.name for test in judgement.verdict.tests if test.needs and test.passed is not True],
    }


def play(days: int, n: int, seed: int, fresh: int, args: Args, pool: Executor, told) -> dict[str, object]:
    """All days."""
    fleet = read({}, ROOT / "bench" / "fleets" / "qwen3.yaml")
    places, dice = fleet.places, np.random.default_rng(seed)
    frozen = incumbent = of_rule("bid-price", places)
    candidates, course = [], []
    for number in range(days):
        begin, day = time.monotonic(), day_of(number, days, places.backends, n)
        traces = [draw_trace(np.random.default_rng([seed, number, 7, i]), day.arrivals, day.seconds / 4, day.demand) for i in range(fresh)]
        base = reward(places, day, incumbent, traces)
        course.append(
            {
                "day": number,
                "decides": incumbent.name,
                "reward": float(base.mean()),
                "frozen": float(reward(places, day, frozen, traces).mean()),
            }
        )
        question = question_of(places, day, incumbent, number, seed)
        day_args = replace(args, seed=seed * 1000 + number)
        answer = retrain(question, day_args, pool, lambda *_: None)
        known = known_of(question, day_args, pool, lambda *_: None)
        made = from_bytes(to_bytes(answer.checkpoint))
        judged = {"retrained": (made, answer.judgement)}
        for name, poison in poisoned(made, dice).items():
            judged[name] = poison, judge(known, poison, day_args, pool, lambda *_: None)
        for name, (checkpoint, judgement) in judged.items():
            candidates.append(line(number, name, judgement, reward(places, day, of_checkpoint(checkpoint), traces), base))
            told(candidates[-1])
        if answer.verdict.publish:
            incumbent = of_checkpoint(made)
        told({**course[-1], "seconds": round(time.monotonic() - begin, 1)})
    return {"days": course, "candidates": candidates, "gate": gate(candidates)}


def gate(candidates: Sequence[dict]) -> dict[str, object]:
    """How good it is."""
    true, duel = (np.array([each[key] for each in candidates]) for key in ("true", "duel"))
    return {
        "candidates": len(candidates),
        "published": sum(each["published"] for each in candidates),
        "false": sum(each["published"] and each["true"] < -FALSE for each in candidates),
        "worst_published": min((each["true"] for each in candidates if each["published"]), default=math.nan),
        "better": int((true > FALSE).sum()),
        "missed": sum(not each["published"] and each["true"] > FALSE for each in candidates),
        "correlation": {
            key: float(np.corrcoef(true, [each[key] for each in candidates])[0, 1])
            for key in ("duel", "step", "step_all", "snips", "fitted_q")
        },
        "duel_error": float(np.abs(duel - true).mean()),
    }


def shown(said: dict) -> None:
    """A line."""
    if "candidate" not in said:
        print(f"day {said['day']}: {said['decides']} {said['reward']:.4f}, frozen {said['frozen']:.4f}; {said['seconds']} s", flush=True)
        return
    word = "published" if said["published"] else "kept"
    print(
        f"  {said['candidate']:28} {word:9} true {said['true']:+7.2%} ± {said['true_pm']:.2%}"
        f" duel {said['duel']:+7.2%} step {said['step']:+7.2%} ({said['step_low']:+.2%}) Q {said['fitted_q']:+8.2%}"
        f" SNIPS {said['snips']:+7.2%}"
        f" n {said['effective']:.0%} missed {said['missed'] * 100:+.1f}; {', '.join(said['failed'])}",
        flush=True,
    )


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=6)
    parser.add_argument("--requests", type=int, default=16_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    args = Args()
    args = replace(args, search=replace(args.search, iterations=said.iterations))
    with ThreadPoolExecutor(1) as pool:
        found = play(said.days, said.requests, said.seed, said.fresh, args, pool, (lambda _: None) if said.json else shown)
    if said.json:
        json.dump(found, sys.stdout, indent=1)
        return
    daily, frozen = (fmean(day[key] for day in found["days"]) for key in ("reward", "frozen"))
    print(f"\ndaily {daily:.4f}, frozen {frozen:.4f}: {daily / frozen - 1:+.2%}")
    print(json.dumps(found["gate"], indent=1))


if __name__ == "__main__":
    main()
