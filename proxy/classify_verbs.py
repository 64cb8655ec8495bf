"""What `bestserve classify` does: reads files, asks the classifier or trains one, prints tables for people and JSON for programs."""

import gzip
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bestserve.policy.classify import BadWeights, Classifier
from bestserve.policy.facts import TASKS
from bestserve.policy.features import Prompt
from bestserve.policy.learn import measure, prompts, tasks, traffic
from bestserve.policy.learn.linear import Args
from bestserve.policy.learn.patterns import Grammar, parse
from bestserve.policy.learn.prompts import BadRow, Row

from . import segments, weights
from .entries import Problem
from .signals import joined

CHILDREN = {"en": 1000}
"""Prompts that the templates of a language make for each task."""
OTHER_CHILDREN = 400


def tell(text: str, *, before: str, system: str, path: Path | None, as_json: bool) -> int:
    """One prompt."""
    classifier, prompt = _classifier(path), Prompt.of(text, before, system)
    guess = classifier.guess(prompt)
    names = classifier.manifest.classes
    said: dict[str, Any] = {
        "task": guess.name,
        "probabilities": dict(sorted(zip(names, guess.classes, strict=True), key=lambda item: -item[1])),
        "tokens": {"median": guess.length.median, "q90": guess.length.median * float(np.exp(1.2816 * guess.length.sigma))},
        "features": dict(classifier.strongest(prompt, max(zip(guess.classes, names, strict=True))[1])),
    }
    if as_json:
        click.echo(orjson.dumps(said))
        return 0
    console = Console()
    for name, p in list(said["probabilities"].items()):
        console.print(f"{name:>12} {p:6.1%} {'█' * round(40 * p)}", highlight=False)
    console.print(f"\nabout {said['tokens']['median']:.0f} tokens, nine in ten below {said['tokens']['q90']:.0f}\n", highlight=False)
    for feature, weight in said["features"].items():
        console.print(f"{weight:+6.2f}  {feature!r}", highlight=False, markup=False)
    return 0


def train(
    *,
    own: Path,
    files: Sequence[Path],
    logs: Sequence[Path],
    path: Path | None,
    add: Sequence[str],
    merge: Sequence[str],
    out: Path,
    confusion: Path | None,
    size: int,
    folds: int,
    seed: int,
    as_json: bool,
) -> int:
    """Train, write, and say how well held-out rows are told."""
    try:
        made_of, into = prompts.made_of(add, merge)
        rows = prompts.renamed(own_rows(own, seed), into)
        rows += prompts.renamed(_rows(files, tuple(dict.fromkeys((*TASKS, *made_of)))), into)
        rows += _heard(logs, path, made_of)
        with _progress("fitting") as step:
            came = tasks.trained(prompts.distinct(rows), made_of, _about(rows, seed), Args(size=size, seed=seed), step, folds)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    out.write_bytes(came.weights)
    if confusion is not None and came.confusion is not None:
        confusion.write_bytes(came.confusion)
    if as_json:
        click.echo(orjson.dumps({"out": str(out), "bytes": len(came.weights), "rows": len(rows), **came.report}))
        return 0
    _show(came.report, "held-out rows")
    click.echo(f"wrote {out}: {len(came.weights):,} bytes, from {len(rows):,} rows")
    return 0


def report(*, files: Sequence[Path], path: Path | None, as_json: bool) -> int:
    """Say how well labelled rows are told."""
    classifier = _classifier(path)
    try:
        rows = _rows(files, classifier.names)
    except BadRow as error:
        raise click.ClickException(str(error)) from error
    guesses = [classifier.guess(row.prompt) for row in rows]
    labelled = [i for i, row in enumerate(rows) if row.task in classifier.manifest.classes]
    if not labelled:
        raise click.ClickException("no row is labelled with a class of this classifier")
    p = np.array([guesses[i].classes for i in labelled], np.float32)
    expected, sigma = (np.log([g.length.median for g in guesses]), np.array([g.length.sigma for g in guesses]))
    said = {
        **tasks.told(p, [rows[i] for i in labelled], classifier.manifest.classes),
        "length": measure.lengths(expected.astype(np.float32), sigma.astype(np.float32), rows),
    }
    if as_json:
        click.echo(orjson.dumps(said))
    else:
        _show(said, "given rows")
    return 0


