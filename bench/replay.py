"""What the replay log costs a request, and how much one writer takes. `python bench/replay.py [--n 100000] [--rounds 5]`.

Records are those of three backends and four budgets. The cost of a request is what its process does before and while it answers: throw
the coin, name the prompt (700 bytes), seal the decision's id, put the Record into the queue. The writer's speed is that of its thread with
nothing beside it: make the lines, append, force to the disk every second. Each by the clock and, since a shared machine disturbs that, by
the CPU time of the process (`_cpu`). bench/README.md has figures.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bestserve.policy.decide import Chooser, actions_of, decide
from bestserve.policy.facts import SLO, Ask, Budget, Ending, Length, Outcome
from bestserve.policy.facts import Backend as Facts
from bestserve.policy.fleet import Fleet
from bestserve.policy.heuristics import by_name
from bestserve.policy.record import Record, to_bytes
from bestserve.profiles import load
from bestserve.proxy.config import Replay as Settings
from bestserve.proxy.entries import Around
from bestserve.proxy.feedback import Seals
from bestserve.proxy.replay import Replay
from bestserve.proxy.segments import files, lines

BUDGETS = (Budget(), Budget(1024), Budget(384), Budget(128))
SIZES = ("1.7b", "8b", "32b")


class Silent:
    """Counts nothing, so that nothing but the log is measured."""

    def replay_lost(self, why: str, n: int) -> None:
        raise AssertionError(f"lost {n}: {why}")

    def replay_unkept(self) -> None: ...
    def replay_wrote(self, n_bytes: int) -> None: ...
    def replay_failing(self, failing: bool) -> None: ...
    def replay_uploaded(self, ok: bool) -> None: ...


def records(n: int) -> list[Record]:
    """Different ones."""
    backends = tuple(Facts(size, size, load(f"qwen3-{size}-h100")) for size in SIZES)
    fleet, names = Fleet(backends), frozenset(SIZES)
    actions = actions_of(fleet.backends, BUDGETS)
    chooser = Chooser("deadline-greedy", by_name("deadline-greedy", actions), actions, BUDGETS)
    made = []
    for i in range(n):
        ask = Ask("chat", "auto", names, True, 200 + i, None, 1, frozenset(), (0.1,) * 10, Length(250.0, 0.9), SLO(), "default", 1.0)
        view = fleet.view(i / 100)
        decision, _ = decide(ask, view, chooser, draw=0.5, id=f"{i:024x}")
        outcome = Outcome(Ending.DONE, 200, 0.123456, 2.3456789, 200 + i, 137, 0, "stop", cut=False)
        made.append(Record(f"{i:024x}", 0, 1_795_000_000.25 + i, "live", ask, view, decision, outcome))
    return made


def settings(folder: Path, queue: int) -> Settings:
    """The defaults, with room for everything."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    return Settings.model_construct(**{**defaults, "dir": folder, "queue": queue})


Clock = Callable[[], float]


def request_us(some: list[Record], n: int, clock: Clock) -> float:
    """Microseconds that a request's thread spends on the log. Nobody writes meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        log, seals, prompt = Replay(settings(Path(folder), 10 * n), Silent()), Seals(b"secret"), memoryview(b"x" * 700)
        log._look()  # a ledger, as a running one has
        begun = clock()
        for i in range(n):
            record = some[i % len(some)]
            odds = log.toss()
            seals.told(record.decision.id, "team-a")
            log.keep(record, Around(odds, "team-a", seals.prompt("team-a", prompt), left=False))
        return (clock() - begun) / n * 1e6


def writer(some: list[Record], n: int, clock: Clock) -> tuple[float, float]:
    """Records a second through one writer's thread; bytes of a line."""
    with tempfile.TemporaryDirectory() as folder:
        log, around = Replay(settings(Path(folder), 10 * n), Silent()), Around(1.0, "team-a", "0" * 16, left=False)
        for i in range(n):
            log.keep(some[i % len(some)], around)
        begun = clock()
        log._turn()
        log._end()
        took = clock() - begun
        written = [line for file in files([Path(folder)]) for line in lines(file)]
        assert len(written) == n
        return n / took, sum(map(len, written)) / n


def line_us(some: list[Record], n: int, clock: Clock) -> float:
    """Microseconds of `policy.record.to_bytes` alone, the largest part of a writer's work."""
    begun = clock()
    for i in range(n):
        to_bytes(some[i % len(some)])
    return (clock() - begun) / n * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000, help="records in a round")
    parser.add_argument("--rounds", type=int, default=5, help="of which the quietest is told")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    some = records(2000)
    gc.freeze()

    def best(measure: Callable[[], float], pick: Callable[[list[float]], float]) -> float:
        return pick([measure() for _ in range(args.rounds)])

    said = {"line_bytes": writer(some, 2000, time.perf_counter)[1]}
    for name, clock in (("", time.perf_counter), ("_cpu", time.process_time)):
        said["request_us" + name] = best(partial(request_us, some, args.n, clock), min)
        said["line_us" + name] = best(partial(line_us, some, args.n // 10, clock), min)
        said["records_per_s" + name] = best(lambda clock=clock: writer(some, args.n, clock)[0], max)
    print(json.dumps(said) if args.json else "\n".join(f"{name:16}{value:12,.2f}" for name, value in said.items()))


if __name__ == "__main__":
    main()
