"""`bestserve simulate` on the command line: its words; what it does lives in `simulating`."""

import sys
from pathlib import Path
from typing import Any

import click

FILE = click.Path(dir_okay=False, path_type=Path)
WORKLOAD = "poisson:RATE, bursty:RATE[:CV[:gamma|weibull]], unpredictable:LOW-HIGH[:DWELL], diurnal:LOW-HIGH[:PERIOD], or a trace file."
POLICY = (
    "random, least-loaded, deadline-greedy, weighted-score, bid-price, static:BACKEND[@BUDGET], or static-all:BACKEND[@BUDGET]: the same"
    " GPUs all running that model."
)


def course(command: Any) -> Any:
    """The options of everything that runs workloads."""
    for option in reversed(
        (
            click.option("--fleet", "path", type=FILE, required=True, help="The YAML file of the fleet, or a config to serve with."),
            click.option(
                "--rate-scale",
                type=click.FloatRange(0, min_open=True),
                default=1.0,
                show_default=True,
                help="Multiplies rates; a recorded trace is played so many times as fast.",
            ),
            click.option(
                "--duration",
                "seconds",
                type=click.FloatRange(0, min_open=True),
                help="Seconds of arrivals. Default: 600, or the whole trace.",
            ),
            click.option("--task-mix", metavar="MIX", help="E.g. code=0.3,qa=0.7; code=1:chat=1 drifts from one to the other."),
            click.option("--skip-bad-rows", "skip_bad", is_flag=True, help="Leave out rows of a trace that cannot be read, and say so."),
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        )
    ):
        command = option(command)
    return command


@click.command()
@course
@click.option("--workload", required=True, help=WORKLOAD)
@click.option("--policy", required=True, help=POLICY)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of arrivals, lengths and choices.")
def simulate(**how: Any) -> None:
    """Run one policy on one workload in virtual time."""
    from .simulating import run

    sys.exit(run(**how))
