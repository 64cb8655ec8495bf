"""Record <-> one line of bytes: what was asked, how the fleet looked, what was decided, what came of it.

A line carries the number of its schema. A change of the line's shape raises SCHEMA and adds one converter from the number before it to
CONVERTERS; a converter that has been released is never edited (after mitmproxy's flow files). A line from a newer version is refused
with a word to update. No line holds a prompt, an answer, a key or an address.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import orjson

from .facts import (
    SLO,
    Action,
    Ask,
    Budget,
    Decision,
    Ending,
    FleetView,
    Length,
    Outcome,
)

SCHEMA = 1

_VIEW_ARRAYS = (
    "usable",
    "held",
    "in_flight",
    "prefill_tokens",
    "decode_tokens",
    "kv_tokens",
    "places",
    "report_age_s",
    "price",
)


class BadRecord(ValueError):
    """A line that cannot be read as a Record; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One attempt. `attempt` counts from 0 within one request; `wall` is seconds since 1970, for people and joins."""

    request_id: str
    attempt: int
    wall: float
    source: str  # "live" or "simulated"
    ask: Ask
    view: FleetView
    decision: Decision
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Line:
    """A Record as it is read back: facts as plain mappings and lists, in today's schema.

    The view names its backends and profiles; whoever encodes again joins them with `profiles`.
    """

    request_id: str
    attempt: int
    wall: float
    source: str
    ask: Ask
    view: Mapping[str, Any]
    decision: Mapping[str, Any]
    outcome: Outcome


def to_bytes(record: Record) -> bytes:
    """One line of JSON with a newline at its end."""
    line = {
        "schema": SCHEMA,
        "request_id": record.request_id,
        "attempt": record.attempt,
        "wall": record.wall,
        "source": record.source,
        "ask": _ask(record.ask),
        "view": _view(record.view),
        "decision": _decision(record.decision),
        "outcome": _plain(record.outcome),
    }
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def from_bytes(line: bytes) -> Line:
    """Read one line of any schema so far. Raises BadRecord."""
    try:
        raw = orjson.loads(line)
        raw = migrate(raw)
        return Line(
            request_id=raw["request_id"],
            attempt=raw["attempt"],
            wall=raw["wall"],
            source=raw["source"],
            ask=_read_ask(raw["ask"]),
            view=raw["view"],
            decision=raw["decision"],
            outcome=Outcome(**{**raw["outcome"], "ending": Ending(raw["outcome"]["ending"])}),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{type(error).__name__}: {error}") from error


CONVERTERS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""schema n -> the function that makes it n + 1."""


def migrate(raw: dict[str, Any]) -> dict[str, Any]:
    """Walk the chain of converters up to SCHEMA. Raises BadRecord for a newer or unknown one."""
    schema = raw.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise BadRecord(f"schema: {schema!r} is not a schema number")
    if schema > SCHEMA:
        raise BadRecord(f"schema {schema} was written by a newer bestserve; this one reads up to {SCHEMA}: please update")
    while schema < SCHEMA:
        raw = CONVERTERS[schema](raw)
        schema += 1
    return raw


def _plain(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _ask(ask: Ask) -> dict[str, Any]:
    plain = _plain(ask)
    plain |= {
        "allowed": sorted(ask.allowed),
        "needs": sorted(ask.needs),
        "length": _plain(ask.length),
        "slo": _plain(ask.slo),
    }
    return plain


def _read_ask(raw: dict[str, Any]) -> Ask:
    return Ask(
        **raw
        | {
            "allowed": frozenset(raw["allowed"]),
            "needs": frozenset(raw["needs"]),
            "task": tuple(raw["task"]),
            "length": Length(**raw["length"]),
            "slo": SLO(**raw["slo"]),
        }
    )


def _view(view: FleetView) -> dict[str, Any]:
    arrays = {name: _finite(getattr(view, name)) for name in _VIEW_ARRAYS}
    return {
        "now": view.now,
        "backends": [b.name for b in view.backends],
        "models": [b.model for b in view.backends],
        "profiles": [b.profile.name for b in view.backends],
        "max_running": view.constants.max_running,
        "kv_capacity": view.constants.kv_capacity,
        "arrival_rate": view.arrival_rate,
        **arrays,
    }


def _finite(values: Any) -> Any:
    """JSON has no infinity: an age that is infinite is written as null."""
    if values.dtype == np.bool_ or np.isfinite(values).all():
        return values
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _decision(decision: Decision) -> dict[str, Any]:
    plain = _plain(decision)
    del plain["seen"]
    plain["digest"] = decision.digest
    plain["action"] = _action(decision.action)
    plain["actions"] = [_action(action) for action in decision.actions]
    plain["propensity"] = decision.propensity
    return plain


def _action(action: Action) -> dict[str, Any] | None:
    return None if action.shed else {"backend": action.backend, "budget": _budget(action.budget)}


def _budget(budget: Budget) -> int | None:
    return budget.tokens
