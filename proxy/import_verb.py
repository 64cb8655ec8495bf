"""`bestserve import`: prints the config; what has no counterpart goes to standard error."""

import click
import orjson

from .config import environment, text_of
from .importing import translate


def run(path: str, *, as_json: bool) -> None:
    """Print what became of a LiteLLM config. Raises BadConfig."""
    made = translate(text_of(path), environment(), source=path)
    for key, why in made.unmatched:
        click.echo(f"{path}: {key}: {why}", err=True)
    if as_json:
        said = {"config": made.config, "no_counterpart": [{"key": key, "why": why} for key, why in made.unmatched]}
        click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(made.yaml(), nl=False)
