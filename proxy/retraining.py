"""`bestserve retrain`: read, calibrate, improve, judge, publish. What is learnt and judged lives in `policy.learn.retrain`."""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

import click
import numpy as np
import orjson

from bestserve.policy.checkpoint import BadCheckpoint, Checkpoint, to_bytes
from bestserve.policy.facts import Backend, Budget, Floats
from bestserve.policy.learn.improve import Args
from bestserve.policy.learn.logged import Logged, Skew
from bestserve.policy.learn.retrain import Answer, Incumbent, Question, TooLittle, retrain
from bestserve.policy.opinions import SHARE, weights
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, mind_of

from . import checkpoints, files, published, retrain_report
from .config import BadConfig, Config, environment, load
from .log_columns import Read, read_log
from .segments import files as files_of
from .simulating import bar


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line said."""

    config: Path
    since: float | None  # seconds since 1970
    dry_run: bool
    as_json: bool
    report: Path | None
    out: Path | None  # where the challenger is written, published or not
    args: Args
    jobs: int


def run(wanted: Wanted) -> int:
    """Retrain once. Returns the exit code: 0 whether it publishes or keeps, 1 where it could not be done."""
    try:
        config = load(environment(), wanted.config)
    except BadConfig as error:
        raise click.ClickException(str(error)) from error
    if config.replay is None:
        raise click.ClickException(f"{wanted.config} keeps no replay log: there is nothing to learn from")
    if wanted.report is not None and find_spec("matplotlib") is None:
        raise click.ClickException("a report needs matplotlib: pip install 'bestserve[report]'")
    begun = time.monotonic()
    with _pool(wanted.jobs) as pool, _Progress() as told:
        try:
            read = _read(config, wanted.since, pool, told)
            _refuse_skew(read)
            incumbent = incumbent_of(config)
            question = question_of(config.facts(), config.budgets, incumbent, read, explore=config.policy.explore)
            answer = retrain(question, wanted.args, pool, told)
        except TooLittle as error:
            raise click.ClickException(f"{config.replay.dir}: {error}") from error
    said = told_of(answer, read, incumbent.name, time.monotonic() - begun)
    version = _publish(config, wanted, answer, said)
    said |= {"published": version, "dry_run": wanted.dry_run}
    if wanted.report is not None:
        retrain_report.write(wanted.report, said)
    if wanted.as_json:
        click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())
    else:
        retrain_report.show(said)
    return 0


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(config: Config, since: float | None, pool: ProcessPoolExecutor, told: "_Progress") -> Read:
    """The log. Raises ClickException and TooLittle."""
    assert config.replay is not None
    folder = config.replay.dir
    try:
        segments = files_of([folder], since=since)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    read = read_log(segments, since, pool, lambda n: told("reading", n, len(segments)))
    if read is None:
        raise TooLittle("there is no record" + ("" if since is None else " that is young enough (--since)"))
    for problem in read.problems[:20]:
        click.echo(f"passed over: {problem}", err=True)
    if len(read.problems) > 20:
        click.echo(f"passed over: {len(read.problems) - 20} more", err=True)
    return read


def _refuse_skew(read: Read) -> None:
    """What was not decided on what is seen now teaches the wrong thing. Raises ClickException."""
    if read.skew[Skew.OTHER]:
        where = "\n".join(map(str, read.skewed[:10]))
        n, every = read.skew[Skew.OTHER], sum(read.skew.values())
        raise click.ClickException(f"{n} of {every} records do not encode to what they were decided on; none may:\n{where}")


def question_of(
    backends: tuple[Backend, ...], budgets: tuple[Budget, ...], incumbent: Incumbent, read: Read, *, explore: float = 0.0
) -> Question:
    """What retraining is asked."""
    about = {"from": _date(float(read.columns.wall.min())), "to": _date(float(read.columns.wall.max())), "attempts": len(read.columns.wall)}
    weight = score_weights(read.columns)
    return Question(read.columns, read.names, read.lines, read.rows, weight, backends, budgets, incumbent, explore, about)


PRIOR = 20.0
"""Answers that a profile's quality counts for, where a key's share of what was said is bounded."""


def score_weights(log: Logged) -> Floats:
    """What each score counts for, (N,): of each backend, no key has more than its share. Of few keys, none has less than its part."""
    weight, callers = np.zeros(len(log.wall)), np.unique(log.key, return_counts=True)[1]
    share = max(SHARE, 1.0 / max(int((callers >= LEAST_CALLS * len(log.wall)).sum()), 1))
    for b in np.unique(log.backend):
        some = np.flatnonzero((log.backend == b) & np.isfinite(log.score))
        weight[some] = weights(list(map(str, log.key[some].tolist())), log.score[some].tolist(), prior=PRIOR, share=share)
    return weight


LEAST_CALLS = 0.01
"""Of all requests, what a key has to have sent to count as one of some."""


def incumbent_of(config: Config) -> Incumbent:
    """What decides now: what is published and stands, else the config's checkpoint, else the fallback. Raises ClickException."""
    try:
        stands = published.current(config.policy.dir).stands if config.policy.follows else None
        found = None if stands is None else published.load(config.policy.dir, stands)
        named = config.policy.checkpoint
        if found is None and named is not None and named != "published":
            found = checkpoints.named(named)
    except (BadCheckpoint, published.Unpublished, OSError) as error:
        raise click.ClickException(f"what decides now cannot be read: {error}") from error
    return of_rule(config.policy.fallback, Places(config.facts(), config.budgets)) if found is None else of_checkpoint(found)


