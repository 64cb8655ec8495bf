"""How near ten minutes come to an engine that is known, in virtual time: `python -m tests.proxy.profiling.known`.

Each decode step and each prefill takes its time times a log-normal of mean 1 and 10 %. A line a seed, then the worst of all.
"""

from dataclasses import replace

from bestserve.proxy.profiling import fit
from bestserve.proxy.profiling.judge import judge
from bestserve.proxy.profiling.points import gather
from tests.proxy.profiling.test_session import World
from tests.proxy.profiling.world import KNOWN

SEEDS = range(1, 7)


def main() -> None:
    worst: dict[str, float] = {}
    for seed in SEEDS:
        world = World(seed=seed)
        world.measure(600.0)
        found = fit.constants(gather(world.runs), KNOWN.prefill_batch_tokens).named()
        off = {name: value / getattr(KNOWN, name) - 1 for name, value in found.items()}
        worst = {name: max(worst.get(name, 0.0), abs(error)) for name, error in off.items()}
        mixes = {name: f"{mix.median:.1%} {mix.p90:.1%}" for name, mix in judge(world.runs, replace(KNOWN, **found)).summary().items()}
        print(f"seed {seed}: {world.now:.0f} s,", *(f"{name} {error:+.1%}" for name, error in off.items()), mixes, flush=True)
    print("worst:", *(f"{name} {error:.1%}" for name, error in worst.items()))


if __name__ == "__main__":
    main()
