"""Recorded arrivals: lines of a trace as times and sizes. Two public shapes are known by their columns.

    TIMESTAMP, ContextTokens, GeneratedTokens                    Azure's LLM inference traces (AzurePublicDataset)
    timestamp | timestamp_ms, input_length, output_length        Mooncake's traces; a timestamp is in milliseconds

A line that cannot be read is named by its number and never passed over in silence.
"""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import orjson
from numpy.random import Generator

from .facts import Floats, Ints
from .workload import Demand


class BadTrace(ValueError):
    """A trace that cannot be used; the message names the line."""


@dataclass(slots=True)
class Recorded:
    """Requests as they were seen, (N,) each, from time 0 on."""

    at: Floats  # seconds
    prompt: Floats  # tokens
    tokens: Floats  # of the answer
    skipped: list[str] = field(default_factory=list)  # lines that could not be read, each with its number and why


def read_trace(lines: Iterable[str], *, skip_bad: bool = False) -> Recorded:
    """Read a CSV with a header, or lines of JSON. Raises BadTrace at a bad line, unless bad ones are to be skipped."""
    rows, skipped = list[tuple[float, float, float]](), list[str]()
    for number, row in _rows(lines):
        try:
            rows.append(_row(row))
        except (KeyError, TypeError, ValueError) as error:
            why = f"line {number}: {_why(error, row)}"
            if not skip_bad:
                raise BadTrace(why) from error
            skipped.append(why)
    if not rows:
        raise BadTrace("the trace holds no request" + (f"; {skipped[0]}" if skipped else ""))
    table = np.array(sorted(rows))
    return Recorded(table[:, 0] - table[0, 0], table[:, 1].copy(), table[:, 2].copy(), skipped)


def tasks_of(dice: Generator, recorded: Recorded, demand: Demand) -> Ints:
    """A task for each recorded request, drawn by how likely answers of its length are in each: a trace does not say."""
    medians = np.log(np.array(demand.answer_median))
    far = (np.log(np.maximum(recorded.tokens, 1.0))[:, None] - medians) / demand.answer_sigma
    chance = np.log(np.maximum(np.array(demand.mix), 1e-12)) - 0.5 * far**2
    chance = np.exp(chance - chance.max(axis=1, keepdims=True))
    edges = np.cumsum(chance / chance.sum(axis=1, keepdims=True), axis=1)
    drawn: Ints = np.minimum((dice.uniform(size=(len(edges), 1)) > edges).sum(axis=1), len(medians) - 1)
    return drawn


def _rows(lines: Iterable[str]) -> Iterable[tuple[int, Mapping[str, object]]]:
    """Numbered rows, by column name; those that are no rows at all come as an empty mapping."""
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first_number, first = next(numbered, (0, ""))
    if first.lstrip().startswith("{"):
        yield first_number, _json(first)
        for number, line in numbered:
            yield number, _json(line)
        return
    names = next(csv.reader([first.lstrip("\ufeff")]), [])
    for number, line in numbered:
        yield number, dict(zip(names, next(csv.reader([line])), strict=False))


def _json(line: str) -> Mapping[str, object]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}


def _row(row: Mapping[str, object]) -> tuple[float, float, float]:
    if "TIMESTAMP" in row:
        return _seconds(row["TIMESTAMP"]), _tokens(row, "ContextTokens"), _tokens(row, "GeneratedTokens")
    stamp = row["timestamp_ms"] if "timestamp_ms" in row else row["timestamp"]
    at = float(str(stamp)) / 1000.0
    if not math.isfinite(at):
        raise ValueError(f"a time of {stamp!r}")
    return at, _tokens(row, "input_length"), _tokens(row, "output_length")


def _seconds(stamp: object) -> float:
    text = str(stamp).strip()
    text = text[:26] if "." in text else text  # Azure writes seven digits of a second; six are understood
    return datetime.fromisoformat(text).timestamp()


def _tokens(row: Mapping[str, object], name: str) -> float:
    value = float(str(row[name]))
    if not 0 < value < 1e9:
        raise ValueError(f"{name} of {row[name]!r}")
    return value


def _why(error: Exception, row: Mapping[str, object]) -> str:
    if isinstance(error, KeyError):
        return f"there is no column {error.args[0]!r} among {', '.join(row) or 'none'}"
    return str(error)
