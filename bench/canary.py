"""How often a trial ends wrongly, and how soon it finds what is worse: `python bench/canary.py [--trials N]`.

Windows of a day whose load moves more than policies differ; the noise of a window's mean is beside it. Nothing is served.
"""

import argparse

import numpy as np

from bestserve.policy.canary import LAG_S, Rules, State, Sums, is_new, judge

RULES = Rules()
FIRST = 1_000_000
N = 200  # requests of a window


def trial(dice: np.random.Generator, version: str, worse_by: float, noise: float) -> tuple[State, int]:
    """One trial, looked at after every window: how it ended, and after how many pairs."""
    first = FIRST + int(dice.integers(0, 10_000))
    since, sums = first * RULES.window_s - LAG_S, dict[int, Sums]()
    phase = dice.uniform(0, 6.28)
    for window in range(first, first + 2 * RULES.pairs + 4):
        load = 0.6 + 0.15 * np.sin(phase + (window - first) / 4)
        mean = load - worse_by * is_new(version, window) + noise * dice.standard_normal()
        sums[window] = Sums(N * mean, float(N), N)
        finding = judge(version, sums, since=since, now=(window + 1) * RULES.window_s + 1, rules=RULES)
        if finding.state is not State.RUNS:
            break
    return finding.state, finding.pairs


def main() -> None:
    """A line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    print("worse by  noise   rolled back   pairs until then (median)")
    for noise in (0.02, 0.05, 0.1):
        for worse_by in (0.0, 0.02, 0.05, 0.1, 0.2, 0.5):
            dice = np.random.default_rng(0)
            ended = [trial(dice, f"v{i}", worse_by, noise) for i in range(trials)]
            gone = [pairs for state, pairs in ended if state is State.BELOW]
            print(f"{worse_by:8.2f}  {noise:5.2f}   {len(gone) / trials:11.3f}   {np.median(gone) if gone else float('nan'):.0f}")


if __name__ == "__main__":
    main()
