"""`bestserve quality` on the command line: its words; what it does lives in `quality/`."""

import sys
from pathlib import Path
from typing import Any

import click

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--url", required=True, help="Where the backend listens, e.g. http://127.0.0.1:30000.")
@click.option("--model", required=True, help="The model's name there; a backend's name, behind a proxy.")
@click.option(
    "--prompts", "files", type=FILE, multiple=True, help="A prompt set of your own, JSONL; may be given again. Default: the shipped ones."
)
@click.option("--tasks", help="Only these, e.g. code,qa.")
@click.option("--budgets", default="none", show_default=True, help='E.g. none,384:"Answer in at most 200 words.",128.')
@click.option("--per-task", type=click.IntRange(1), help="At most so many prompts of each task, spread over difficulty.")
@click.option("--merge", metavar="PROFILE", help="Take this profile's numbers as a prior; needs --out.")
@click.option("--out", type=FILE, help="The .toml file to write the merged profile to.")
@click.option(
    "--prior", type=click.FloatRange(0), help="Answers that a number of the profile weighs as much as, instead of what its error says."
)
@click.option("--key-env", metavar="VAR", help="The environment variable that holds the API key.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at once.")
@click.option("--longest", type=click.IntRange(16), default=2048, show_default=True, help="Tokens of an answer at most, under none too.")
@click.option("--body", default="{}", help='Fields for every request, e.g. {"chat_template_kwargs": {"enable_thinking": false}}.')
@click.option("--answers", type=FILE, help="Where scored answers are kept. Default: quality-MODEL.jsonl in this folder.")
@click.option("--fresh", is_flag=True, help="Forget the answers that are kept, and ask everything anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def quality(**how: Any) -> None:
    """Score a backend per task on prompts with checkable answers, under each budget; merge it with what a profile says.

    Answers are kept as they come: after an interruption the same command goes on.
    """
    from .quality.run import run

    sys.exit(run(**how))
