"""What was asked and what it scored, a line each as it comes, so that a run that was broken off goes on where it was.

A line is known again by everything that its answer depends on: the address, the whole request, and the check. A prompt that was changed
is asked anew; one that was not is not.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from io import BufferedWriter
from pathlib import Path

import orjson

from .prompts import Prompt


class BadLedger(ValueError):
    """The file is not one of ours; the message names it and the line."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One answer and what it was worth."""

    key: str
    id: str
    task: str
    budget: str
    score: float
    cut: bool
    tokens: int | None
    at: float  # seconds since 1970
    text: str


def key(url: str, body: bytes, prompt: Prompt) -> str:
    """Names one question: 24 hex digits."""
    digest = blake2b(digest_size=12)
    for part in (url.encode(), body, prompt.check.model_dump_json().encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


class Ledger:
    """An open file. Lines are added whole and flushed."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self.known = {} if fresh else {row.key: row for row in _read(path)}
        self._file: BufferedWriter = path.open("wb" if fresh else "ab")
        if self.known and not path.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")  # after a line that was torn off

    def add(self, row: Scored) -> None:
        self.known[row.key] = row
        self._file.write(orjson.dumps(asdict(row)) + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _read(path: Path) -> Iterator[Scored]:
    """The rows of a file; none where there is no file. A line that was broken off is no row. Raises BadLedger."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            yield Scored(**{f.name: row[f.name] for f in fields(Scored)})
        except (orjson.JSONDecodeError, LookupError, TypeError) as error:
            if _is_torn(line):
                continue
            raise BadLedger(f"{path}:{number}: not a line of scored answers; give another --answers") from error


def _is_torn(line: bytes) -> bool:
    """Whether it began as one of ours and was broken off."""
    start = b'{"key":'
    return line[: len(start)] == start[: len(line)] and not line.endswith(b"}")
