"""`bestserve policy`: what each verb prints."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from bestserve.policy.checkpoint import BadCheckpoint

from . import checkpoints, published
from .published import Pointer, Unpublished


def list_(directory: Path, *, as_json: bool) -> None:
    """All versions. Raises ClickException."""
    with _told():
        pointer, versions = published.current(directory), published.listed(directory)
    if as_json:
        _print_json({"directory": str(directory), "current": asdict(pointer), "versions": [asdict(v) for v in versions]})
        return
    if not versions:
        click.echo(f"nothing was published in {directory}")
        return
    table = Table()
    for name in ("version", "policy", "published", "state", "why"):
        table.add_column(name, overflow="fold")
    for v in versions:
        table.add_row(v.version, v.policy, _date(v.published), v.state, v.why or _why(v.verdict))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    if pointer.version is None:
        click.echo("none of them decides: the config says who does")


def show(directory: Path, named: str | None, *, as_json: bool) -> None:
    """One version. Raises ClickException."""
    with _told():
        version = published.current(directory).version if named is None else published.find(directory, named)
        if version is None:
            raise Unpublished(f"nothing published decides in {directory}: name a version")
        found = next((v for v in published.listed(directory) if v.version == version), None)
        if found is None:
            raise Unpublished(f"{directory} has lost {version}")
        done = [line for line in published.history(directory) if line["version"] == version]
        about, problem = _about(directory, version)
    if as_json:
        _print_json({**asdict(found), "history": done, "about": about, "problem": problem})
        return
    facts = {"version": version, "policy": found.policy, "state": found.state, "why": found.why, "problem": problem}
    for name, fact in facts.items():
        if fact is not None:
            click.echo(f"{name:10}{fact}")
    for line in done:
        click.echo(f"{'did':10}{_date(line['at'])} {line['did']}" + (f": {line['why']}" if line["why"] else ""))
    for name, value in (("about", about), ("verdict", found.verdict)):
        if value:
            click.echo(name + "\n" + orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def publish(directory: Path, file: Path, why: str, *, as_json: bool) -> None:
    """Raises ClickException."""
    with _told():
        checkpoints.load(file)  # which names the file when it is none
        published.publish(directory, file.read_bytes(), {"reason": why})
        _print_pointer(published.current(directory), as_json=as_json)


def pin(directory: Path, named: str, *, as_json: bool) -> None:
    """Raises ClickException."""
    with _told():
        published.load(directory, published.find(directory, named))  # one that cannot be read is not pinned
        _print_pointer(published.pin(directory, named), as_json=as_json)


def unpin(directory: Path, *, as_json: bool) -> None:
    """Raises ClickException."""
    with _told():
        _print_pointer(published.unpin(directory), as_json=as_json)


def rollback(directory: Path, why: str, *, as_json: bool) -> None:
    """Raises ClickException."""
    with _told():
        _print_pointer(published.rollback(directory, why), as_json=as_json)


def _about(directory: Path, version: str) -> tuple[dict[str, Any] | None, str | None]:
    """What the checkpoint says of itself; else why it cannot be used."""
    try:
        return dict(published.load(directory, version).about), None
    except BadCheckpoint as error:
        return None, str(error)


def _why(verdict: Any) -> str:
    """A verdict's own sentence, where it has one."""
    return str(verdict.get("reason", "")) if isinstance(verdict, dict) else ""


def _print_pointer(pointer: Pointer, *, as_json: bool) -> None:
    if as_json:
        _print_json(asdict(pointer))
        return
    how = " on trial" if pointer.trial else ", pinned" if pointer.pinned else ""
    click.echo("nothing published decides: the config says who does" if pointer.version is None else f"{pointer.version} decides{how}")


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"


def _print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


@contextmanager
def _told() -> Iterator[None]:
    """What cannot be done is told, and no trace is shown."""
    try:
        yield
    except (Unpublished, BadCheckpoint) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
