"""Server-sent events, incremental: bytes in, whole events out. Knows neither side of the wire.

`feed` is linear in its input and indifferent to where it is cut. An event is the bytes up to and with the blank line that ends it,
handed out as they came, so that what is not looked into passes unharmed. Line ends may be LF, CRLF or CR (WHATWG, Server-sent events).
"""

import re

_END = re.compile(rb"(?>\r\n|\n|\r){2}")
_LINES = re.compile(rb"\r\n|\n|\r")

_LOOK_BACK = 3  # bytes held back that may be the first ones of a blank line

MOST = 16 * 1024 * 1024
"""Longest event that is waited for, in bytes."""


class Splitter:
    """Cuts a byte stream into events."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; give the events that they complete, each with its blank line. Raises ValueError past MOST bytes."""
        if not self._rest and data.endswith(b"\n\n") and b"\r" not in data and b"\n\n\n" not in data:  # nearly always
            return [event + b"\n\n" for event in data[:-2].split(b"\n\n")]
        looked_through = max(0, len(self._rest) - _LOOK_BACK)
        self._rest += data
        return self._cut(looked_through)

    def flush(self) -> bytes:
        """What is left when the stream has ended: an event that never got its blank line, or b""."""
        rest, self._rest = self._rest, bytearray()
        return bytes(rest)

    @property
    def is_between(self) -> bool:
        """Whether nothing is held back."""
        return not self._rest

    def _cut(self, looked_through: int) -> list[bytes]:
        rest, events, start = self._rest, [], 0
        for end in _END.finditer(rest, looked_through):
            if end.end() == len(rest) and rest.endswith(b"\r"):
                break  # the next byte may be the other half of CRLF
            events.append(bytes(rest[start : end.end()]))
            start = end.end()
        del rest[:start]
        if len(rest) > MOST:
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
