"""`bestserve simulate` on the command line: its words; what it does lives in `simulating`."""

import sys
from pathlib import Path
from typing import Any

import click

FILE = click.Path(dir_okay=False, path_type=Path)
WORKLOAD = (
    "poisson:RATE, bursty:RATE[:CV[:gamma|weibull]], unpredictable:LOW-HIGH[:DWELL], diurnal:LOW-HIGH[:PERIOD], a trace file, or a replay"
    " log (a segment, or a directory of them)."
)
POLICY = (
    "pretrained, FILE.ckpt, random, least-loaded, deadline-greedy, weighted-score, bid-price, static:BACKEND[@BUDGET], or"
    " static-all:BACKEND[@BUDGET]: the same GPUs all running that model."
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
            click.option(
                "--tasks-told",
                "teller",
                type=click.Choice(["modelled", "true", "classified", "hard", "none"]),
                default="modelled",
                show_default=True,
                help="Who says what a request's task is: a model of a classifier, somebody who knows, the shipped classifier with its"
                " probabilities or with its likeliest task alone, or nobody.",
            ),
            click.option(
                "--wrong",
                type=click.FloatRange(1, 10),
                default=1.0,
                show_default=True,
                help="Engines are truly other than their profiles say: each constant by up to this factor, drawn anew for each seed.",
            ),
            click.option(
                "--trouble",
                "troubles",
                multiple=True,
                metavar="WHAT",
                help="NAME=down@FROM-TO, or NAME=2.5x@FROM-TO for so many times slower, in seconds. May be given again.",
            ),
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
@click.option("--log", type=click.Path(file_okay=False, path_type=Path), help="Also write what a proxy would log, into this folder.")
@click.option(
    "--feedback", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="With --log: share of answers that are scored."
)
@click.option(
    "--explore",
    type=click.FloatRange(0, 0.2),
    default=0.0,
    show_default=True,
    help="Share of requests decided at random among the possible.",
)
def simulate(**how: Any) -> None:
    """Run one policy on one workload in virtual time."""
    from .simulating import run

    sys.exit(run(**how))


def contested(command: Any) -> Any:
    """The options of everything that plays many matches."""
    command = click.option("--jobs", type=click.IntRange(1, 256), help="Processes. Default: one for each core.")(command)
    return click.option("--workload", "workloads", multiple=True, required=True, help=WORKLOAD + " May be given again.")(course(command))


@click.command()
@contested
@click.option("--policy", "policies", multiple=True, required=True, help=POLICY + " static-all: each of these. May be given again.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many traces of each workload.")
@click.option("--seed", "first_seed", type=click.IntRange(0), default=1000, show_default=True, help="The first one.")
@click.option("--tuned", type=FILE, help="Parameters that `bestserve tune` found.")
@click.option("--report", type=FILE, help="Also write a page with plots that needs nothing else; .html.")
def evaluate(**how: Any) -> None:
    """Compare policies on workloads over seeds, beside what no policy can beat."""
    from .evaluating import run

    sys.exit(run(**how))


@click.command()
@contested
@click.option("--policy", "policies", multiple=True, help="deadline-greedy, weighted-score or bid-price. Default: all of them.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=2, show_default=True, help="How many traces of each workload.")
@click.option("--seed", "first_seed", type=click.IntRange(0), default=0, show_default=True, help="The first one.")
@click.option("--rounds", type=click.IntRange(0, 20), default=3, show_default=True, help="Closer looks around the best of a grid.")
@click.option("--out", type=FILE, help="The file to write, for `bestserve evaluate --tuned`.")
def tune(**how: Any) -> None:
    """Find the parameters of the reference policies that earn most."""
    from .tuning import run

    sys.exit(run(**how))


@click.command()
@click.option(
    "--fleet", "fleets", multiple=True, type=FILE, help="A fleet's YAML file; may be given again. Default: any fleet of shipped profiles."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder of the training.")
@click.option("--iterations", type=click.IntRange(0), default=60, show_default=True, help="Of the search for the actor.")
@click.option(
    "--search-scenes", type=click.IntRange(1), default=24, show_default=True, help="Played in each iteration by every policy tried."
)
@click.option("--scenes", type=click.IntRange(10), default=1000, show_default=True, help="Played for the critic.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes. Default: one for each core.")
@click.option("--resume", is_flag=True, help="Go on where an earlier call stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(**how: Any) -> None:
    """Train a policy in simulation, and write it as a checkpoint."""
    from .simulating import needs_train

    needs_train("training")
    from .training import options, run

    sys.exit(run(options(**how)))
