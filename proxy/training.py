"""`bestserve train`: a policy for some fleets, or for any, from simulation to a checkpoint. How it learns stands in `policy.learn.train`.

A folder holds everything: `args.json` (what was asked), `critic.npz` and `search.npz` (how far it has come), `log.jsonl` (what was told),
`policy.ckpt` (the policy so far) and, where matplotlib is, `curves.html`. It can be stopped at any time; `--resume` goes on.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from numpy.random import Generator

from bestserve import profiles
from bestserve.policy.checkpoint import PARAMETERS, Checkpoint
from bestserve.policy.facts import SLO
from bestserve.policy.learn import scenes, train
from bestserve.policy.learn.critic import Epoch
from bestserve.policy.learn.search import Place, Space, Step
from bestserve.policy.learn.train import Args, Taught
from bestserve.policy.network import Network
from bestserve.policy.scene import Places

from . import checkpoints
from .config import environment
from .fleet_file import BadConfig, Fleet, read
from .simulating import bar

EVERY = 5
"""Iterations between two writings of the checkpoint and the curves."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line said."""

    fleets: tuple[Path, ...]
    out: Path
    args: Args
    jobs: int
    resume: bool
    as_json: bool

    @property
    def asked(self) -> dict[str, Any]:
        """Everything that decides what comes out, as JSON has it."""
        return {"fleets": [path.read_text(encoding="utf-8") for path in self.fleets], "args": json.loads(json.dumps(asdict(self.args)))}


def run(wanted: Wanted) -> int:
    """Train. Returns the exit code: 130 when interrupted."""
    try:
        fleet_of = _fleet_of(wanted.fleets)
        _open(wanted)
    except BadConfig as error:
        raise click.ClickException(str(error)) from error
    log = _Log(wanted.out / "log.jsonl")
    try:
        with _pool(wanted, fleet_of) as pool:
            taught = _critic(wanted, fleet_of, pool, log)
            taught = _settle(wanted, fleet_of, pool, log, _search(wanted, fleet_of, pool, log, taught))
    except KeyboardInterrupt:
        click.echo(f"interrupted; {wanted.out} holds what there is: the same command with --resume goes on", err=True)
        return 130
    checkpoint = _write(wanted, taught, log)
    said = {"checkpoint": str(wanted.out / "policy.ckpt"), "name": checkpoint.name, **checkpoint.about}
    if wanted.as_json:
        click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(f"wrote {said['checkpoint']} ({checkpoint.name}); compare it: bestserve evaluate --policy {said['checkpoint']} …")
    return 0


@dataclass(frozen=True, slots=True)
class OneOf:
    """Draws one of some fleets."""

    fleets: tuple[Fleet, ...]

    def __call__(self, dice: Generator) -> tuple[Places, SLO | None]:
        """One of them, with its deadlines."""
        fleet = self.fleets[int(dice.integers(len(self.fleets)))]
        return fleet.places, fleet.slo


@dataclass(frozen=True, slots=True)
class AnyFleet:
    """Draws a fleet of shipped profiles."""

    names: tuple[str, ...]

    def __call__(self, dice: Generator) -> tuple[Places, SLO | None]:
        """A fleet that nobody has seen before, held to anything."""
        return scenes.fleet(dice, [profiles.load(name) for name in self.names]), None


def _fleet_of(fleets: tuple[Path, ...]) -> train.FleetOf:
    return OneOf(tuple(read(environment(), path) for path in fleets)) if fleets else AnyFleet(tuple(profiles.names()))


def _open(wanted: Wanted) -> None:
    """The folder; what it holds must be of the same question. More iterations than before are the same question."""
    known = wanted.out / "args.json"
    if known.exists():
        if not wanted.resume:
            raise click.ClickException(f"{wanted.out} holds a training already: go on with --resume, or name another folder")
        before, now = orjson.loads(known.read_bytes()), wanted.asked
        before["args"]["search"].pop("iterations"), now["args"]["search"].pop("iterations")
        if before != now:
            raise click.ClickException(f"{wanted.out} holds a training of other fleets or arguments (args.json): name another folder")
    wanted.out.mkdir(parents=True, exist_ok=True)
    known.write_bytes(orjson.dumps(wanted.asked, option=orjson.OPT_INDENT_2))


