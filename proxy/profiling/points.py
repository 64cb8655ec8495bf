"""Runs → points: one measured time each, and what should explain it. Pure.

    Lone        from sending a prompt to its first token, with nobody else there:   overhead + prefill
    Stall       a stretch of one sequence's decoding in which a prompt was read:    steps + prefill, nothing that passes beside the engine
    Steps       a stretch in which the same sequences decoded:                      steps
    Remembered  like Lone, with a beginning that was read just before:              overhead + prefill, remembered tokens for their share

A point knows the run and the key of the script that it came from, for what is drawn again when errors are estimated.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from .runs import Run, Stream

__all__ = ["Lone", "Points", "Remembered", "Stall", "Steps", "gather", "together"]

BLOCK = 8
"""Decode steps that make a point."""


@dataclass(frozen=True, slots=True)
class Lone:
    run: int
    key: str
    seconds: float
    tokens: int  # of the prompt


@dataclass(frozen=True, slots=True)
class Stall:
    run: int
    key: str
    seconds: float
    tokens: int
    steps: int  # that the one who decoded took meanwhile
    step_s: float  # what one of them takes, as its others show


@dataclass(frozen=True, slots=True)
class Steps:
    run: int
    key: str
    seconds: float  # of one step, in the mean
    n: int  # sequences
    context: float  # tokens over all of them, in the middle


@dataclass(frozen=True, slots=True)
class Remembered:
    run: int
    key: str
    seconds: float
    tokens: int  # not remembered
    remembered: int


@dataclass(frozen=True, slots=True)
class Points:
    """All that some runs show."""

    lone: tuple[Lone, ...] = ()
    stalls: tuple[Stall, ...] = ()
    steps: tuple[Steps, ...] = ()
    remembered: tuple[Remembered, ...] = ()


def gather(runs: Sequence[Run]) -> Points:
    """The points of all runs that went well and that nobody else disturbed."""
    good = [(i, run) for i, run in enumerate(runs) if run.failed is None and not run.foreign]
    of = {kind: [(i, run) for i, run in good if run.kind == kind] for kind in ("prefill", "stall", "decode", "remember")}
    return Points(
        lone=tuple(point for i, run in [*of["prefill"], *of["remember"]] for point in _lone(i, run)),
        stalls=tuple(point for i, run in of["stall"] for point in _stalls(i, run)),
        steps=tuple(point for i, run in of["decode"] for point in _without_bursts([*_steps(i, run)])),
        remembered=tuple(point for i, run in of["remember"] for point in _remembered(i, run)),
    )


def together(streams: Sequence[Stream]) -> int:
    """The most streams that had begun and not ended at one moment."""
    begins, ends = sorted(s.first for s in streams), sorted(s.last for s in streams)
    return max((i - bisect_left(ends, at) for i, at in enumerate(begins, 1)), default=0)


def _lone(i: int, run: Run) -> Iterator[Lone]:
    first = run.streams[0]
    yield Lone(i, f"{run.kind} {run.calls[0].prompt}", first.first - first.sent, first.prompt_tokens)


def _remembered(i: int, run: Run) -> Iterator[Remembered]:
    first, *others = run.streams
    for call, stream in zip(run.calls[1:], others, strict=True):
        shared = min(first.prompt_tokens, call.shared * stream.prompt_tokens // call.prompt)
        yield Remembered(i, run.key, stream.first - stream.sent, stream.prompt_tokens - shared, shared)


def _stalls(i: int, run: Run) -> Iterator[Stall]:
    """From the last token before a prompt was sent to the second after its first token: too early and too late take only more steps."""
    decoder, *probes = run.streams
    stretches = [(bisect_right(decoder.times, probe.sent) - 1, bisect_right(decoder.times, probe.first) + 1) for probe in probes]
    step_s = _undisturbed_s(decoder, stretches)
    for k, ((begin, end), probe) in enumerate(zip(stretches, probes, strict=True)):
        before_next = probes[k + 1].sent if k + 1 < len(probes) else float("inf")
        if step_s is None or begin < 0 or end >= len(decoder.times) - 1 or decoder.times[end] > before_next:
            continue
        seconds, steps = decoder.times[end] - decoder.times[begin], decoder.counts[end] - decoder.counts[begin]
        if seconds > steps * step_s / 3:  # else a burst
            yield Stall(i, f"stall {run.calls[k + 1].prompt}", seconds, probe.prompt_tokens, steps, step_s)


def _undisturbed_s(decoder: Stream, stretches: Sequence[tuple[int, int]]) -> float | None:
    """A token's time in the mean where no prompt was read, less what is far off; None when there is no such stretch."""
    disturbed = {k for begin, end in stretches for k in range(begin, end)}
    whole = range(len(decoder.times) - 2)  # the last token may come early
    gaps = [(decoder.times[k + 1] - decoder.times[k]) / (decoder.counts[k + 1] - decoder.counts[k]) for k in whole if k not in disturbed]
    return fmean(gap for gap in gaps if gap <= 2 * median(gaps)) if gaps else None


def _steps(i: int, run: Run) -> Iterator[Steps]:
    """Blocks of the stretch in which every stream has begun and none has ended. The last token of all may come early and is left out."""
    streams = run.streams
    if together(streams) < len(streams):
        return
    begin, end = max(s.first for s in streams), min(s.times[-2] for s in streams if len(s.times) > 1)
    witness = max(streams, key=lambda s: s.first)  # the last to begin has most of its tokens within
    at = [k for k, when in enumerate(witness.times) if begin <= when <= end]
    for one, other in _blocks(at, witness):
        steps = witness.counts[other] - witness.counts[one]
        middle = (witness.times[one] + witness.times[other]) / 2
        context = sum(s.prompt_tokens + s.counts[min(bisect_left(s.times, middle), len(s.times) - 1)] for s in streams)
        yield Steps(i, run.key, (witness.times[other] - witness.times[one]) / steps, len(streams), context)


def _without_bursts(points: Sequence[Steps]) -> list[Steps]:
    """Less those whose tokens came late and then in one piece, which on a busy machine look like steps of no time."""
    usual = median(point.seconds for point in points) if points else 0.0
    return [point for point in points if point.seconds > usual / 3]


def _blocks(at: Iterable[int], witness: Stream) -> Iterator[tuple[int, int]]:
    """Pairs of a stream's indices with BLOCK tokens between them; what is left over belongs to the last one, if it is most of one."""
    marks = list(at)
    while len(marks) > 1:
        far = next((k for k in marks if witness.counts[k] - witness.counts[marks[0]] >= BLOCK), None)
        if far is None:
            if witness.counts[marks[-1]] - witness.counts[marks[0]] >= BLOCK // 2:
                yield marks[0], marks[-1]
            return
        yield marks[0], far
        marks = marks[marks.index(far) :]
