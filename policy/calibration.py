"""What a log has taught of backends, beside their profiles: it travels in a checkpoint, and takes the profile's place where that decides.

A policy reads predictions; where what they are made of is wrong, no actor can mend it. So a checkpoint brings what its log said of each
backend by name: constants of its engine, quality by task, what a cut or a brief answer keeps, by how much answers are longer than foreseen.
It holds only for the profile that it corrects: a backend that is another one now is believed to be as its own profile says.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from bestserve.profiles.schema import TASKS, Engine

from .facts import Backend

ENGINE = ("prefill_tokens_per_s", "prefill_fixed_s", "step_fixed_s", "step_per_seq_s", "step_per_kv_token_s", "overhead_s")
"""Constants of an engine (`profiles.schema.Engine`) that can be corrected."""

LONGEST = math.log(8.0)
"""Answers are believed to be this much longer or shorter at most, in log tokens; as in `drift`."""


class BadCalibration(ValueError):
    """What cannot be believed of a backend; the message names the field."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """Of one backend. What is not there is as the profile says."""

    profile: str  # that this corrects
    engine: Mapping[str, float] = field(default_factory=dict)  # of ENGINE
    quality: Mapping[str, float] = field(default_factory=dict)  # of TASKS, like the rest
    kept_when_cut: Mapping[str, float] = field(default_factory=dict)
    kept_when_concise: Mapping[str, float] = field(default_factory=dict)
    longer: Mapping[str, float] = field(default_factory=dict)  # log of a factor on what was predicted


Calibration = Mapping[str, Corrected]
"""Backend -> what is believed of it."""


def calibrated(backends: Iterable[Backend], calibration: Calibration) -> tuple[Backend, ...]:
    """The same backends, as they are believed to be. Those that are not in it, or have another profile now, stay as they are."""
    return tuple(_corrected(backend, calibration.get(backend.name)) for backend in backends)


def _corrected(backend: Backend, by: Corrected | None) -> Backend:
    profile = backend.profile
    if by is None or by.profile != profile.name:
        return backend
    effect = replace(
        profile.budget_effect,
        kept_when_cut={**profile.budget_effect.kept_when_cut, **by.kept_when_cut},
        kept_when_concise={**profile.budget_effect.kept_when_concise, **by.kept_when_concise},
    )
    engine: Engine = replace(profile.engine, **cast(Any, by.engine))
    quality = {**profile.quality, **by.quality}
    longer = tuple(by.longer.get(task, 0.0) for task in TASKS) if by.longer else ()
    return replace(backend, profile=replace(profile, engine=engine, quality=quality, budget_effect=effect), longer=longer)


def plain(calibration: Calibration) -> dict[str, Any]:
    """As JSON has it."""
    return {name: asdict(by) for name, by in calibration.items()}


def parsed(raw: Any) -> dict[str, Corrected]:
    """From JSON. Raises BadCalibration."""
    try:
        return {str(name): _parsed(str(name), dict(by)) for name, by in dict(raw).items()}
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, BadCalibration):
            raise
        raise BadCalibration(f"calibration: {type(error).__name__}: {error}") from error


TABLES = {
    "engine": (ENGINE, 0.0, 1e9),
    "quality": (TASKS, 0.0, 1.0),
    "kept_when_cut": (TASKS, 0.0, 1.0),
    "kept_when_concise": (TASKS, 0.0, 1.0),
    "longer": (TASKS, -LONGEST, LONGEST),
}
_POSITIVE = frozenset({"prefill_tokens_per_s", "step_fixed_s"})


def _parsed(name: str, raw: dict[str, Any]) -> Corrected:
    tables = {table: _table(f"calibration.{name}.{table}", dict(raw.get(table, {})), *known) for table, known in TABLES.items()}
    return Corrected(str(raw["profile"]), **tables)


def _table(path: str, raw: dict[str, Any], names: tuple[str, ...], low: float, high: float) -> dict[str, float]:
    for key, value in raw.items():
        if key not in names:
            raise BadCalibration(f"{path}: {key!r} is none of {', '.join(names)}")
        if not low <= float(value) <= high or (key in _POSITIVE and float(value) <= 0):
            raise BadCalibration(f"{path}.{key}: {value!r} is not between {low:g} and {high:g}")
    return {key: float(value) for key, value in raw.items()}
