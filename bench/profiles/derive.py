"""Derive the profiles that ship from published figures.

    python bench/profiles/derive.py --data DIR            fit, and print what was fitted and how the published runs compare
    python bench/profiles/derive.py --data DIR --write    also write fitted.json beside this file, and profiles/*.toml

DIR holds `latency/` and `quality/`; measured.py, quality.py and lengths.py say which files, and where each row was copied from. The same
DIR gives the same files, byte for byte.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from constants import slower_than_predicted
from leave_one_out import Left, errors_of, leave_gpus, leave_models, rms
from lengths import Lengths
from library import Believed, Errors, believe, toml
from measured import Row, rows
from quality import Scores
from replay import overhead_s, table
from roofline import Roofline, fit
from shapes import GPUS, LADDERS

HERE = Path(__file__).resolve().parent
PROFILES = HERE.parent.parent / "profiles"
FITTED = HERE / "fitted.json"


def fitted(data: Path) -> dict[str, dict[str, float]]:
    """Everything that the engines' constants are made of, ready to be written: constants, corrections and errors."""
    seen = rows(data)
    constants = fit(seen)
    roofline = Roofline(constants)
    slower = {
        f"{model.hub} on {gpu.name}": factor
        for gpu in GPUS.values()
        for model in LADDERS
        if (factor := slower_than_predicted(roofline, model, gpu, seen)) is not None
    }
    by_model, by_gpu = leave_models(seen), leave_gpus(seen)
    step = {gpu.name: step_error(by_model, gpu.name) or step_error(by_gpu, gpu.chip) for gpu in GPUS.values()}
    prefill = rms([error for each in by_model for error in each.errors.get("prefill", [])])
    return {
        "constants": constants,
        "slower": _rounded(slower),
        "fitted_error": _rounded(own_errors(roofline, seen)),
        "step_error": _rounded(step),
        "prefill_error": _rounded({"all": prefill}),
        "overhead_s": _rounded({"all": overhead_s(roofline, data)}),
    }


def step_error(left: Sequence[Left], gpu: str) -> float | None:
    found = [error for each in left if each.gpu == gpu for error in each.errors.get("step", [])]
    return rms(found) if found else None


def own_errors(roofline: Roofline, seen: Sequence[Row]) -> dict[str, float]:
    """ "model on gpu" -> root mean square of the errors of its steps in the fit."""
    groups: dict[str, list[Row]] = {}
    for row in seen:
        if row.kind in ("step", "run"):
            groups.setdefault(f"{row.model} on {row.gpu}", []).append(row)
    return {key: rms(errors_of(roofline, group)["step"]) for key, group in groups.items()}


def _rounded(numbers: dict[str, float | None]) -> dict[str, float]:
    return {key: float(f"{value:.3g}") for key, value in numbers.items() if value is not None}


def library(found: dict[str, dict[str, float]]) -> list[Believed]:
    errors = Errors(found["fitted_error"], found["step_error"], found["prefill_error"]["all"])
    return list(believe(found["constants"], found["slower"], errors, found["overhead_s"]["all"]))


def texts(believed: Sequence[Believed], data: Path) -> dict[str, str]:
    """Name -> TOML."""
    scores, lengths = Scores(data), Lengths(data)
    return {
        b.name: toml(b, scores.quality(b.model), lengths.of(b.model), scores.thinking(b.model), lengths.thinking(b.model)) for b in believed
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Derive the profiles that ship from published figures.")
    parser.add_argument("--data", type=Path, required=True, help="folder with latency/ and quality/")
    parser.add_argument("--write", action="store_true", help="write fitted.json and the profiles")
    args = parser.parse_args()
    found = fitted(args.data)
    print(json.dumps(found, indent=2), *table(Roofline(found["constants"]), args.data), sep="\n")
    written = texts(library(found), args.data)
    if args.write:
        FITTED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        for name, text in written.items():
            (PROFILES / f"{name}.toml").write_text(text, encoding="utf-8")
    print(f"{len(written)} profiles" + (f" written to {PROFILES.name}/" if args.write else "; --write writes them"))


if __name__ == "__main__":
    main()
