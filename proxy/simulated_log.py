"""A simulation as a replay log: segments like those that a proxy writes, for trying out what learns from them."""

from pathlib import Path
from time import gmtime, strftime
from zlib import crc32

from numpy.random import Generator

from bestserve.policy.learn.recording import Recorded, records, said_of

from .entries import Around, feedback_line, record_line
from .segments import SEALED, private, stem_of

LINES = 10_000
"""Of a segment."""

KEYS = 8
"""Callers that are made up."""


def write(folder: Path, of: Recorded, *, wall: float, policy: str, name: str, feedback: float, dice: Generator) -> int:
    """Write what was recorded; `wall` is when it began. Of a share of the answers somebody says what they were worth. Returns the lines."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    scores = said_of(of, dice, feedback)
    writer, lines, number, seq = f"simulated-0-{_token(name)}", list[bytes](), 0, 0
    callers = dice.integers(0, KEYS, len(of.scene.trace.at))
    for record in records(of, wall=wall, policy=policy, prefix=f"{name}-"):
        i = int(record.request_id.rpartition("-")[2])
        key, seq = f"key-{callers[i]}", seq + 1
        lines.append(record_line(writer, seq, record, Around(1.0, key, None, left=False)))
        if i in scores:
            seq += 1
            lines.append(feedback_line(writer, seq, wall=record.wall + 1.0, decision=record.decision.id, key=key, score=scores[i]))
        if len(lines) >= LINES:
            number += 1
            _segment(folder, wall, writer, number, lines)
            lines.clear()
    if lines:
        _segment(folder, wall, writer, number + 1, lines)
    return seq


def _segment(folder: Path, wall: float, writer: str, number: int, lines: list[bytes]) -> None:
    opened = strftime("%Y%m%dT%H%M%S", gmtime(wall)) + f"{int(wall % 1 * 1000):03d}Z"
    with private(folder / (stem_of(opened, writer, number) + SEALED)) as file:
        file.writelines(lines)


def _token(name: str) -> str:
    return f"{crc32(name.encode()):08x}"
