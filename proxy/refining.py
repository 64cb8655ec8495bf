"""`bestserve profiles refine`: how long the answers of one's own traffic are, from the replay log into a copy of a profile.

Every answer counts whose length says something of the model: one that ended by itself, with its length; one that a cap broke off, whoever
had set it, as longer than that. Those asked to be short, and those that did not come to their end, do not count.
"""

import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import click
import orjson
from rich.console import Console
from rich.table import Table

from bestserve.policy import estimate
from bestserve.policy.facts import Ending
from bestserve.policy.record import BadRecord, Line
from bestserve.policy.task import name_of
from bestserve.profiles import TASKS, Profile, load

from .entries import Kept, Problem, read
from .log_verbs import complain, watched
from .quality.merge import Merged, Weigher, again, write

MOST = 5000
"""Answers of each task that are looked at, the latest."""

COMMAND = "bestserve profiles refine"


Wanted = Callable[[str, str], bool]
"""A backend's name and its profile's -> whether its answers count."""


class Answer(NamedTuple):
    """How long one was."""

    tokens: float
    cut: bool


class Found(NamedTuple):
    """What a log holds of some backends."""

    answers: dict[str, deque[Answer]]  # by task
    left: Counter[str]  # answers that do not count, by the reason
    others: Counter[str]  # how many of other backends


def run(
    files: list[Path], *, base: str, backends: tuple[str, ...], out: Path, since: float | None, prior: float | None, as_json: bool
) -> None:
    """Write the profile, and say what became longer or shorter. `backends` are those whose answers count; where none is named, all that had
    the base as their profile. Raises ClickException."""
    try:
        profile = load(base)
        found = gather(files, lambda name, its: name in backends if backends else its == profile.name, since)
        numbers = _numbers(profile, found, " --backend ".join([COMMAND, *backends]), prior)
        write(base, numbers, out)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    twice = again(profile, numbers)
    if as_json:
        said = {n.path: {"before": n.before, "seen": n.measured, "after": n.after, "source": n.fields["source"]} for n in numbers}
        told = {"path": str(out), "numbers": said, "left_out": found.left, "seen_before": twice}
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    _print(found, numbers, out)
    for path in twice:
        click.echo(f"remark: {path} was measured before: refine the profile that it came from, or the same answers may count twice")


def _numbers(profile: Profile, found: Found, command: str, prior: float | None) -> list[Merged]:
    """The lengths that change. Raises ValueError where none does."""
    weigh, numbers = Weigher(profile, command, prior), []
    for task in TASKS:
        seen = estimate.lengths(*zip(*found.answers[task], strict=True)) if found.answers[task] else None
        if seen is not None:
            numbers.append(weigh.length(f"lengths.{task}", profile.lengths[task], seen))
    if not numbers:
        left, others = (", ".join(f"{n} {of}" for of, n in these.most_common(8)) for these in (found.left, found.others))
        said = f"the log has no task with three answers that ended by themselves, of these backends and the profile {profile.name}"
        raise ValueError(said + (f"; left out: {left}" if left else "") + (f"; of others: {others}" if others else ""))
    return numbers


def gather(files: Iterable[Path], wanted: Wanted, since: float | None) -> Found:
    """The answers of the backends that are wanted. What cannot be read is told on standard error, and passed over."""
    found = Found(defaultdict(lambda: deque(maxlen=MOST)), Counter(), Counter())
    for placed in read(watched(files, "reading"), complain):
        entry = placed.entry
        if not isinstance(entry, Kept) or (since is not None and entry.wall < since):
            continue
        try:
            _count(found, entry.line(), wanted)
        except BadRecord as error:
            complain(Problem(placed.path, placed.number, str(error)))
    return found


def _count(found: Found, line: Line, wanted: Wanted) -> None:
    action, outcome = line.decision["action"], line.outcome
    if action is None:  # shed
        return
    name, profiles = action["backend"], dict(zip(line.view["backends"], line.view["profiles"], strict=True))
    if not wanted(name, profiles[name]):
        found.others[f"{name} ({profiles[name]})"] += 1
        return
    task, tokens = name_of(line.ask.task), (outcome.completion_tokens or 0) // line.ask.n
    reason = _does_not_count(line, task, tokens)
    if reason is None:
        found.answers[task].append(Answer(float(tokens), outcome.finish_reason == "length"))
    else:
        found.left[reason] += 1


def _does_not_count(line: Line, task: str, tokens: int) -> str | None:
    if line.outcome.ending is not Ending.DONE or tokens < 1:
        return "without an end"
    if line.seen is None:
        return "in lines too old to say whether they were asked to be short"
    n_budgets = len(line.seen.caps.told)  # actions are every backend's with every budget, backend by backend
    if line.seen.caps.told[line.decision["index"] % n_budgets]:
        return "asked to be short"
    return None if task in TASKS else "of no clear task"


def _print(found: Found, numbers: list[Merged], out: Path) -> None:
    table = Table(title="lengths, in tokens (median)", title_justify="left")
    for name in ("task", "answers", "cut", "profile", "seen", "refined"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for number in numbers:
        task = number.path.removeprefix("lengths.")
        answers = found.answers[task]
        cells = (f"{len(answers)}", f"{sum(a.cut for a in answers)}", *(f"{x:.0f}" for x in (number.before, number.measured, number.after)))
        table.add_row(task, *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    left = ", ".join(f"{n} {why}" for why, n in found.left.items()) or "none"
    click.echo(f"left out: {left}   profile: {out}")
