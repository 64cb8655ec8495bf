"""Server-sent events, incremental: bytes in, whole events out. Knows neither side of the wire.

`feed` is linear in its input and indifferent to where it is cut. An event is the bytes up to and with the blank line that ends it,
handed out as they came, so that what is not looked into passes unharmed. Line ends may be LF, CRLF or CR (WHATWG, Server-sent events).
"""

import re

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r(?!\n)")
_LINES = re.compile(rb"\r\n|\n|\r")

MOST = 16 * 1024 * 1024
"""Longest event that is waited for, in bytes."""


class Splitter:
    """Cuts a byte stream into events."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; give the events that they complete, each with its blank line. Raises ValueError past MOST bytes."""
        if self._rest:
            data = self._rest + data
        if data.endswith(b"\n\n") and b"\r" not in data:  # nearly always
            self._rest = b""
            return [event + b"\n\n" for event in data[:-2].split(b"\n\n")]
        return self._cut(data)

    def flush(self) -> bytes:
        """What is left when the stream has ended: an event that never got its blank line, or b""."""
        rest, self._rest = self._rest, b""
        return rest

    @property
    def is_between(self) -> bool:
        """Whether nothing is held back."""
        return not self._rest

    def _cut(self, data: bytes) -> list[bytes]:
        events, start = [], 0
        for end in _END.finditer(data):
            if end.group() == b"\r\r" and end.end() == len(data):
                break  # the next byte may make this the middle of CR CRLF
            events.append(data[start : end.end()])
            start = end.end()
        self._rest = data[start:]
        if len(self._rest) > MOST:
            raise ValueError(f"an event is longer than {MOST} bytes")
        return events


def first_of(data: bytes) -> bytes:
    """The first event of some whole ones."""
    end = _END.search(data)
    return data if end is None else data[: end.end()]


def data_of(event: bytes) -> bytes:
    """The payload of one event: its data lines joined by LF; b"" when it has none."""
    if event.startswith(b"data: ") and event.find(b"\n") >= len(event) - 2 and b"\r" not in event:
        return event[6:].rstrip(b"\n")
    lines = [line[5:].removeprefix(b" ") for line in _LINES.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines)
