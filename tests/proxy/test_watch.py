"""What is known of an answer from its bytes alone, and that the bytes are none the worse for it."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve.policy.facts import Ending, Outcome
from bestserve.proxy.dialects.sse import Splitter
from bestserve.proxy.watch import Watch

GOLDEN = Path(__file__).parent.parent / "golden" / "sglang"
USAGE = {"prompt_tokens": 34, "total_tokens": 46, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 30}}


def body(name: str) -> bytes:
    return (GOLDEN / f"{name}.txt").read_bytes().partition(b"\r\n\r\n")[2].removesuffix(b"\n")


def event(**fields: object) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def said(text: str | None = None, finish: str | None = None, index: int = 0) -> bytes:
    return event(choices=[{"index": index, "delta": {"content": text}, "finish_reason": finish}])


def seen(*pieces: bytes, usage_asked: bool = True) -> tuple[Watch, bytes]:
    """What is known after these pieces, and what the client got."""
    watch = Watch(0.0, usage_asked=usage_asked)
    out = b"".join([watch.pass_on(piece, 1.0) for piece in pieces])
    return watch, out + watch.flush()


def outcome(watch: Watch, our_cap: int | None = None) -> Outcome:
    return watch.outcome(2.0, our_cap=our_cap)


# --- usage ---


def test_usage_of_a_stream_is_what_the_backend_counted():
    """To the token; and the client who asked for it gets every byte."""
    data = body("chat_stream")

    watch, out = seen(data)

    assert (outcome(watch).prompt_tokens, outcome(watch).completion_tokens) == (34, 12)
    assert out == data


@pytest.mark.parametrize("name", ["chat_stream", "completions_stream"])
def test_a_usage_chunk_that_was_not_asked_for_is_taken_out(name):
    """It alone: everything else is the same bytes."""
    data = body(name)
    events = Splitter().feed(data)

    watch, out = seen(data, usage_asked=False)

    assert out == b"".join(e for e in events if b'"choices":[]' not in e)
    assert len(out) < len(data)
    assert outcome(watch).completion_tokens


@pytest.mark.parametrize("usage_asked", [True, False])
def test_continuous_usage_is_kept(usage_asked):
    """Chunks that bring text and usage together are text first of all; the last usage is the one that counts."""
    data = body("chat_stream_contusage")

    watch, out = seen(data, usage_asked=usage_asked)

    assert out.count(b'"content":') == data.count(b'"content":')
    assert out.count(b'"usage":') == data.count(b'"usage":') - (not usage_asked)
    assert outcome(watch).completion_tokens == 4


@pytest.mark.parametrize("usage_asked", [True, False])
@pytest.mark.parametrize("name", ["chat_stream", "chat_stream_contusage", "completions_stream"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_cuts_do_not_matter(name, usage_asked, line_end):
    """The client gets the same, and the same is known, wherever the pieces begin."""
    data = body(name).replace(b"\n", line_end)
    watch, out = seen(data, usage_asked=usage_asked)

    for size in (1, 2, 3, 7, 64, 333, 1000):
        cut, cut_out = seen(*(data[i : i + size] for i in range(0, len(data), size)), usage_asked=usage_asked)
        assert cut_out == out
        assert outcome(cut) == outcome(watch)


def test_usage_of_an_answer_that_came_at_once():
    """Streamed or not, the same is known."""
    watch = Watch(0.0, usage_asked=False)
    watch.whole(body("chat_nonstream"))

    assert outcome(watch, our_cap=24) == Outcome(
        ending=Ending.ABANDONED,
        status=0,
        ttft_s=None,
        total_s=2.0,
        prompt_tokens=34,
        completion_tokens=24,
        cached_tokens=None,
        finish_reason="length",
        cut=True,
    )


def test_cached_tokens_are_known_where_they_are_said():
    """In the details of the prompt's tokens."""
    watch, _ = seen(event(choices=[], usage=USAGE))

    assert outcome(watch).cached_tokens == 30


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "34", "completion_tokens": None, "prompt_tokens_details": [1]},
        {"prompt_tokens": 1.5, "completion_tokens": True, "prompt_tokens_details": "x"},
        {"prompt_tokens": -1, "completion_tokens": -5, "prompt_tokens_details": {"cached_tokens": "x"}},
        {"prompt_tokens": {}, "completion_tokens": [], "prompt_tokens_details": {"cached_tokens": -1}},
    ],
)
def test_usage_that_is_none_is_not_known(usage):
    """The books close whatever a backend writes there."""
    watch, _ = seen(event(choices=[], usage=usage))
    whole = Watch(0.0, usage_asked=True)
    whole.whole(orjson.dumps({"choices": [], "usage": usage}))

    for each in (outcome(watch), outcome(whole)):
        assert (each.prompt_tokens, each.completion_tokens, each.cached_tokens) == (None, None, None)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["usage", "choices", "finish_reason", "prompt_tokens_details", "error", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(ANY)
def test_any_answer_has_an_outcome(value):
    """Nothing that a backend can write keeps the books from closing."""
    whole, stream = Watch(0.0, usage_asked=False), Watch(0.0, usage_asked=False)

    whole.whole(orjson.dumps(value))
    stream.pass_on(b"data: " + orjson.dumps(value) + b"\n\n", 1.0)

    assert outcome(whole, our_cap=1).ending is outcome(stream, our_cap=1).ending is Ending.ABANDONED


@pytest.mark.parametrize("answer", [b"", b"x", b"null", b"[1]", b'"x"', b'{"choices":[1]}', b'{"choices":5}', b'{"usage":[]}'])
def test_an_answer_that_cannot_be_read_is_still_one(answer):
    """It goes to the client; nothing is known of it."""
    watch = Watch(0.0, usage_asked=True)
    watch.whole(answer)

    assert outcome(watch).completion_tokens is None


# --- how it ended ---


def test_a_watch_begins_as_abandoned():
    """Whatever is not proven otherwise was abandoned."""
    assert outcome(Watch(0.0, usage_asked=True)) == Outcome(Ending.ABANDONED, 0, None, 2.0, None, None, None, None, cut=False)


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "abort"])
def test_the_finish_reason_is_known(reason):
    """From the chunk that brings it."""
    watch, _ = seen(said("a"), said(finish=reason), b"data: [DONE]\n\n")

    assert watch.finish_reason == reason


