"""What knowing a request's task is worth: one fleet, the same requests, told by nobody, by the classifier, by somebody who knows.

    python bench/told.py                # three workloads, 20 seeds; --json for programs

Of each workload and policy: the mean reward where nobody tells, what others add to it (paired by seed, ± two standard errors), and
the share of what is between `none` and `true` that the classifier keeps, by its probabilities and by its likeliest task alone. Only what is
said of the task changes; what is foreseen of lengths, and everything else of a trace, stays. Without bounds, which take most of the time of
`bestserve evaluate --tasks-told`.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean, stdev

from bestserve.proxy.contest import Match, play
from bestserve.proxy.fleet_file import read
from bestserve.proxy.simulating import demand_of
from bestserve.proxy.workloads import Course

ROOT = Path(__file__).parent.parent
TELLERS = ("none", "hard", "classified", "true")


def rewards(fleet, teller: str, workload: str, policy: str, seeds: int, seconds: float) -> list[float]:
    """Mean reward of each seed."""
    demand, course = demand_of(fleet, None, teller), Course(workload, seconds)
    played = [play(Match(fleet, demand, course, seed, policy)) for seed in range(1000, 1000 + seeds)]
    return [each.summary.reward for each in played]


def compared(found: dict[str, list[float]]) -> dict[str, float]:
    """What each teller adds, with its interval; and what the classifier keeps of what `true` adds."""
    said = {"none": fmean(found["none"])}
    for teller in TELLERS[1:]:
        more = [a - b for a, b in zip(found[teller], found["none"], strict=True)]
        said[teller], said[f"{teller}_pm"] = fmean(more), 2 * stdev(more) / len(more) ** 0.5
    for teller in ("hard", "classified"):
        said[f"{teller}_keeps"] = said[teller] / said["true"] if said["true"] else 0.0
    return said


def main() -> None:
    """Play and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--fleet", type=Path, default=ROOT / "bench" / "fleets" / "qwen3.yaml")
    asked.add_argument("--workload", action="append")
    asked.add_argument("--policy", action="append")
    asked.add_argument("--seeds", type=int, default=20)
    asked.add_argument("--seconds", type=float, default=120.0)
    asked.add_argument("--json", action="store_true")
    args = asked.parse_args()
    fleet, result = read({}, args.fleet), {}
    for workload in args.workload or ["poisson:20", "poisson:60", "unpredictable:10-120"]:
        for policy in args.policy or ["weighted-score", "bid-price"]:
            found = {teller: rewards(fleet, teller, workload, policy, args.seeds, args.seconds) for teller in TELLERS}
            result[f"{workload}, {policy}"] = said = compared(found)
            if not args.json:
                print(f"{workload}, {policy}: none {said['none']:.4f}", end="")
                print("".join(f"; {t} {said[t]:+.4f} ± {said[t + '_pm']:.4f}" for t in TELLERS[1:]), end="")
                print(f"; kept {said['classified_keeps']:.0%}, hard {said['hard_keeps']:.0%}", flush=True)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
