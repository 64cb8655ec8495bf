"""Records, settings and counts for the tests of the replay log."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from bestserve.policy.decide import decide
from bestserve.policy.facts import Ending
from bestserve.policy.fleet import Fleet
from bestserve.policy.record import Record
from bestserve.proxy.config import Replay as Settings
from bestserve.proxy.entries import Around, Entry, Problem, read
from bestserve.proxy.segments import files
from tests.policy.facts_by_hand import LADDER, ask, chooser, outcome

AROUND = Around(1.0, "team-a", "0011223344556677", left=False)


class Counted:
    """What the log says of itself."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()
        self.unkept = 0
        self.bytes = 0
        self.failing: list[bool] = []
        self.uploads: list[bool] = []

    def replay_lost(self, why: str, n: int) -> None:
        self.lost[why] += n

    def replay_unkept(self) -> None:
        self.unkept += 1

    def replay_wrote(self, n_bytes: int) -> None:
        self.bytes += n_bytes

    def replay_failing(self, failing: bool) -> None:
        self.failing.append(failing)

    def replay_uploaded(self, ok: bool) -> None:
        self.uploads.append(ok)


def record(name: str = "decision-1", *, wall: float = 1_795_000_000.25, ending: Ending = Ending.DONE) -> Record:
    """An attempt at the large backend of the ladder."""
    view = Fleet(LADDER).view(12.5)
    made, _ = decide(ask(session="ab12"), view, chooser("deadline-greedy"), draw=0.25, id=name)
    return Record("request-1", 0, wall, "live", ask(session="ab12"), view, made, replace(outcome(), ending=ending))


def settings(folder: Path, **said: object) -> Settings:
    """Of a log in a folder, looked after quickly."""
    return Settings.model_construct(**{**{n: f.default for n, f in Settings.model_fields.items()}, "dir": folder, "fsync_ms": 10.0, **said})


def everything(folder: Path) -> tuple[list[Entry], list[Problem]]:
    """All entries of a folder, and what is wrong with it."""
    problems: list[Problem] = []
    return [placed.entry for placed in read(files([folder]), problems.append)], problems
