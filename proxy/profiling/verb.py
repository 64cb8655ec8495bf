"""`bestserve profile`: measures, concludes, writes. What is decided here is only what goes where."""

import asyncio
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bestserve.profiles import BadProfile, find, load
from bestserve.proxy import files
from bestserve.proxy.dialects.sglang import Limits
from bestserve.proxy.errors import BackendFailure
from bestserve.proxy.upstream import Upstream

from . import plots, report, write
from .backend import TIMEOUTS, Lookout, Target, reach
from .conclude import Result, conclude
from .drive import drive
from .refuse import CannotMeasure
from .runs import Header, NotOurs, Raw, Run
from .session import Session, Show

__all__ = ["LIMITS", "Wanted", "run"]

LIMITS = ("max_running", "kv_tokens", "context", "prefill_batch_tokens")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    url: str
    model: str
    out: Path
    minutes: float = 10.0
    api_key: str | None = None
    base: str | None = None  # a profile whose quality, size and price are kept
    against: str | None = None  # a profile to compare with
    resume: bool = False
    as_json: bool = False
    plots: Path | None = None
    longest: int | None = None
    gpu: str | None = None
    params_b: float | None = None
    seed: int | None = None  # None: another each time, lest a backend remembers what the last profile asked
    told: dict[str, int] = field(default_factory=dict)  # limits by name


def run(wanted: Wanted, *, today: date) -> int:
    """Returns the exit code. Raises click.ClickException that says why there is no profile."""
    raw, base, against = _checked(wanted)
    try:
        header, runs, warnings = _measured(wanted, raw)
        result = conclude(header, runs, wanted.told, command=_command(wanted), today=today.isoformat())
        result.warnings[:0] = warnings
        _write(wanted, result, header, base)
    except (CannotMeasure, NotOurs, BadProfile, BackendFailure) as error:
        kept = f"\nWhat was measured is kept in {raw.path}." if raw.path.is_file() else ""
        raise click.ClickException(f"no profile: {error}{kept}") from error
    except KeyboardInterrupt:
        click.echo(f"interrupted; what was measured is kept in {raw.path}: the same command with --resume goes on", err=True)
        return 130
    changed = [] if against is None else write.changes(load(against), result.numbers)
    if wanted.as_json:
        click.echo(orjson.dumps(report.as_json(result, changed, wanted.out), option=orjson.OPT_INDENT_2).decode())
    else:
        report.show(Console(width=None if sys.stdout.isatty() else 120), result, changed, wanted.out)
    return 0


def _checked(wanted: Wanted) -> tuple[Raw, Path | None, Path | None]:
    """The raw file, and the profiles to take from and to compare with; all that can be wrong before anything is measured."""
    missing = [name for name in ("scipy", *(["matplotlib"] if wanted.plots else [])) if find_spec(name) is None]
    if missing:
        raise click.ClickException(f"this needs {' and '.join(missing)}: pip install 'bestserve[profile]'")
    if wanted.out.suffix != ".toml":
        raise click.ClickException(f"--out {wanted.out}: a profile is a .toml file")
    if wanted.plots is not None and not plots.plain(wanted.plots):
        raise click.ClickException(f"--plots {wanted.plots}: ends neither in .html nor in .png")
    raw = Raw(wanted.out.with_suffix(".raw.jsonl"))
    if raw.path.exists() and not wanted.resume:
        raise click.ClickException(f"{raw.path} holds an earlier measurement: go on with --resume, or delete it")
    there = str(wanted.out) if wanted.out.is_file() else None
    try:
        against, base = (None if name is None else find(name) for name in (wanted.against or there, wanted.base or wanted.against or there))
        for path in {path for path in (against, base) if path is not None}:
            load(path)
    except BadProfile as error:
        raise click.ClickException(str(error)) from error
    return raw, base, against


def _measured(wanted: Wanted, raw: Raw) -> tuple[Header, list[Run], list[str]]:
    """What was measured before, if that is to go on, and what there was time for now."""
    header, runs = raw.read() if wanted.resume and raw.path.exists() else (None, [])
    if header is not None and (header.url, header.model) != (wanted.url, wanted.model):
        raise NotOurs(f"{raw.path} was measured at {header.url} of {header.model!r}")
    with _progress(wanted.minutes * 60) as show:
        return asyncio.run(_measure(wanted, raw, header, runs, show))


async def _measure(wanted: Wanted, raw: Raw, header: Header | None, runs: list[Run], show: Show) -> tuple[Header, list[Run], list[str]]:
    upstream = Upstream(wanted.url, timeouts=TIMEOUTS, api_key=wanted.api_key)
    target = Target(upstream, wanted.model)
    try:
        show("asking what it is", 0.0)
        limits = await reach(target)
        if header is None:
            header = Header(wanted.url, wanted.model, target.way.name, asdict(limits))
            raw.begin(header)
        else:
            raw.mend()
        said, budget_s = Limits(**header.told), wanted.minutes * 60
        seed = secrets.randbits(30) if wanted.seed is None else wanted.seed + len(runs)
        lookout = Lookout(target)
        warnings = await _quiet(lookout)
        play = partial(drive, target=target, lookout=lookout)
        session = Session(
            runs,
            said,
            wanted.told,
            play=play,
            keep=raw.add,
            show=show,
            clock=target.clock,
            budget_s=budget_s,
            longest=wanted.longest,
            seed=seed,
        )
        await session.measure()
        return header, runs, warnings
    finally:
        upstream.close()


async def _quiet(lookout: Lookout) -> list[str]:
    """Wait until nobody else uses the backend; what to say of it. Raises CannotMeasure."""
    warnings = []
    if not await lookout.until_quiet():
        warnings.append("the backend was not idle at first; it was measured once it was")
    if not lookout.reports:
        warnings.append("the backend does not report its load: whether others used it meanwhile cannot be told")
    return warnings


@contextmanager
def _progress(budget_s: float) -> Iterator[Show]:
    """A bar over the budget on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s, at most"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=budget_s)
        yield lambda what, spent_s: progress.update(task, description=what, completed=min(spent_s, budget_s))


def _write(wanted: Wanted, result: Result, header: Header, base: Path | None) -> None:
    """The profile, in one move, and the picture."""
    limits = Limits(**header.told)
    gpu = wanted.gpu or limits.device
    given = write.Given(wanted.out.stem, wanted.model, wanted.params_b, gpu, limits.n_gpus)
    text = write.text(write.Facts(given, result.numbers, result.comment), base)
    files.write(wanted.out, text.encode())
    if wanted.plots is not None:
        plots.draw(result, wanted.out.stem, wanted.plots)


def _command(wanted: Wanted) -> str:
    """The command line that matters, without addresses, keys and folders."""
    words: list[Any] = ["bestserve profile --model", wanted.model, "--minutes", f"{wanted.minutes:g}"]
    words += [word for name, value in wanted.told.items() for word in (f"--{name.replace('_', '-')}", value)]
    words += ["--longest", wanted.longest] if wanted.longest else []
    return " ".join(map(str, words))
