"""Record <-> one line of bytes: what was asked, how the fleet looked, what was decided, what came of it.

A line carries the number of its schema. A change of the line's shape raises SCHEMA and adds one converter from the number before it to
CONVERTERS; a converter that has been released is never edited (after mitmproxy's flow files). A line from a newer version is refused
with a word to update. No line holds a prompt, an answer, a key or an address; a
signal, where the operator wants it, holds numbers of known words.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import orjson

from .encode import Caps, Seen, asked_of
from .facts import SLO, Action, Ask, Budget, Columns, Constants, Decision, Ending, FleetView, Length, Outcome

SCHEMA = 5


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
    signal: Mapping[str, Any] | None = None  # see `signals`; None unless the operator wants it


@dataclass(frozen=True, slots=True)
class Line:
    """A Record as it is read back: facts as plain mappings and lists, in today's schema.

    `encode.observe(seen)` gives the Observation again, to the bit: its digest stands in the decision.
    """

    request_id: str
    attempt: int
    wall: float
    source: str
    ask: Ask
    view: Mapping[str, Any]
    seen: Seen | None  # what was encoded; None in lines of schema 1, which did not hold all of it
    decision: Mapping[str, Any]
    outcome: Outcome
    signal: Mapping[str, Any] | None = None


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
        "seen": _seen(record.decision.observation.seen),
        "decision": _decision(record.decision),
        "outcome": _plain(record.outcome),
        "signal": record.signal,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def from_bytes(line: bytes) -> Line:
    """Read one line of any schema so far. Raises BadRecord."""
    try:
        raw = orjson.loads(line)
        raw = migrate(raw)
        ask = _read_ask(raw["ask"])
        return Line(
            request_id=raw["request_id"],
            attempt=raw["attempt"],
            wall=raw["wall"],
            source=raw["source"],
            ask=ask,
            view=raw["view"],
            seen=_read_seen(raw, ask),
            decision=raw["decision"],
            outcome=Outcome(**{**raw["outcome"], "ending": Ending(raw["outcome"]["ending"])}),
            signal=raw["signal"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{type(error).__name__}: {error}") from error


def convert_1_2(raw: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 holds everything that was encoded. Lines of schema 1 do not, and cannot be encoded again."""
    return {**raw, "seen": None}


def convert_2_3(raw: dict[str, Any]) -> dict[str, Any]:
    """Schema 3 may hold a signal. Nobody kept one before."""
    return {**raw, "signal": None}


def convert_3_4(raw: dict[str, Any]) -> dict[str, Any]:
    """Schema 4 tells the floor of what was explored. Before, it is not known."""
    return {**raw, "decision": {**raw["decision"], "floor": None}}


def convert_4_5(raw: dict[str, Any]) -> dict[str, Any]:
    """Schema 5 tells what is being written. Before, nobody looked: as if nothing were."""
    none = [0.0] * len(raw["view"]["backends"])
    return {**raw, "view": {**raw["view"], "haste": none, "worth": none, "writing": none, "written": none, "writing_s": none}}


CONVERTERS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: convert_1_2, 2: convert_2_3, 3: convert_3_4, 4: convert_4_5}
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
    """The Fleet's numbers. JSON has no infinity: an age or a limit that is infinite is written as null."""
    return {
        "backends": [b.name for b in view.backends],
        "models": [b.model for b in view.backends],
        "profiles": [b.profile.name for b in view.backends],
        **view.constants._asdict(),
        **view.columns._asdict(),
    }


def _seen(seen: Seen) -> dict[str, Any]:
    """What an Observation is made of beyond ask and view."""
    return {"caps": seen.caps.tokens, "told": seen.caps.told, "worth": seen.worth, "able": seen.able, "cached": seen.cached}


def _read_seen(raw: Mapping[str, Any], ask: Ask) -> Seen | None:
    """The numbers that were encoded, exactly; None where the line's schema did not hold them all."""
    if raw["seen"] is None:
        return None
    seen, view = raw["seen"], raw["view"]
    caps = Caps(tuple(_numbers(seen["caps"])), tuple(seen["told"]))
    columns = Columns(*[_numbers(view[name]) for name in Columns._fields])
    constants = Constants(*[view[name] for name in Constants._fields])
    return Seen(asked_of(ask), caps, columns, constants, seen["worth"], seen["able"], seen["cached"])


def _numbers(values: Any) -> Any:
    """null is infinity again."""
    if not isinstance(values, list) or None not in values:
        return values
    return [math.inf if value is None else value for value in values]


def _decision(decision: Decision) -> dict[str, Any]:
    plain = _plain(decision)
    del plain["observation"]
    plain["digest"] = decision.digest
    plain["action"] = _action(decision.action)
    plain["actions"] = [_action(action) for action in decision.actions]
    plain["propensity"] = decision.propensity
    return plain


def _action(action: Action) -> dict[str, Any] | None:
    return None if action.shed else {"backend": action.backend, "budget": _budget(action.budget)}


def _budget(budget: Budget) -> int | None:
    return budget.tokens
