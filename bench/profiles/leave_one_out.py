"""How well the formula predicts what it has not seen: every measured (model, GPU) is left out once, and predicted from all others.

    python bench/profiles/leave_one_out.py --data DIR [--gpus]

DIR is described in measured.py. With `--gpus` whole GPUs are left out instead. Errors are medians of |predicted / measured - 1| over
the rows of a (model, GPU): of a step (or a run of 2,048 of them), of a prefill, and of bare operators.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measured import Row, rows
from roofline import Roofline, fit
from shapes import MODELS

KINDS = {"run": "step", "step": "step", "prefill": "prefill", "operators": "operators"}


@dataclass(frozen=True, slots=True)
class Left:
    """What was left out, and the relative error of each of its rows, by kind."""

    model: str  # "" for all
    gpu: str
    errors: dict[str, list[float]]

    def median(self, kind: str) -> float | None:
        found = self.errors.get(kind)
        return statistics.median(map(abs, found)) if found else None


def leave_models(seen: Sequence[Row]) -> list[Left]:
    return _leave(seen, lambda row: (row.model, row.gpu))


def leave_gpus(seen: Sequence[Row]) -> list[Left]:
    return _leave(seen, lambda row: ("", row.gpu))


def _leave(seen: Sequence[Row], group: Callable[[Row], tuple[str, str]]) -> list[Left]:
    left = []
    for key in dict.fromkeys(map(group, seen)):
        roofline = Roofline(fit([row for row in seen if group(row) != key]))
        left.append(Left(*key, errors_of(roofline, [row for row in seen if group(row) == key])))
    return left


def errors_of(roofline: Roofline, seen: Sequence[Row]) -> dict[str, list[float]]:
    errors: dict[str, list[float]] = {}
    for row in seen:
        errors.setdefault(KINDS[row.kind], []).append(roofline.seconds(row) / row.seconds - 1)
    return errors


def rms(errors: Sequence[float]) -> float:
    return math.sqrt(statistics.fmean(error**2 for error in errors))


def table(left: Sequence[Left]) -> Iterator[str]:
    yield "| left out | GPU | step | prefill | operators |"
    yield "|---|---|---|---|---|"
    for each in left:
        name = each.model.partition("/")[2] or "everything"
        yield f"| {name} | {each.gpu} | " + " | ".join(_cell(each.median(kind)) for kind in ("step", "prefill", "operators")) + " |"


def _cell(error: float | None) -> str:
    return "" if error is None else f"{error:.1%}"


def summary(left: Sequence[Left], what: str) -> Iterator[str]:
    for kind in ("step", "prefill", "operators"):
        found = [error for each in left if (error := each.median(kind)) is not None]
        if found:
            yield f"{kind}, {what}: median {statistics.median(found):.1%}, largest {max(found):.1%} of {len(found)} left out"


def main() -> None:
    parser = argparse.ArgumentParser(description="Predict each measured (model, GPU) from all others.")
    parser.add_argument("--data", type=Path, required=True, help="folder with latency/")
    parser.add_argument("--gpus", action="store_true", help="leave out whole GPUs instead")
    args = parser.parse_args()
    seen = rows(args.data)
    left = leave_gpus(seen) if args.gpus else leave_models(seen)
    print(*table(left), "", *summary(left, "all"), sep="\n")
    if not args.gpus:
        ladder = [each for each in left if MODELS[each.model].family]
        print(*summary(ladder, "of the ladders that ship"), sep="\n")


if __name__ == "__main__":
    main()
