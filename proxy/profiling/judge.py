"""Predicted against measured on runs that were not fitted. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles

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
    """Replay every mix that went well, and compare.

    Answer by answer, the replay sends when the calls were sent: what came before is given, as it is to a proxy that predicts. For the
    throughput it plays the whole mix by itself, each client going on when its answer should have come.
    """
    ttft, tpot, throughput = list[Pair](), list[Pair](), list[Pair]()
    for run in runs:
        if run.kind != "mix" or run.failed is not None or run.foreign:
            continue
        for expected, stream in zip(replay(_as_sent(run), constants), run.streams, strict=True):
            ttft.append(Pair(run.key, expected.first - expected.sent, stream.first - stream.sent))
            if stream.tokens > 1:
                gaps = stream.tokens - 1
                tpot.append(Pair(run.key, (expected.last - expected.first) / gaps, (stream.last - stream.first) / gaps))
        said = sum(stream.tokens for stream in run.streams)
        end = max(times.last for times in replay(run.calls, constants))
        throughput.append(Pair(run.key, said / end, said / max(s.last for s in run.streams)))
    return Judged(tuple(ttft), tuple(tpot), tuple(throughput))


def _as_sent(run: Run) -> list[Call]:
    """The calls, each at the moment when it was sent."""
    return [replace(call, after=None, delay_s=stream.sent) for call, stream in zip(run.calls, run.streams, strict=True)]


def _mix(pairs: Sequence[Pair]) -> Mix:
    errors = [pair.error for pair in pairs]
    p90 = quantiles(errors, n=10, method="inclusive")[-1] if len(errors) > 1 else errors[0]
    return Mix(len(pairs), median(errors), p90, median(pair.predicted / pair.measured - 1 for pair in pairs))
