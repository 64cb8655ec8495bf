"""A Record of the log as one flat row: what `bestserve log show`, `stats` and `export` work on."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bestserve.policy.record import Line

from .signals import Joined

Row = dict[str, Any]

COLUMNS = {
    "time": "TIMESTAMP",
    "decision": "VARCHAR",
    "request_id": "VARCHAR",
    "attempt": "INTEGER",
    "key": "VARCHAR",
    "session": "VARCHAR",
    "source": "VARCHAR",
    "endpoint": "VARCHAR",
    "model": "VARCHAR",
    "tier": "VARCHAR",
    "stream": "BOOLEAN",
    "max_tokens": "BIGINT",
    "backend": "VARCHAR",
    "budget": "BIGINT",
    "policy": "VARCHAR",
    "encoder": "INTEGER",
    "propensity": "DOUBLE",
    "floor": "DOUBLE",
    "odds": "DOUBLE",
    "ending": "VARCHAR",
    "status": "INTEGER",
    "reason": "VARCHAR",
    "ttft_s": "DOUBLE",
    "total_s": "DOUBLE",
    "prompt_tokens": "BIGINT",
    "completion_tokens": "BIGINT",
    "cached_tokens": "BIGINT",
    "finish_reason": "VARCHAR",
    "cut": "BOOLEAN",
    "left": "BOOLEAN",
    "retried_s": "DOUBLE",
    "score": "DOUBLE",
    "judged": "DOUBLE",
    "digest": "VARCHAR",
}
"""name -> SQL type. `backend` is empty for a shed; `prompt_tokens` are as the backend counted, else as we estimated."""


def row_of(joined: Joined) -> Row:
    """The values of COLUMNS, in their order."""
    line, signals = joined.line, joined.signals
    ask, decision, outcome = line.ask, line.decision, line.outcome
    action = decision.get("action") or {}
    found = {
        "time": _time(line),
        "decision": joined.kept.decision,
        "key": joined.kept.around.key,
        "odds": joined.kept.around.odds,
        "backend": action.get("backend"),
        "budget": action.get("budget"),
        "ending": outcome.ending.value,
        "prompt_tokens": ask.prompt_tokens if outcome.prompt_tokens is None else outcome.prompt_tokens,
        "cut": signals.cut,
        "left": signals.left,
        "retried_s": signals.retried_s,
        "score": signals.score,
        "judged": signals.judged,
    }
    return {name: found[name] if name in found else _first(name, line, decision) for name in COLUMNS}


def _first(name: str, line: Line, decision: Any) -> Any:
    """Where a column is a field of the same name."""
    if name in decision:
        return decision[name]
    return next((getattr(part, name) for part in (line, line.outcome, line.ask) if hasattr(part, name)), None)


def _time(line: Line) -> str:
    return datetime.fromtimestamp(line.wall, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def wanted(
    *, decision: str | None = None, key: str | None = None, backend: str | None = None, ending: str | None = None
) -> Callable[[Row], bool]:
    """Whether a row is looked for. The id of a decision may be as a client knows it."""
    said = {"decision": decision and decision.partition(".")[0], "key": key, "backend": backend, "ending": ending}
    asked = {name: value for name, value in said.items() if value is not None}
    return lambda row: all(row[name] == value for name, value in asked.items())
