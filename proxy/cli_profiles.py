"""`bestserve profiles` on the command line: its words; what it does lives in `library.py` and `refining.py`."""

from pathlib import Path

import click

from .cli_log import files_of, source


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def profiles(context: click.Context, as_json: bool) -> None:
    """List the profiles that ship: how fast, how good, and where their numbers come from."""
    from .library import run

    if context.invoked_subcommand is None:
        run(as_json=as_json)


@profiles.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def show(name: str, as_json: bool) -> None:
    """Print every number of a profile, shipped or at a path, with its source."""
    from bestserve.profiles import BadProfile

    from .library import show

    try:
        show(name, as_json=as_json)
    except BadProfile as error:
        raise click.ClickException(str(error)) from error


@profiles.command()
@source
@click.option("--base", required=True, metavar="PROFILE", help="The profile to begin from, shipped or at a path.")
@click.option(
    "--backend", "backends", multiple=True, help="Whose answers count; may be given again. Default: those that had the base as profile."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The .toml file to write.")
@click.option(
    "--prior", type=click.FloatRange(0), help="Answers that a number of the profile weighs as much as, instead of what its error says."
)
def refine(
    paths: tuple[Path, ...],
    config: Path | None,
    since: float | None,
    as_json: bool,
    base: str,
    backends: tuple[str, ...],
    out: Path,
    prior: float | None,
) -> None:
    """Take from the replay log how long answers are, task by task, into a copy of a profile. Needs bestserve[quality]."""
    from importlib.util import find_spec

    if find_spec("tomlkit") is None:
        raise click.ClickException("tomlkit: not installed; pip install 'bestserve[quality]'")
    if out.suffix != ".toml" or not out.absolute().parent.is_dir():
        raise click.BadParameter("must be a .toml file in a folder that exists", param_hint="--out")
    from .refining import run

    run(files_of(paths, config, since), base=base, backends=backends, out=out, since=since, prior=prior, as_json=as_json)
