"""Events, however their bytes are cut: the same events come out, in linear time, with every byte that went in."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve.proxy.dialects import sse
from bestserve.proxy.dialects.sse import Splitter, data_of, first_of

EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b": a comment\n\n",
    b'data: {"content":"\\n\\n \\r\\n \xc3\xa9\xf0\x9f\x98\x80"}\n\n',
    b"event: x\nid: 7\ndata: one\ndata:two\ndata\ndata:  three\n\n",
    b'data:{"usage":{"completion_tokens":3}}\n\n',
    b"data: [DONE]\n\n",
)


def transcript(line_end: bytes) -> list[bytes]:
    return [event.replace(b"\n", line_end) for event in EVENTS]


def fed(pieces: list[bytes]) -> list[bytes]:
    """All events of a stream that comes in these pieces, and what is left of it."""
    splitter = Splitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    rest = splitter.flush()
    return [*events, rest] if rest else events


LINE_ENDS = pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])


@LINE_ENDS
def test_one_cut_at_any_place_changes_nothing(line_end):
    """The same events, wherever it falls: in a word, in a character, between CR and LF."""
    events = transcript(line_end)
    data = b"".join(events)

    for cut in range(len(data) + 1):
        assert fed([data[:cut], data[cut:]]) == events


@LINE_ENDS
def test_many_cuts_at_random_places_change_nothing(line_end):
    """Also a byte at a time, and with empty pieces in between."""
    events, dice = transcript(line_end), random.Random(7)
    data = b"".join(events)

    for n in (1, 2, 5, 20, 100):
        for _ in range(50):
            cuts = sorted(dice.choices(range(len(data) + 1), k=n))
            assert fed([data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]) == events
    assert fed([data[i : i + 1] for i in range(len(data))]) == events


LINES = st.lists(st.sampled_from([b"data: x", b"data:y", b": c", b"z"]), min_size=1, max_size=3)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@settings(deadline=None)
@given(st.data())
def test_line_ends_may_be_mixed(data):
    """Each line has the end that it likes; an event ends at the first empty line."""
    events = []
    for _ in range(data.draw(st.integers(1, 4))):
        lines = [line + data.draw(ENDS) for line in data.draw(LINES)]
        blank = data.draw(ENDS)
        if lines[-1].endswith(b"\r") and blank == b"\n":
            blank = b"\r\n"  # CR and LF would be one end
        events.append(b"".join(lines) + blank)
    stream = b"".join(events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))

    assert fed([stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == events


@settings(deadline=None)
@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"\n", b"\r", b"\n\n", b"\r\n\r\n", b"data: "]), max_size=30))
def test_no_byte_is_lost_or_made(pieces):
    """Whatever comes in goes out, in order, and cuts do not matter."""
    whole = b"".join(pieces)

    assert b"".join(fed(pieces)) == whole
    assert fed(pieces) == fed([whole])


def test_an_event_is_handed_out_when_it_is_whole():
    """Not before, and without waiting for the next one."""
    splitter = Splitter()

    assert splitter.feed(b"data: 1\n") == []
    assert not splitter.is_between
    assert splitter.feed(b"\ndata: 2\n\nda") == [b"data: 1\n\n", b"data: 2\n\n"]
    assert splitter.feed(b"ta: 3\r\n\r\n") == [b"data: 3\r\n\r\n"]
    assert splitter.is_between


def test_flush_gives_what_never_got_its_blank_line():
    """Once."""
    splitter = Splitter()
    splitter.feed(b"data: 1\n\ndata: 2")

    assert splitter.flush() == b"data: 2"
    assert splitter.flush() == b""
    assert splitter.is_between


def test_a_lone_cr_at_the_end_waits_for_its_other_half():
    """CR CR may be CR CRLF; at the end of the stream it was not."""
    splitter = Splitter()

    assert splitter.feed(b"data: 1\r\r") == []
    assert splitter.flush() == b"data: 1\r\r"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  two blanks\n\n", b" two blanks"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata: b\r\n\r\n", b"a\nb"),
        (b"data: a\rdata: b\r\r", b"a\nb"),
        (b"event: x\ndata: a\nid: 1\n\n", b"a"),
        (b"data: no blank line", b"no blank line"),
        (b": comment\n\n", b""),
        (b"database: x\n\n", b""),
        (b"data: [DONE]\n\n", b"[DONE]"),
        (b"\n\n", b""),
        (b"", b""),
    ],
)
def test_the_payload_of_an_event(event, data):
    """Its data lines, joined by LF; anything else is not data."""
    assert data_of(event) == data


@LINE_ENDS
def test_the_first_of_some_events(line_end):
    """With its blank line; a part of one is given as it is."""
    events = transcript(line_end)

    assert first_of(b"".join(events)) == events[0]
    assert first_of(b"data: half") == b"data: half"


def test_an_event_without_end_is_not_waited_for(monkeypatch):
    """Past the most, it is an error and no memory."""
    monkeypatch.setattr(sse, "MOST", 1000)
    splitter = Splitter()
    splitter.feed(b"x" * 1000)

    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        splitter.feed(b"x")


def _seconds(pieces: list[bytes]) -> float:
    splitter, began = Splitter(), time.process_time()
    for piece in pieces:
        splitter.feed(piece)
    return time.process_time() - began


@pytest.mark.parametrize("piece", [b"x" * 16, b"\r\n" + b"x" * 14, b"data: x\n"], ids=["one line", "CRLF lines", "lines"])
def test_a_long_event_in_tiny_pieces_takes_linear_time(piece):
    """Twenty times as many pieces take about twenty times as long, and not four hundred times."""
    few = min(_seconds([piece] * 5_000) for _ in range(3))
    many = min(_seconds([piece] * 100_000) for _ in range(2))

    assert many < 60 * few + 0.05


def test_many_events_in_one_piece_take_linear_time():
    """A megabyte of them."""
    assert _seconds([b"data: x\r\n\r\n" * 100_000]) < 1
    assert _seconds([b"data: x\n\n" * 100_000]) < 1
