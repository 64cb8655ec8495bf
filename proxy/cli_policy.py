"""`bestserve policy VERB`: the command line of the directory of published policies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


@click.group()
def policy() -> None:
    """Look at published policies, and choose among them. Running proxies follow within seconds."""


def _where(verb: Callable[..., Any]) -> Callable[..., Any]:
    """What every verb is told."""
    verb = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(verb)
    verb = click.option(
        "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="The directory; ./policies unless said."
    )(verb)
    return click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Take the directory from this config file.")(verb)


@policy.command("list")
@_where
def list_(config: Path | None, directory: Path | None, as_json: bool) -> None:
    """Every version that was published, the newest first, and what became of it."""
    from . import policy_verbs

    policy_verbs.list_(_directory(config, directory), as_json=as_json)


@policy.command()
@click.argument("version", required=False)
@_where
def show(version: str | None, config: Path | None, directory: Path | None, as_json: bool) -> None:
    """One version with its verdict and what was done with it; without a name, the one that decides."""
    from . import policy_verbs

    policy_verbs.show(_directory(config, directory), version, as_json=as_json)


@policy.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--why", default="by hand", show_default=True, help="The reason, for its verdict.")
@_where
def publish(file: Path, why: str, config: Path | None, directory: Path | None, as_json: bool) -> None:
    """Add a checkpoint that `bestserve train` wrote. Running proxies try it in turns with what stands."""
    from . import policy_verbs

    policy_verbs.publish(_directory(config, directory), file, why, as_json=as_json)


@policy.command()
@click.argument("version")
@_where
def pin(version: str, config: Path | None, directory: Path | None, as_json: bool) -> None:
    """Let one version decide, at once and without a trial, whatever is published meanwhile."""
    from . import policy_verbs

    policy_verbs.pin(_directory(config, directory), version, as_json=as_json)


@policy.command()
@_where
def unpin(config: Path | None, directory: Path | None, as_json: bool) -> None:
    """Follow what is published again."""
    from . import policy_verbs

    policy_verbs.unpin(_directory(config, directory), as_json=as_json)


@policy.command()
@click.option("--why", default="by hand", show_default=True, help="The reason, for the history.")
@_where
def rollback(why: str, config: Path | None, directory: Path | None, as_json: bool) -> None:
    """Go back to what decided before."""
    from . import policy_verbs

    policy_verbs.rollback(_directory(config, directory), why, as_json=as_json)


def _directory(config: Path | None, directory: Path | None) -> Path:
    if config is None:
        return directory or Path("policies")
    if directory is not None:
        raise click.UsageError("Either --config or --dir, not both.")
    from .config import BadConfig, environment, load

    try:
        return load(environment(), config).policy.dir
    except BadConfig as error:
        raise click.ClickException(str(error)) from error
