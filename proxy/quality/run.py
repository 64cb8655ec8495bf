"""`bestserve quality`, from the command line's words to the exit code."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bestserve.policy.facts import Budget
from bestserve.profiles import TASKS, BadProfile, load
from bestserve.proxy.config import environment

from . import merge as merging
from . import prompts as sets
from . import report, sandbox
from .ask import Asker, Hopeless
from .budgets import is_free, parse
from .checks import runs_code
from .ledger import Ledger
from .prompts import BadPrompt, Prompt
from .survey import Survey, questions
from .tally import tally

NEEDED = ("jsonschema", "py3langid", "regex", "tomlkit")
INTERRUPTED = 130
CUT_UNSAID = 0.05
"""Share of answers under no budget that may break off before it is remarked on."""


def run(
    *,
    url: str,
    model: str,
    files: Sequence[Path],
    tasks: str | None,
    budgets: str,
    per_task: int | None,
    concurrency: int,
    longest: int,
    body: str,
    key_env: str | None,
    answers: Path | None,
    fresh: bool,
    merge: str | None,
    out: Path | None,
    prior: float | None,
    as_json: bool,
) -> int:
    """Returns the exit code: 1 when a prompt got no answer."""
    try:
        _need()
        tried = parse(budgets)
        profile = _profile(merge, out, tried)
        prompts, remarks = _runnable(_prompts(files, tasks, per_task))
        asker = Asker(url, model, _key(key_env), longest, _object(body))
        ledger = Ledger(answers or Path(f"quality-{re.sub(r'[^A-Za-z0-9.-]+', '-', model)}.jsonl"), fresh=fresh)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    try:
        survey = Survey(asker, ledger, questions(asker, prompts, tried))
        if not _surveyed(survey, concurrency):
            return INTERRUPTED
    except Hopeless as hopeless:
        raise click.ClickException(f"{url}: {hopeless}{_kept(ledger)}") from hopeless
    finally:
        ledger.close()
    seen = tally(survey.rows, tried)
    merged = merging.merge(profile, seen, command=_command(files), own=bool(files), prior=prior) if profile else []
    if profile and merge and out:
        _written(merge, merged, out)
        remarks += [f"{path} was measured before: merge into the profile that it came from" for path in merging.again(profile, merged)]
    remarks += _cut(survey, seen.free, longest) + [f"{what}: {why}" for what, why in survey.failed.items()]
    if as_json:
        told = {"url": url, "model": model, **report.as_dict(seen, merged), "remarks": remarks, "answers": str(ledger.path)}
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        report.show(seen, merged)
        for remark in remarks:
            click.echo(f"remark: {remark}")
        click.echo(f"answers: {ledger.path}" + (f"   profile: {out}" if out else ""))
    return 1 if survey.failed else 0


def _need() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)}: not installed; pip install 'bestserve[quality]'")


def _profile(merge: str | None, out: Path | None, tried: tuple[Budget, ...]) -> Any:
    """The profile to merge into, read before anything is asked."""
    if (merge is None) != (out is None):
        raise ValueError("--merge and --out go together: a profile to begin from, and the file to write")
    if merge is None or out is None:
        return None
    if out.suffix != ".toml" or not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: must be a .toml file in a folder that exists")
    if not any(map(is_free, tried)):
        raise ValueError("--merge needs the budget none among --budgets: a profile holds the quality of answers that nothing limits")
    return load(merge)


def _prompts(files: Sequence[Path], tasks: str | None, per_task: int | None) -> list[Prompt]:
    wanted = [task.strip() for task in tasks.split(",")] if tasks else list(TASKS)
    for task in wanted:
        if task not in TASKS:
            raise ValueError(f"--tasks {task}: not one of {', '.join(TASKS)}")
    found = [prompt for file in files for prompt in sets.load(file)] if files else sets.shipped(wanted)
    twice = {prompt.id for prompt in found if sum(other.id == prompt.id for other in found) > 1}
    if twice:
        raise BadPrompt(f"id {min(twice)!r} stands in more than one of {', '.join(map(str, files))}")
    chosen = sets.select([prompt for prompt in found if prompt.task in wanted], per_task)
    if not chosen:
        raise BadPrompt(f"no prompt of {', '.join(wanted)} in {', '.join(map(str, files))}")
    return chosen


def _runnable(prompts: list[Prompt]) -> tuple[list[Prompt], list[str]]:
    """The prompts that can be checked here, and what has to be said about the others."""
    code = [prompt for prompt in prompts if runs_code(prompt.check)]
    lack = sandbox.lack() if code else None
    if lack is None:
        return prompts, []
    rest = [prompt for prompt in prompts if not runs_code(prompt.check)]
    if not rest:
        raise ValueError(lack)
    return rest, [f"{len(code)} prompts were left out: {lack}"]


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    value = environment().get(variable)
    if not value:
        raise ValueError(f"--key-env {variable}: no such variable in the environment")
    return value


def _object(body: str) -> Mapping[str, Any]:
    try:
        extra = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"--body: not JSON: {error}") from error
    if not isinstance(extra, dict):
        raise ValueError("--body: must be a JSON object")  # noqa: TRY004  said to whoever typed it
    return extra


def _surveyed(survey: Survey, concurrency: int) -> bool:
    """Run it under a progress bar. False when it was interrupted."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("answers", total=len(survey.questions), completed=survey.n_known)
        try:
            asyncio.run(survey.run(concurrency, lambda: progress.advance(bar)))
        except KeyboardInterrupt:
            click.echo(f"interrupted at {survey.n_known} of {len(survey.questions)} answers{_kept(survey.ledger)}", err=True)
            return False
    return True


def _cut(survey: Survey, free: int | None, longest: int) -> list[str]:
    """What has to be said when the bound on every answer was felt where no budget should be."""
    rows = [row for (_, place), row in survey.rows.items() if place == free]
    n_cut = sum(row.cut for row in rows)
    if n_cut <= CUT_UNSAID * len(rows):
        return []
    return [f"{n_cut} of {len(rows)} answers under none broke off at --longest {longest} and count as they are; a larger one lets them end"]


def _kept(ledger: Ledger) -> str:
    return f"; {len(ledger.known)} answers are kept in {ledger.path}, and the same command goes on from there" if ledger.known else ""


def _command(files: Sequence[Path]) -> str:
    of = ", ".join(file.name for file in files) if files else "shipped prompts"
    return f"{merging.MARKS[0]} on {time.strftime('%Y-%m-%d')}, {of}"


def _written(base: str, merged: list[merging.Merged], out: Path) -> None:
    try:
        merging.write(base, merged, out)
    except (OSError, BadProfile) as error:
        raise click.ClickException(f"{out}: {error}") from error
