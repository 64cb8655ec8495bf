"""Predicted against measured on runs that were not fitted. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean, median, quantiles

from bestserve.profiles.schema import Engine

from .replay import replay
from .runs import Run
from .script import Call

__all__ = ["Judged", "Mix", "Pair", "judge"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One number, predicted and measured."""

    mix: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative, without sign."""
        return abs(self.predicted / self.measured - 1)


@dataclass(frozen=True, slots=True)
class Mix:
    """How many numbers were compared, and how far off they are."""

    n: int
    median: float  # relative error
    p90: float
    bias: float  # median of predicted / measured - 1, with its sign


@dataclass(frozen=True, slots=True)
class Judged:
    """What the constants say of runs that they were not fitted to."""

    ttft: tuple[Pair, ...]  # seconds, a pair a call
    tpot: tuple[Pair, ...]  # seconds, a pair a call
    throughput: tuple[Pair, ...]  # tokens a second, a pair a mix

    def summary(self) -> dict[str, Mix]:
        """By what is compared."""
        kinds = {"ttft": self.ttft, "tpot": self.tpot, "throughput": self.throughput}
        return {name: _mix(pairs) for name, pairs in kinds.items() if pairs}


def judge(runs: Sequence[Run], constants: Engine) -> Judged:
    """Replay every mix that went well, and compare; means are, of a mix that was played more than once.

    Answer by answer, the replay sends when the calls were sent: what came before is given, as it is to a proxy that predicts. For the
    throughput it plays the whole mix by itself, each client going on when its answer should have come.
    """
    played = defaultdict[tuple[object, ...], list[Run]](list)
    for run in runs:
        if run.kind == "mix" and run.failed is None and not run.foreign:
            played[(run.key, *(replace(call, seed=0) for call in run.calls))].append(run)
    judged = [_judge(same, constants) for same in played.values()]
    return Judged(*(tuple(pair for one in judged for pair in getattr(one, f.name)) for f in fields(Judged)))


def _judge(runs: Sequence[Run], constants: Engine) -> Judged:
    """One mix, however often it was played."""
    key, calls = runs[0].key, runs[0].calls
    expected, seen = [replay(_as_sent(run), constants) for run in runs], [run.streams for run in runs]
    ttft, tpot = list[Pair](), list[Pair]()
    for i in range(len(calls)):
        times, streams = [one[i] for one in expected], [one[i] for one in seen]
        ttft.append(Pair(key, fmean(t.first - t.sent for t in times), fmean(s.first - s.sent for s in streams)))
        if (gaps := streams[0].tokens - 1) > 0:
            tpot.append(Pair(key, fmean(t.last - t.first for t in times) / gaps, fmean(s.last - s.first for s in streams) / gaps))
    said = sum(stream.tokens for stream in seen[0])
    end = max(times.last for times in replay(calls, constants))
    return Judged(tuple(ttft), tuple(tpot), (Pair(key, said / end, said / fmean(max(s.last for s in one) for one in seen)),))


def _as_sent(run: Run) -> list[Call]:
    """The calls, each at the moment when it was sent."""
    return [replace(call, after=None, delay_s=stream.sent) for call, stream in zip(run.calls, run.streams, strict=True)]


def _mix(pairs: Sequence[Pair]) -> Mix:
    errors = [pair.error for pair in pairs]
    p90 = quantiles(errors, n=10, method="inclusive")[-1] if len(errors) > 1 else errors[0]
    return Mix(len(pairs), median(errors), p90, median(pair.predicted / pair.measured - 1 for pair in pairs))