@contextmanager
def _pool(wanted: Wanted, fleet_of: train.FleetOf) -> Iterator[Executor]:
    """Processes that play; compiled once before, so that not all of them compile."""
    train.scene_outcomes(fleet_of, replace(wanted.args, requests=20, points=2), 0)
    pool = ProcessPoolExecutor(wanted.jobs, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Log:
    """Lines of JSON: a record of what was told."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **said: Any) -> None:
        """One line."""
        with self.path.open("ab") as file:
            file.write(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE))

    def read(self) -> list[dict[str, Any]]:
        """All of them."""
        return [orjson.loads(line) for line in self.path.read_bytes().splitlines()] if self.path.exists() else []


def _critic(wanted: Wanted, fleet_of: train.FleetOf, pool: Executor, log: _Log) -> Taught:
    """Fitted now, or by an earlier call."""
    kept = wanted.out / "critic.npz"
    if kept.exists():
        with np.load(kept, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        basis, low, high = (arrays.pop(name) for name in ("basis", "low", "high"))
        return Taught(Space(Network(**arrays), basis, wanted.args.prior), _place(wanted.out), low, high)
    with bar() as progress:
        task = progress.add_task("scenes played", total=wanted.args.scenes)
        seen = train.outcomes(fleet_of, wanted.args, pool, partial(progress.advance, task))

    def told(epoch: Epoch) -> None:
        log.add(kind="critic", **asdict(epoch))

    taught = train.learn(seen, wanted.args, told)
    np.savez(kept, **taught.space.network._asdict(), basis=taught.space.basis, low=taught.low, high=taught.high)
    return taught


def _search(wanted: Wanted, fleet_of: train.FleetOf, pool: Executor, log: _Log, taught: Taught) -> Taught:
    """To the last iteration."""
    begun = 0 if taught.place is None else taught.place.iteration
    with bar() as progress:
        task = progress.add_task("searching", total=wanted.args.search.iterations, completed=begun)
        return train.improve(taught, fleet_of, wanted.args, pool, _teller(wanted, log, taught, partial(progress.advance, task)))


def _settle(wanted: Wanted, fleet_of: train.FleetOf, pool: Executor, log: _Log, taught: Taught) -> Taught:
    """What is kept of the layer; nothing to decide where nothing was looked for."""
    if taught.place is None:
        return taught
    with bar() as progress:
        task = progress.add_task("settling", total=train.settling(wanted.args))
        kept, share = train.settle(taught, fleet_of, wanted.args, pool, partial(progress.advance, task))
    log.add(kind="kept", share=share)
    return kept


def _teller(wanted: Wanted, log: _Log, taught: Taught, advance: Callable[[], None]) -> Callable[[Step], None]:
    def told(step: Step) -> None:
        place = step.place
        prior = dict(zip(PARAMETERS, taught.space.parameters_at(place.mean), strict=True))
        moved = float(np.linalg.norm(place.mean[: -len(PARAMETERS)]))
        log.add(kind="search", iteration=place.iteration, reward=step.reward, noise=step.noise, moved=moved, **prior)
        aside = wanted.out / "search.part.npz"
        np.savez(aside, iteration=place.iteration, theta=place.theta, momentum=place.momentum, mean=place.mean)
        aside.replace(wanted.out / "search.npz")
        if place.iteration % EVERY == 0:
            _write(wanted, taught._replace(place=place), log)
        advance()

    return told


def _place(out: Path) -> Place | None:
    path = out / "search.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        return Place(int(file["iteration"]), file["theta"], file["momentum"], file["mean"])


def _write(wanted: Wanted, taught: Taught, log: _Log) -> Checkpoint:
    """The checkpoint as it is now, and the curves."""
    place = taught.place
    theta = np.zeros(taught.space.basis.shape[1] + len(PARAMETERS)) if place is None else place.mean
    about = {
        "seed": wanted.args.seed,
        "iterations": 0 if place is None else place.iteration,
        "fleets": [path.name for path in wanted.fleets],
    }
    made = Checkpoint(taught.space.network_at(theta), taught.space.parameters_at(theta), taught.low, taught.high, about)
    if find_spec("matplotlib") is not None:
        from .curves import draw

        draw(wanted.out / "curves.html", log.read())
    return checkpoints.save(made, wanted.out / "policy.ckpt")


def options(**given: Any) -> Wanted:
    """From the command line's words."""
    args = Args(seed=given["seed"], scenes=given["scenes"])
    args = replace(args, search=replace(args.search, iterations=given["iterations"], scenes=given["search_scenes"]))
    return Wanted(given["fleets"], given["out"], args, given["jobs"] or _cores(), given["resume"], given["as_json"])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
