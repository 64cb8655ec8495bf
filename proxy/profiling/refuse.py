"""What must not be believed: a backend that others load, a mock, too few points, answers of other lengths. Pure."""

from collections.abc import Sequence

from .fit import Constants
from .points import Points
from .runs import Run

__all__ = ["CannotMeasure", "foreign", "refuse_failures", "refuse_too_few", "refuse_unmoved"]

LEAST_LONE, LEAST_STEPS = 6, 6
MOVES = 1.2  # a prefill of the longest prompt takes so many times one of the shortest, or it does not depend on the prompt
STEP_MOVES = 1.03
DISTURBED_SHARE = 0.25  # of runs, that others may disturb
_MORE = "--minutes gives it more time"


class CannotMeasure(Exception):
    """Why nothing that could be believed can be measured."""


def foreign(runs: Sequence[Run]) -> str | None:
    """What to say of others' requests: None when there were none. Raises CannotMeasure when there were too many."""
    disturbed = [run for run in runs if run.foreign]
    if not disturbed:
        return None
    most = max(run.foreign for run in disturbed)
    said = f"others used the backend: up to {most} requests beyond ours in {len(disturbed)} of {len(runs)} runs"
    if len(disturbed) >= 3 and len(disturbed) > DISTURBED_SHARE * len(runs):
        raise CannotMeasure(f"{said}. Measure a backend that nobody else uses")
    return f"{said}, which are left out"


def refuse_failures(runs: Sequence[Run]) -> None:
    """Raise CannotMeasure when the last runs all failed, or answers had other lengths than were asked for."""
    last = [run.failed for run in runs[-3:]]
    if len(last) == 3 and all(last):
        raise CannotMeasure(f"three runs failed one after the other, the last because of: {last[-1]}")
    answers = [pair for run in runs if run.failed is None for pair in zip(run.calls, run.streams, strict=True)]
    wrong, n = [pair for pair in answers if abs(pair[1].tokens - pair[0].answer) > 0.05 * pair[0].answer], len(answers)
    if len(wrong) > max(n // 20, 1):
        call, stream = wrong[0]
        raise CannotMeasure(
            f"{len(wrong)} of {n} answers had another length than was asked for ({stream.tokens} tokens instead of {call.answer}, for one):"
            " does the backend know ignore_eos?"
        )


def refuse_too_few(points: Points) -> None:
    """Raise CannotMeasure when the constants cannot be told apart."""
    lengths, batches, keys = {p.key for p in points.lone}, {p.n for p in points.steps}, {p.key for p in points.steps}
    if len(points.lone) < LEAST_LONE or len(lengths) < 3:
        said = f"{len(points.lone)} prefills of {len(lengths)} lengths; at least {LEAST_LONE} of 3 are needed"
        raise CannotMeasure(f"too few points: {said}; {_MORE}")
    if len(points.steps) < LEAST_STEPS or len(keys) < 3:
        said = f"{len(points.steps)} stretches of steps in {len(keys)} companies; at least {LEAST_STEPS} in 3 are needed"
        raise CannotMeasure(f"too few points: {said}; {_MORE}")
    if len(batches) < 2:
        raise CannotMeasure(f"too few points: only one number of sequences decoded together; {_MORE}")


def refuse_unmoved(points: Points, found: Constants) -> None:
    """Raise CannotMeasure when times do not depend on what an engine's times depend on: then it is something else."""
    tokens = sorted(p.tokens for p in points.lone)
    first, last = (found.overhead_s + found.prefill_fixed_s + n * found.prefill_token_s for n in (tokens[0], tokens[-1]))
    if last < MOVES * first:
        raise CannotMeasure(
            f"the time to first token does not depend on the prompt: {first * 1e3:.1f} ms for {tokens[0]} tokens, {last * 1e3:.1f} ms for"
            f" {tokens[-1]}. This is no engine that reads its prompts (a mock, or a cache that answers?)"
        )
    least, most = (pick(points.steps, key=lambda p: p.n * 1000 + p.context) for pick in (min, max))
    quick, slow = found.step_s(least.n, least.context), found.step_s(most.n, most.context)
    if most.n >= 8 * least.n and slow < STEP_MOVES * quick:
        raise CannotMeasure(
            f"the time of a step does not depend on the load: {quick * 1e3:.2f} ms for {least.n} sequence(s), {slow * 1e3:.2f} ms for"
            f" {most.n}. This is no engine that decodes (a mock with a fixed pace?)"
        )