def of_rule(name: str, places: Places) -> Incumbent:
    """A heuristic; its search begins at the prior."""
    return Incumbent(name, mind_of(name, places), Args().prior)


def of_checkpoint(checkpoint: Checkpoint) -> Incumbent:
    """A learned policy."""
    mind = Mind.of("actor", checkpoint.parameters, checkpoint.network)
    return Incumbent(checkpoint.name, mind, checkpoint.parameters, checkpoint.network, checkpoint.calibration)


# --- telling ----------------------------------------------------------------------------------------------------------


def told_of(answer: Answer, read: Read, incumbent: str, seconds: float) -> dict[str, Any]:
    """For JSON."""
    return {
        "incumbent": incumbent,
        "attempts": len(read.columns.wall),
        "span": [_date(float(read.columns.wall.min())), _date(float(read.columns.wall.max()))],
        "scores": int(np.isfinite(read.columns.score).sum()),
        "mismatches": read.skew[Skew.OTHER],
        "unknown": read.skew[Skew.UNKNOWN],
        "problems": len(read.problems),
        "looked_at": len(read.lines),
        "calibration": [asdict(row) for row in answer.rows],
        "truncation": [asdict(each) for each in answer.truncations],
        "found": {"gain": answer.improved.gain, "better_than_where_it_began": answer.improved.kept},
        "verdict": answer.verdict.plain(),
        "seconds": round(seconds, 1),
    }


def _publish(config: Config, wanted: Wanted, answer: Answer, said: dict[str, Any]) -> str | None:
    data = to_bytes(replace(answer.checkpoint, about={**answer.checkpoint.about, "verdict": answer.verdict.plain()["decision"]}))
    if wanted.out is not None:
        try:
            wanted.out.parent.mkdir(parents=True, exist_ok=True)
            files.write(wanted.out, data)
        except OSError as error:
            click.echo(f"{wanted.out}: cannot be written: {error.strerror}", err=True)
    if not answer.verdict.publish or wanted.dry_run:
        return None
    try:
        return published.publish(
            config.policy.dir, data, {key: said[key] for key in ("verdict", "incumbent", "attempts", "span", "scores")}
        )
    except OSError as error:
        raise click.ClickException(f"{config.policy.dir}: cannot be published: {error.strerror}") from error


class _Progress:
    """One bar, which says what is being done; nothing in a pipe."""

    def __init__(self) -> None:
        self._bar = bar()
        self._task: Any = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, doing: str, done: int, of: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task(doing, total=of)
        self._bar.update(self._task, description=doing, completed=done, total=of)


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def options(**given: Any) -> Wanted:
    """From the command line's words."""
    args = Args(seed=given["seed"])
    args = replace(args, search=replace(args.search, iterations=given["iterations"]))
    words = {name: given[name] for name in ("config", "since", "dry_run", "as_json", "report", "out")}
    return Wanted(**words, args=args, jobs=given["jobs"] or _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _date(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds")
