"""Prompt and answer have the lengths that were meant, and a stream is read as it came."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bestserve.proxy.dialects.sglang import SGLANG
from bestserve.proxy.errors import BackendFailure
from bestserve.proxy.profiling.ask import WAYS, Way, body, read
from bestserve.proxy.profiling.script import Call

GOLDEN = Path(__file__).parents[2] / "golden" / "sglang"
IDS, TEXT, CHAT, PLAIN, PLAIN_CHAT = WAYS


def asked(way: Way, call: Call) -> dict:
    return orjson.loads(body(way, "m", call))


def chunks(name: str) -> list[bytes]:
    """The events of a captured stream."""
    text = (GOLDEN / name).read_bytes()
    return [
        b"data: " + part.strip() + b"\n\n"
        for part in text[text.index(b"\r\n\r\n" if b"\r\n\r\n" in text else b"\n\n") :].split(b"data: ")[1:]
    ]


def test_token_numbers_have_the_length_that_was_meant() -> None:
    """A hundred numbers, the same for the same call, others for another; nothing that a small vocabulary lacks."""
    prompt = asked(IDS, Call(100, 5, seed=1))["prompt"]

    assert len(prompt) == 100
    assert prompt == asked(IDS, Call(100, 5, seed=1))["prompt"]
    assert prompt != asked(IDS, Call(100, 5, seed=2))["prompt"]
    assert all(1_000 <= number < 30_000 for number in prompt)


def test_a_shared_beginning_is_shared_and_the_rest_is_not() -> None:
    """Of 100 tokens the first 80 come from the family."""
    one, other = (asked(IDS, Call(100, 5, seed, shared=80, family=9))["prompt"] for seed in (1, 2))

    assert one[:80] == other[:80]
    assert one[80:] != other[80:]


def test_texts_are_stretched_to_the_tokens_that_were_seen() -> None:
    """Where a word is two tokens, half as many words are sent."""
    words = asked(replace(TEXT, tokens_per_word=2.0), Call(100, 5, seed=1))["prompt"].split()

    assert len(words) == 50


def test_an_engine_is_told_to_go_on_and_to_count_and_a_plain_one_is_not() -> None:
    """What only engines know would be refused elsewhere."""
    rich, plain = asked(CHAT, Call(10, 5, seed=1)), asked(PLAIN_CHAT, Call(10, 5, seed=1))

    assert rich["ignore_eos"] is True
    assert rich["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert rich["messages"][0]["role"] == "user"
    assert plain["stream_options"] == {"include_usage": True}
    assert "ignore_eos" not in plain
    assert plain["max_tokens"] == 5


def test_each_event_counts_what_it_says() -> None:
    """A captured stream of SGLang with counts in every event: four tokens, each when it came; the role is none."""
    pieces = [(float(i), chunk) for i, chunk in enumerate(chunks("chat_stream_contusage.txt"))]

    stream = read(SGLANG, 0.0, pieces)

    assert stream.counts == (1, 2, 3, 4)
    assert stream.times == (1.0, 2.0, 3.0, 4.0)
    assert stream.prompt_tokens == 34


def test_without_counts_an_event_is_a_token() -> None:
    """Stretched to the usage at the end, where text came in fewer pieces than there were tokens."""
    said = [
        b'{"choices":[{"text":"a"}]}',
        b'{"choices":[{"text":"b"}]}',
        b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":6}}',
        b"[DONE]",
    ]

    stream = read(SGLANG, 0.5, [(1.0 + i, b"data: " + one + b"\n\n") for i, one in enumerate(said)])

    assert (stream.sent, stream.times, stream.counts, stream.prompt_tokens) == (0.5, (1.0, 2.0), (3, 6), 7)


def test_an_error_among_the_events_is_raised() -> None:
    """SGLang says no to a stream with a 200."""
    whole = (GOLDEN / "queue_full_stream.txt").read_bytes()

    with pytest.raises(BackendFailure, match="queue is full"):
        read(SGLANG, 0.0, [(1.0, whole)])


def test_nothing_at_all_is_an_empty_stream() -> None:
    """No times, no tokens."""
    stream = read(SGLANG, 0.0, [])

    assert stream.times == ()
    assert stream.tokens == 0
