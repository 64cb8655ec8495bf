"""`bestserve log`: what each verb prints. What is wrong with a file goes to standard error, with file and line."""

import csv
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import track
from rich.table import Table

from .entries import Lost, Problem, Said, read
from .log_row import COLUMNS, Row, row_of
from .log_verify import verify as findings_of
from .signals import Joined, joined

Wanted = Callable[[Row], bool]


def verify(files: list[Path], *, as_json: bool) -> int:
    """Say whether the log is whole. Returns the exit code."""
    found = findings_of(watched(files, "verifying"))
    if as_json:
        _print_json(found.plain())
        return 0 if found.ok else 1
    for problem in found.problems:
        click.echo(f"problem  {problem}")
    for problem in found.torn:
        click.echo(f"torn     {problem}")
    lost = ", ".join(f"{n} {why}" for why, n in sorted(found.lost.items())) or "none"
    click.echo(f"{found.files} files, {found.records} records, {found.feedback} feedback; lost and accounted for: {lost}")
    click.echo("ok" if found.ok else f"not ok: {len(found.problems)} problems")
    return 0 if found.ok else 1


def show(files: list[Path], wanted: Wanted, *, since: float | None, most: int, whole: bool, as_json: bool) -> None:
    """The latest rows that are wanted; `whole` puts the Record itself beside each."""
    found: deque[tuple[Row, Joined]] = deque(maxlen=most)
    found.extend((row, each) for row, each in _rows(files, since, "reading") if wanted(row))
    if as_json:
        _print_json([{**row, "record": orjson.loads(each.kept.raw)} if whole else row for row, each in found])
    elif whole:
        for row, each in found:
            click.echo("\n".join(f"{name:18}{_text(value)}" for name, value in row.items()))
            click.echo(orjson.dumps(orjson.loads(each.kept.raw), option=orjson.OPT_INDENT_2))
    else:
        _print_rows([row for row, _ in found])


def stats(files: list[Path], *, since: float | None, as_json: bool) -> None:
    """What is in the log, in numbers."""
    said = {**_summary(row for row, _ in _rows(files, since, "reading")), **_beside(files, since)}
    said |= {"files": len(files), "bytes": sum(file.stat().st_size for file in files if file.exists())}
    if as_json:
        _print_json(said)
        return
    for name, value in said.items():
        shown = ", ".join(f"{k} {v}" for k, v in sorted(value.items())) or "none" if isinstance(value, dict) else _text(value)
        click.echo(f"{name:18}{shown}")


def export(files: list[Path], out: Path, wanted: Wanted, *, since: float | None, as_json: bool) -> None:
    """Write a table, as CSV or, by the file's ending, Parquet. Raises ClickException."""
    if out.suffix == ".parquet":
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            n = _write_csv(Path(folder) / "rows.csv", files, wanted, since)
            _parquet(Path(folder) / "rows.csv", out)
    else:
        n = _write_csv(out, files, wanted, since)
    if as_json:
        _print_json({"path": str(out), "rows": n, "columns": COLUMNS})
    else:
        click.echo(f"{n} rows to {out}")


def _write_csv(out: Path, files: list[Path], wanted: Wanted, since: float | None) -> int:
    n = 0
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        for row, _ in _rows(files, since, "exporting"):
            if wanted(row):
                n += 1
                writer.writerow(row)
    return n


def _parquet(rows: Path, out: Path) -> None:
    try:
        import duckdb
    except ImportError as error:
        raise click.ClickException("Parquet needs `pip install 'bestserve[export]'`; a name that ends in .csv does not") from error
    with duckdb.connect() as db:
        types = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
        query = f"SELECT * FROM read_csv($rows, header=true, auto_detect=false, columns={{{types}}})"  # noqa: S608  our own names
        db.sql(query, params={"rows": str(rows)}).write_parquet(str(out), compression="zstd")


# --- reading ----------------------------------------------------------------------------------------------------------


def _rows(files: list[Path], since: float | None, doing: str) -> Iterator[tuple[Row, Joined]]:
    for each in joined(files, complain, watched=lambda paths: watched(paths, doing)):
        if since is None or each.kept.wall >= since:
            yield row_of(each), each


def complain(problem: Problem) -> None:
    if not problem.torn:
        click.echo(f"passed over: {problem}", err=True)


def watched(files: Iterable[Path], doing: str) -> Iterable[Path]:
    """With a bar on a terminal."""
    console = Console(stderr=True)
    return track(list(files), doing, console=console, transient=True) if console.is_terminal else files


def _summary(rows: Iterable[Row]) -> dict[str, Any]:
    n, unsure, scored, total, first, last = 0, 0, 0, 0.0, None, None
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("ending", "backend", "policy", "key")}
    flags: Counter[str] = Counter()
    for row in rows:
        n += 1
        first, last = min(first or row["time"], row["time"]), max(last or row["time"], row["time"])
        for name, counter in counts.items():
            counter[_text(row[name])] += 1
        flags.update(name for name in ("cut", "left") if row[name])
        flags["retried"] += row["retried_s"] is not None
        unsure += row["odds"] < 1
        scored, total = scored + (row["score"] is not None), total + (row["score"] or 0.0)
    return {
        "records": n,
        "first": first,
        "last": last,
        **counts,
        "signals": {name: flags[name] for name in ("cut", "left", "retried")},
        "scored": scored,
        "mean_score": total / scored if scored else None,
        "kept_by_coin": unsure,
    }


def _beside(files: list[Path], since: float | None) -> dict[str, Any]:
    """What is in the log beside Records."""
    feedback, lost, writers = 0, Counter[str](), set()
    for placed in read(files, lambda _: None):  # told before
        entry = placed.entry
        writers.add(entry.writer)
        if since is not None and entry.wall < since:
            continue
        feedback += isinstance(entry, Said)
        if isinstance(entry, Lost):
            lost[entry.why] += entry.n
    return {"feedback": feedback, "lost": lost, "writers": len(writers)}


# --- printing ---------------------------------------------------------------------------------------------------------


def _print_rows(rows: list[Row]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 180)
    table = Table(box=None, pad_edge=False)
    for name in ("time", "decision", "key", "backend", "budget", "ending", "first token", "whole", "tokens", "score", "signals"):
        table.add_column(name, no_wrap=name in ("time", "decision"))
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)


def _cells(row: Row) -> list[str]:
    signals = [name for name in ("cut", "left") if row[name]] + (["retried"] if row["retried_s"] is not None else [])
    return [
        row["time"].replace("T", " "),
        row["decision"],
        row["key"],
        _text(row["backend"]),
        "none" if row["budget"] is None else str(row["budget"]),
        row["ending"] + (f" ({row['reason']})" if row["reason"] else ""),
        "–" if row["ttft_s"] is None else f"{row['ttft_s'] * 1000:.0f} ms",
        f"{row['total_s']:.2f} s",
        _text(row["completion_tokens"]),
        _text(row["score"]),
        ", ".join(signals),
    ]


def _text(value: object) -> str:
    return "–" if value is None else str(value)


def _print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