def own_rows(folder: Path, seed: int) -> list[Row]:
    """The repository's seeds, and the children of its templates. Raises click.ClickException where they are not."""
    seeds, templates = sorted(folder.glob("seeds/*.jsonl")), sorted(folder.glob("templates/*.txt"))
    if not seeds or not templates:
        raise click.ClickException(f"{folder}: holds no seeds/*.jsonl or templates/*.txt; --own names the `data` folder of a checkout")
    rows = [row for path in seeds for row in prompts.read(_lines(path), str(path), TASKS, source="seeds")]
    grammars = {path.stem: _grammar(path) for path in templates}
    many = {lang: CHILDREN.get(lang, OTHER_CHILDREN) for lang in grammars}
    return rows + prompts.multiplied(grammars, many, np.random.default_rng(seed))


def _heard(logs: Sequence[Path], path: Path | None, made_of: Mapping[str, object]) -> list[Row]:
    """Rows of the signals in replay logs. Raises ClickException where there are none, ValueError for what is no signal."""
    if not logs:
        return []
    if tuple(made_of) != TASKS:
        raise ValueError("--log: signals are of the built-in tasks, and cannot be learnt from beside --add or --merge")
    found = [each.line.signal for each in joined(segments.files(logs), _passed_over)]
    rows, left = traffic.rows_of([signal for signal in found if signal is not None], _classifier(path))
    click.echo(f"{len(rows)} signals in {len(found)} records" + (f"; {left} of other weights left out" if left else ""), err=True)
    if not rows:
        raise click.ClickException(
            "the log holds no signal of these weights; they are written with `classify: {learn: true}`"
            + (", and --weights names the classifier that read the traffic" if left else "")
        )
    return rows


def _passed_over(problem: Problem) -> None:
    if not problem.torn:
        click.echo(f"passed over: {problem}", err=True)


def _grammar(path: Path) -> Grammar:
    try:
        return parse(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _rows(files: Sequence[Path], names: Sequence[str]) -> list[Row]:
    return [row for path in files for row in prompts.read(_lines(path), str(path), names)]


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (OSError, EOFError) as error:
        raise click.ClickException(f"{path}: cannot be read: {error}") from error


def _classifier(path: Path | None) -> Classifier:
    try:
        return weights.shipped() if path is None else weights.load(path)
    except BadWeights as error:
        raise click.ClickException(str(error)) from error


def _about(rows: Sequence[Row], seed: int) -> dict[str, object]:
    sources = {row.source for row in rows}
    return {"seed": seed, "rows": {source: sum(row.source == source for row in rows) for source in sorted(sources)}}


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """A bar on a terminal; quiet in a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(bar, completed=done, total=of)


def _show(report: dict[str, Any], title: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table(title=title)
    for name in ("", "n", "accuracy", "lenient", "top 2", "ece", "by chance", "95 %", "nats"):
        table.add_column(name, justify="left" if not name else "right")
    for part in ("all", "source", "class", "language", "turn"):
        for name, m in {"all": report["all"]}.items() if part == "all" else report[part].items():
            numbers = [f"{m[key]:.3f}" for key in ("accuracy", "lenient", "top2", "ece", "ece_chance", "ece_chance_95", "nats")]
            table.add_row(name if part == "all" else f"{part} {name}", str(m["n"]), *numbers)
        table.add_section()
    console.print(table)
    bins = ", ".join(f"{b['said']:.2f}→{b['right']:.2f} ({b['n']})" for b in report["reliability"])
    console.print(f"said → right: {bins}", highlight=False)
    if report["length"]:
        m = report["length"]
        console.print(
            f"log tokens of {m['n']} answers: R² {m['r2']:.3f}, with one offset ({m['offset']:+.2f}) {m['r2_offset']:.3f};"
            f" below q90 {m['below_q90']:.3f}",
            highlight=False,
        )
