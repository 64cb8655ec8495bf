"""Simulated requests a second on one core: `python bench/simulate.py [--fleet FILE] [--rate R] [--seconds S] [--repeat N]`.

The first run compiles and is not timed; of the others the quickest and the median are printed. `actor` is an untaught network of the
shipped size: it thinks as long as a taught one.
"""

import time
from pathlib import Path
from statistics import median

import click

from bestserve.policy.learn.run import run
from bestserve.policy.policies import Mind
from bestserve.policy.scene import mind_of
from bestserve.proxy.fleet_file import read
from bestserve.proxy.simulating import demand_of
from bestserve.proxy.workloads import Course, trace_for


@click.command()
@click.option("--fleet", "path", type=click.Path(path_type=Path), default=Path(__file__).parent / "fleets" / "qwen3.yaml")
@click.option("--rate", default=60.0)
@click.option("--seconds", default=300.0)
@click.option("--repeat", default=5)
def main(path: Path, rate: float, seconds: float, repeat: int) -> None:
    """Print a line for each policy."""
    fleet = read({}, path)
    trace = trace_for(Course(f"poisson:{rate}", seconds), demand_of(fleet), 0)
    for name in ("least-loaded", "deadline-greedy", "bid-price", "actor"):
        mind = Mind.of("actor", (0.02, 1.0, 5.0, 1.0, 0.5, 5.0)) if name == "actor" else mind_of(name, fleet.places)
        run(fleet.places, trace, mind)
        took = list[float]()
        for _ in range(repeat):
            begun = time.process_time()
            run(fleet.places, trace, mind)
            took.append(time.process_time() - begun)
        speeds = [len(trace.at) / each for each in took]
        click.echo(f"{path.stem} {name:16} {len(trace.at)} requests  quickest {max(speeds):9,.0f}/s  median {median(speeds):9,.0f}/s")


if __name__ == "__main__":
    main()