@pytest.mark.parametrize("order", [("stop", "length", "stop"), ("length", "stop", "stop"), ("stop", "stop", "length")])
def test_of_several_choices_one_that_was_cut_counts(order):
    """In a stream and at once."""
    watch, _ = seen(*(said(finish=reason, index=i) for i, reason in enumerate(order)))
    whole = Watch(0.0, usage_asked=True)
    whole.whole(orjson.dumps({"choices": [{"index": i, "finish_reason": reason} for i, reason in enumerate(order)]}))

    assert watch.finish_reason == whole.finish_reason == "length"


def test_an_answer_was_cut_only_by_our_cap():
    """Not by the client's own, and not when it ended by itself."""
    cut, _ = seen(said(finish="length"))
    ended, _ = seen(said(finish="stop"))

    assert outcome(cut, our_cap=12).cut
    assert not outcome(cut, our_cap=None).cut
    assert not outcome(ended, our_cap=12).cut


TALK = [
    'He wrote: "usage": {"prompt_tokens": 1, "completion_tokens": 2}',
    '{"choices": [], "usage": {"completion_tokens": 99}}',
    '"finish_reason": "length"',
    '{"error": {"message": "no"}}',
    '\n\ndata: {"choices":[],"usage":{"completion_tokens":99}}\n\n',
    '\\"usage\\": {"',
    "data: [DONE]\r\n\r\n",
]


@pytest.mark.parametrize("text", TALK)
@pytest.mark.parametrize("size", [10_000, 1, 5])
def test_an_answer_that_speaks_of_usage_is_text(text, size):
    """What stands in a string is not mistaken for what stands around it."""
    data = said("before") + said(text) + said(finish="stop") + b"data: [DONE]\n\n"

    watch, out = seen(*(data[i : i + size] for i in range(0, len(data), size)), usage_asked=False)

    assert out == data
    assert watch.finish_reason == "stop"
    assert outcome(watch).completion_tokens is None


# --- its times and its size ---


def test_the_first_byte_is_the_first_token():
    """Counted from the attempt's begin; of an answer that is not streamed there is none."""
    watch = Watch(10.0, usage_asked=True)
    watch.pass_on(b"", 10.5)
    watch.pass_on(said("a"), 11.0)
    watch.pass_on(said("b"), 12.0)

    assert watch.outcome(13.0, our_cap=None).ttft_s == 1.0
    assert watch.outcome(13.0, our_cap=None).total_s == 3.0


def test_events_are_counted():
    """In whichever pieces they come."""
    data = said("a") * 5 + said(finish="stop")

    assert seen(data)[0].tokens == 6
    assert seen(*(data[i : i + 9] for i in range(0, len(data), 9)))[0].tokens == 6


def test_what_is_not_an_event_yet_is_held_back_until_the_end():
    """And then it goes out as it came."""
    watch = Watch(0.0, usage_asked=True)

    assert watch.pass_on(said("a") + b"data: half", 1.0) == said("a")
    assert watch.flush() == b"data: half"


def test_an_error_after_the_answer_has_begun_is_the_end_of_it():
    """So that it counts as a failure, and its words do not reach the client as they are."""
    watch = Watch(0.0, usage_asked=True)
    watch.pass_on(said("a"), 1.0)

    with pytest.raises(ValueError, match="error_event"):
        watch.pass_on(event(error={"message": "/srv/x/y.py failed", "code": 500}), 1.1)


def test_an_error_before_the_answer_is_left_to_the_dialect():
    """It may be a refusal, after which another backend is asked."""
    first = event(error={"message": "The request queue is full.", "code": 503})

    assert seen(first)[1] == first


@pytest.mark.parametrize(
    ("pieces", "fence", "begins"),
    [
        ((b'{"role":"assistant","content":""}', b'{"content":"Sure:"}', b'{"content":"```python"}'), True, False),
        ((b'{"content":"\\n {\\"a\\": 1}"}',), False, True),
        ((b'{"content":"[1]"}', b'{"content":"{"}'), False, True),
        ((b'{"content":"no {} here"}',), False, False),
        ((b'{"text":"{"}',), False, True),
        ((b"{}",) * 20, False, False),
    ],
)
def test_what_an_answer_shows_of_its_kind_is_seen(pieces, fence, begins):
    """A fence, and whether it begins like JSON; streamed or at once; and nothing where nobody looks."""
    events = [b'data: {"choices":[{"delta":%s}]}\n\n' % piece for piece in pieces]
    streamed, whole, blind = (
        Watch(0.0, usage_asked=True, looks=True),
        Watch(0.0, usage_asked=True, looks=True),
        Watch(0.0, usage_asked=True),
    )
    for event in events:
        assert streamed.pass_on(event, 1.0) == event
        blind.pass_on(event, 1.0)
    whole.whole(b"".join(pieces))

    assert (streamed.fence, streamed.json) == (fence, begins)
    assert (whole.fence, whole.json) == (fence, begins)
    assert (blind.fence, blind.json) == (None, None)
