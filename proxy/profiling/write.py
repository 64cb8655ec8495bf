"""The profile as TOML: the engine as it was measured, everything else from another profile, or marked as assumed; and old against new."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bestserve.profiles import TASKS, Profile, Source, parse
from bestserve.profiles.schema import SCHEMA

__all__ = ["Change", "Facts", "Given", "changes", "text"]

NEUTRAL = 0.5
Number = tuple[float, Source]


@dataclass(frozen=True, slots=True)
class Given:
    """What is known about a backend beside its times."""

    name: str
    model: str
    params_b: float | None = None  # None: as the base says, or the model's name
    gpu: str | None = None
    n_gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the file will say."""

    given: Given
    engine: Mapping[str, Number]
    comment: str  # provenance, several lines


@dataclass(frozen=True, slots=True)
class Change:
    """One constant of the old profile and of the new one."""

    name: str
    old: float
    new: float
    within: bool  # whether the old value is in the new one's interval of 95 in 100

    @property
    def ratio(self) -> float:
        return self.new / self.old if self.old else float("inf") if self.new else 1.0


def text(facts: Facts, base: Path | None) -> str:
    """The whole file; what it says about quality, size and price is the base's. Raises BadProfile when that would not be a profile."""
    known = {} if base is None else tomllib.loads(base.read_text(encoding="utf-8"))
    top = {"schema": SCHEMA, "name": facts.given.name, **_top(facts.given, known)}
    tables = {"engine": {name: _sourced(*number) for name, number in facts.engine.items()}, "quality": _neutral()}
    tables |= {key: value for key, value in known.items() if isinstance(value, dict) and key not in (*top, "engine")}
    lines = [f"# {line}".rstrip() for line in facts.comment.splitlines()]
    lines += [f"{key} = {_written(value)}" for key, value in top.items()]
    for key, value in tables.items():
        lines += _table(key, value)
    said = "\n".join(lines) + "\n"
    parse(tomllib.loads(said), name="written")
    return said


def changes(old: Profile, engine: Mapping[str, Number]) -> list[Change]:
    """Every constant that both have."""
    return [
        Change(name, float(was), value, abs(was - value) <= 1.96 * value * (source.error or 0.0) or was == value)
        for name, (value, source) in engine.items()
        if (was := getattr(old.engine, name)) is not None
    ]


def _top(given: Given, known: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in known.items() if not isinstance(value, dict) or "value" in value}
    plain = {key: value for key, value in plain.items() if key not in ("schema", "name")}
    plain["model"] = known.get("model", given.model)
    plain["params_b"] = _params(given, known)
    plain["gpu"] = given.gpu or known.get("gpu") or "unknown"
    plain["n_gpus"] = given.n_gpus or known.get("n_gpus") or 1
    return plain


def _params(given: Given, known: Mapping[str, Any]) -> Any:
    """Billions of parameters: as told, as the base says, as the model's name says, or a marked guess."""
    if given.params_b is not None:
        return given.params_b
    if "params_b" in known:
        return known["params_b"]
    if (size := _SIZE.search(given.model)) is not None:
        billions = float(size[1]) * (1.0 if size[2] in "bB" else 0.001)
        return _sourced(billions, Source("the model's name", "published"))
    return _sourced(1.0, Source("nobody said it; tell --params-b", "assumed"))


_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])")


def _neutral() -> dict[str, Any]:
    source = Source("nothing was measured of it: the same for every task; see docs/profiling.md", "assumed")
    return {task: _sourced(NEUTRAL, source) for task in TASKS}


def _sourced(value: float, source: Source) -> dict[str, Any]:
    rounded = int(value) if float(value).is_integer() and value >= 1 else float(f"{value:.4g}")
    table: dict[str, Any] = {"value": rounded, "source": source.source, "how": source.how}
    return table if source.error is None else {**table, "error": float(f"{source.error:.2g}")}


def _table(path: str, values: Mapping[str, Any]) -> list[str]:
    """A table with a line for each key; a table in it that is not one entry's comes as a table of its own, after them."""
    inner = {key: value for key, value in values.items() if isinstance(value, dict) and not _is_entry(value)}
    lines = [f"{key} = {_written(value)}" for key, value in values.items() if key not in inner]
    lines = ["", f"[{path}]", *lines] if lines else []
    return lines + [line for key, value in inner.items() for line in _table(f"{path}.{key}", value)]


def _is_entry(value: Mapping[str, Any]) -> bool:
    """Whether a table stands for one thing: a number with its source, or a distribution."""
    return not value.keys().isdisjoint(("value", "median"))


def _written(value: Any) -> str:
    """A value in TOML, whose texts are written as JSON's are; an entry stands in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_written(one)}" for key, one in value.items()) + " }"
    return repr(value) if isinstance(value, float) else orjson.dumps(value).decode()
