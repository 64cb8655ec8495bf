"""The command line. A verb is a few lines: what it does lives elsewhere, and is imported only when it is asked for."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from .cli_classify import classify
from .cli_log import log
from .cli_policy import policy
from .cli_profile import profile
from .cli_profiles import profiles
from .cli_quality import quality
from .cli_retrain import retrain
from .cli_simulate import evaluate, simulate, train, tune

CONFIG = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bestserve")
def main() -> None:
    """An OpenAI-compatible proxy in front of SGLang servers of different sizes."""


@main.command()
@click.option("--config", "path", type=CONFIG, required=True, help="The YAML file that says what to serve.")
@click.option("--host", help="Address to bind, instead of listen.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to bind, instead of listen.port; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that serve, instead of listen.workers.")
def serve(path: Path, **said: Any) -> None:
    """Run the proxy."""
    reread = partial(_read, path, **said)
    config = _configured(reread)
    listening = _bound(config.listen.host, config.listen.port)
    host, port = listening.getsockname()[:2]
    click.echo(f"bestserve on http://{host}:{port}/v1 for {len(config.backends)} backends", err=True)
    if config.listen.workers == 1:
        from .serve import run

        run(config, listening, reread)
        return
    from .workers import shared_metrics, supervise

    with shared_metrics():
        supervise(config, listening, reread)


@main.command()
@click.option("--config", "path", type=CONFIG, required=True, help="The YAML file to check.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(path: Path, as_json: bool) -> None:
    """Validate a config, ask every backend, and print what would be done. Exit code 1 with the reason when something is wrong."""
    from .check import run

    sys.exit(run(_configured(partial(_read, path)), as_json=as_json))


@main.command("import")
@click.argument("path", type=CONFIG)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def import_(path: Path, as_json: bool) -> None:
    """Turn a LiteLLM proxy's config into one of ours, on standard output; what has no counterpart is said on standard error."""
    from .config import BadConfig
    from .import_verb import run

    try:
        run(str(path), as_json=as_json)
    except BadConfig as error:
        click.echo(str(error), err=True)
        sys.exit(1)


@main.command()
@click.option("--profile", "name", required=True, help="A shipped profile's name, or a path to a .toml file.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to bind; 0 takes a free one.")
@click.option("--time-scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="2 is half as fast.")
@click.option("--model", "served_model", help="Name to serve the model under, instead of the profile's.")
@click.option("--max-queued", type=click.IntRange(0), help="Requests that may wait, instead of the profile's.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the lengths and texts of the answers.")
@click.option("--noise", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Relative spread of the time of a step.")
@click.option("--prefix-cache", is_flag=True, help="Remember prompts, and read again for the profile's prefill_cached_cost.")
@click.option("--exact", is_flag=True, help="Also what SGLang does and OpenAI's own client refuses when it is strict.")
def emulate(name: str, max_queued: int | None, **how: Any) -> None:
    """Stand in for one SGLang server: same dialect, timed by a profile, with filler for text."""
    from dataclasses import replace

    from bestserve.profiles import BadProfile, load

    try:
        profile = load(name)
    except BadProfile as error:
        raise click.ClickException(str(error)) from error
    if max_queued is not None:
        profile = replace(profile, engine=replace(profile.engine, max_queued=max_queued))
    from .emulator import run

    run(profile, **how)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port of the proxy; 0 takes a free one.")
@click.option(
    "--load",
    type=click.FloatRange(0, 1000),
    default=6.0,
    show_default=True,
    help="Requests a second of its own traffic, in the mean; 0 for none.",
)
@click.option("--time-scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="2 is half as fast.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after this long, instead of at Ctrl-C.")
def demo(**how: Any) -> None:
    """Start an emulated fleet and the proxy before it, send it some traffic, and show what goes where."""
    from .demo import run

    sys.exit(run(**how))


main.add_command(classify)
main.add_command(log)
main.add_command(policy)
main.add_command(profile)
main.add_command(profiles)
main.add_command(quality)
main.add_command(evaluate)
main.add_command(retrain)
main.add_command(simulate)
main.add_command(train)
main.add_command(tune)


def _read(path: Path, **said: Any) -> Any:
    """The config file with the command line's words over it. Raises BadConfig."""
    from .config import environment, load

    config = load(environment(), path)
    listen = config.listen.model_copy(update={name: value for name, value in said.items() if value is not None})
    return config.model_copy(update={"listen": listen})


def _configured(read: Any) -> Any:
    """A config, or an end that says what is wrong with it, a problem a line."""
    from .config import BadConfig

    try:
        return read()
    except BadConfig as error:
        click.echo(str(error), err=True)
        sys.exit(1)


def _bound(host: str, port: int) -> Any:
    from .listen import bind

    try:
        return bind(host, port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error
