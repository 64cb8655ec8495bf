"""`bestserve profile` on the command line: its words; what it does lives in `profiling/`."""

import sys
from pathlib import Path
from typing import Any

import click

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--url", required=True, help="Of the backend, as in backends[].url.")
@click.option("--model", required=True, help="As the backend serves it.")
@click.option("--out", type=FILE, required=True, help="The profile to write; what was measured goes to FILE.raw.jsonl beside it.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Time to measure, at most.")
@click.option("--key-env", help="Environment variable that holds the backend's API key.")
@click.option("--base", help="A profile whose quality, lengths, size and price are kept; default: --against, else FILE as it is.")
@click.option("--against", help="A profile to compare with; default: FILE as it is.")
@click.option("--resume", is_flag=True, help="Go on with what an interrupted run left.")
@click.option("--plots", type=FILE, help="Draw the points against the fit: a .html or a .png file.")
@click.option(
    "--longest", type=click.IntRange(64), help="Tokens of the longest prompt to measure; default: what is worth the time, up to 8192."
)
@click.option("--gpu", help="What it runs on, where the backend does not say it.")
@click.option("--params-b", type=click.FloatRange(0, min_open=True), help="Billions of parameters, where the model's name does not say it.")
@click.option("--max-running", type=click.IntRange(1), help="Instead of what the backend says.")
@click.option("--kv-tokens", type=click.IntRange(1), help="Instead of what the backend says.")
@click.option("--context", type=click.IntRange(1), help="Instead of what the backend says.")
@click.option("--prefill-batch-tokens", type=click.IntRange(1), help="Instead of what the backend says.")
@click.option("--seed", type=int, help="Of prompts and of their order; without it, others each time.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def profile(key_env: str | None, **said: Any) -> None:
    """Measure a backend that nobody else uses, and write its profile."""
    from datetime import UTC, datetime

    from .config import environment
    from .profiling.verb import LIMITS, Wanted, run

    if key_env and not environment().get(key_env):
        raise click.ClickException(f"--key-env {key_env}: there is no such variable in the environment")
    told = {name: value for name in LIMITS if (value := said.pop(name)) is not None}
    wanted = Wanted(api_key=environment().get(key_env) if key_env else None, told=told, **said)
    sys.exit(run(wanted, today=datetime.now(UTC).date()))
