"""`bestserve retrain` on the command line: its words; what it does lives in `retraining`."""

import sys
from pathlib import Path
from typing import Any

import click

from .cli_log import moment

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--config", type=FILE, required=True, help="The config that is served with: its fleet, its log, its directory of policies.")
@click.option("--since", callback=moment, help="Learn from what is younger: 30m, 24h, 7d, or a date. Default: the whole log.")
@click.option("--dry-run", is_flag=True, help="Do everything but publish.")
@click.option("--report", type=FILE, help="Also write a page with plots that needs nothing else; .html.")
@click.option("--out", type=FILE, help="Also write the challenger's checkpoint here, published or not; .ckpt.")
@click.option("--iterations", type=click.IntRange(0), default=16, show_default=True, help="Of the search for a better policy.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes. Default: one for each core.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def retrain(**how: Any) -> None:
    """Learn from the replay log: calibrate, improve, judge, and publish what is proven better."""
    from .simulating import needs_train

    needs_train("retraining")
    from .retraining import options, run

    sys.exit(run(options(**how)))
