"""What a config says of backends that are paid for: prices, caps, rates, how good they are where no profile knows."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, StrictBool, StrictFloat, StrictInt
from pydantic import WithJsonSchema as Shown

from bestserve import profiles
from bestserve.policy.facts import TASKS, Tariff

from .config_words import Section, near

PROVIDER: Any = "provider"
"""The profile of a backend of which only the name is known."""

Usd = Annotated[StrictFloat, Field(ge=0, le=1_000_000)]
MaybeUsd = Annotated[Usd | None, BeforeValidator(lambda value: None if value in ("none", "") else value)]
Option = Annotated[StrictBool | StrictInt | StrictFloat | str, Shown({"kind": "text, number, true or false"})]


class Spend(Section):
    """The most that may be paid to one backend, over all processes, restarts included."""

    usd_per_hour: MaybeUsd = Field(default=None, description="dollars in any hour; none is without a cap")
    usd_per_day: MaybeUsd = Field(default=None, description="dollars in any 24 hours; none is without a cap")


def _quality(value: Any) -> Mapping[str, float] | None:
    if value in (None, "none", ""):
        return None
    if isinstance(value, bool | int | float):
        return dict.fromkeys(TASKS, _share("quality", value))
    if isinstance(value, dict):
        for task in value:
            if task not in TASKS:
                raise ValueError(f"{task!r} is not a task{near(task, TASKS)}")
        return {task: _share(task, share) for task, share in value.items()}
    if value not in profiles.names():
        raise ValueError(f"must be a number, a number for each task, or a shipped profile's name{near(str(value), profiles.names())}")
    return profiles.load(value).quality


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1")
    return float(value)


Quality = Annotated[
    Mapping[str, float] | None,
    PlainValidator(_quality),
    Shown({"kind": "number from 0 to 1, a table of them by task, or a shipped profile's name"}),
]


def tariff(prompt: float | None, answer: float | None, cached: float | None) -> Tariff | None:
    """Dollars per million tokens as what one token costs; None where nothing is said."""
    if prompt is None or answer is None:
        return None
    return Tariff(prompt / 1e6, answer / 1e6, None if cached is None else cached / 1e6)
