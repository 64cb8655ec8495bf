"""`bestserve log VERB`: the command line of the replay log."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .since import since as seconds

PATH = click.Path(exists=True, path_type=Path)


@click.group()
def log() -> None:
    """Look at the replay log, at its directory or at single files. What a running proxy writes can be read meanwhile."""


def moment(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """The callback of options like --since: seconds since 1970."""
    try:
        return None if text is None else seconds(text, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def source(verb: Callable[..., Any]) -> Callable[..., Any]:
    """What every verb that reads the log is told."""
    verb = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(verb)
    verb = click.option("--since", callback=moment, help="Only what is younger: 30m, 24h, 7d, or a date.")(verb)
    verb = click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Take the directory from this config file.")(verb)
    return click.argument("paths", nargs=-1, type=PATH)(verb)


def _filter(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Which records are looked for."""
    verb = click.option("--ending", help="How they ended: done, refused, broke, abandoned, rejected, shed.")(verb)
    verb = click.option("--backend", help="Only this backend's.")(verb)
    verb = click.option("--key", help="Only this key's, by its name.")(verb)
    return click.option("--decision", help="Only this one, by the id from x-bestserve-decision.")(verb)


@log.command()
@source
def stats(paths: tuple[Path, ...], config: Path | None, since: float | None, as_json: bool) -> None:
    """How much there is, of what, and what came of it."""
    from . import log_verbs

    log_verbs.stats(files_of(paths, config, since), since=since, as_json=as_json)


@log.command()
@source
@_filter
@click.option("-n", "most", type=click.IntRange(1), default=20, show_default=True, help="At most so many, the latest.")
@click.option("--whole", is_flag=True, help="Each with all that was recorded.")
def show(paths: tuple[Path, ...], config: Path | None, since: float | None, as_json: bool, most: int, whole: bool, **asked: Any) -> None:
    """The latest records, each on a line."""
    from . import log_verbs
    from .log_row import wanted

    log_verbs.show(files_of(paths, config, since), wanted(**asked), since=since, most=most, whole=whole, as_json=as_json)


@log.command()
@source
def verify(paths: tuple[Path, ...], config: Path | None, since: float | None, as_json: bool) -> None:
    """Read every line and follow the numbers of every writer. Exit code 1 when something is wrong beyond a torn last line."""
    from . import log_verbs

    sys.exit(log_verbs.verify(files_of(paths, config, since), as_json=as_json))


@log.command()
@source
@_filter
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A file that ends in .csv or .parquet.")
def export(paths: tuple[Path, ...], config: Path | None, since: float | None, as_json: bool, out: Path, **asked: Any) -> None:
    """Write the records as a flat table. Parquet needs bestserve[export]."""
    from . import log_verbs
    from .log_row import wanted

    if out.suffix not in (".csv", ".parquet"):
        raise click.BadParameter("must end in .csv or .parquet", param_hint="--out")
    log_verbs.export(files_of(paths, config, since), out, wanted(**asked), since=since, as_json=as_json)


def files_of(paths: tuple[Path, ...], config: Path | None, since: float | None) -> list[Path]:
    """What to read. Raises ClickException."""
    from .segments import files

    try:
        return sorted(files([*paths, *_configured(config, paths)], since=since), key=lambda path: path.name)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


def _configured(path: Path | None, paths: tuple[Path, ...]) -> list[Path]:
    if path is None:
        if not paths:
            raise click.UsageError("Name the log's directory, or the config with --config.")
        return []
    from .config import BadConfig, environment, load

    try:
        config = load(environment(), path)
    except BadConfig as error:
        raise click.ClickException(str(error)) from error
    if config.replay is None:
        raise click.ClickException(f"{path} keeps no replay log")
    return [config.replay.dir]
