"""Which texts of a request are read: windows, whatever the message looks like, in bounded time and without an error."""

import json
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.policy.features import BEFORE, HEAD, TAIL, Prompt
from bestserve.proxy.dialects import openai
from bestserve.proxy.dialects.prompt import prompt_of, window


def read(*messages: dict, **more: object) -> Prompt | None:
    return prompt_of(openai.parse("chat", orjson.dumps({"model": "m", "messages": list(messages), **more})))


def user(content: object, **more: object) -> dict:
    return {"role": "user", "content": content, **more}


def test_the_last_user_message_counts():
    """With the one before it and the system prompt; what the assistant and tools said is passed over."""
    prompt = read(
        {"role": "system", "content": "be brief"},
        user("write a poem"),
        {"role": "assistant", "content": "a poem", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
        user("shorter"),
        {"role": "assistant", "content": None},
    )

    assert prompt == Prompt("shorter", 7, "write a poem", "be brief")


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_first_message_may_be_the_operators(role):
    """By either name."""
    prompt = read({"role": role, "content": "x" * 1000}, user("hi"))

    assert prompt is not None
    assert prompt.system == "x" * BEFORE


LONG = 'Überlänge \\ " 语 😀 \n' * 20_000


@pytest.mark.parametrize(
    "message",
    [
        user(LONG),
        {"content": LONG, "role": "user"},
        user(LONG, name="ann"),
        {"name": "ann", "content": LONG, "role": "user", "x": None, "y": []},
        user([{"type": "text", "text": LONG}]),
    ],
    ids=["last", "first", "before a name", "in the middle", "in parts"],
)
@pytest.mark.parametrize("dumps", [orjson.dumps, lambda m: json.dumps(m).encode()], ids=["plain", "escaped"])
def test_a_long_text_is_read_at_both_ends(message, dumps):
    """Wherever the content stands in its message, and however its characters are written."""
    body = b'{"model": "m", "messages": [' + dumps(message) + b"]}"
    prompt = prompt_of(openai.parse("chat", body))

    assert prompt is not None
    head, tail = prompt.text[: HEAD // 2], prompt.text[-TAIL // 2 :]
    assert LONG.startswith(head)
    assert LONG.endswith(tail)
    assert len(prompt.text) <= HEAD + TAIL + 1
    assert prompt.size == pytest.approx(len(LONG), rel=0.35)


def test_of_several_parts_the_first_begins_and_the_last_ends():
    """Images between them are not text."""
    prompt = read(
        user(
            [
                {"type": "text", "text": "look at this:"},
                {"type": "image_url", "image_url": {"url": "data:,"}},
                {"type": "text", "text": "what is it?"},
            ]
        )
    )

    assert prompt is not None
    assert prompt.text == "look at this:\nwhat is it?"


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "   \n",
        [],
        [{"type": "image_url", "image_url": {"url": "data:,"}}],
        [{"type": "text"}],
        [{"type": "text", "text": ""}],
        [1, 2],
        7,
        {},
        ["x"],
    ],
)
def test_where_there_is_no_text_there_is_no_prompt(content):
    """Images only, empty, or of another kind."""
    assert read(user("before"), user(content)) is None


def test_without_a_user_there_is_no_prompt():
    """Only others have spoken."""
    assert read({"role": "assistant", "content": "hello"}) is None
    assert read({"content": "hello"}) is None


@pytest.mark.parametrize(("prompt", "text"), [("hello", "hello"), (["one", "two"], None), ([1, 2, 3], None), ("", None)])
def test_completions_have_a_prompt(prompt, text):
    """One text; several, or tokens, are not read."""
    told = prompt_of(openai.parse("completions", orjson.dumps({"model": "m", "prompt": prompt})))

    assert (told.text if told else None) == text


def test_what_is_only_passed_on_is_not_read():
    """Embeddings have no task."""
    assert prompt_of(openai.parse("embeddings", b'{"model": "m", "input": "hello"}')) is None


@pytest.mark.parametrize(
    "text",
    [
        b'"\\ud800 lone"',
        b'"\\ud800' + b"\\ud800" * 5000 + b'"',
        b'"nul \\u0000"',
        b'"bad \xff utf-8"',
        b'"' + b"\\" * 20_000 + b'"',
        b'"\\q"',
    ],
)
def test_odd_texts_are_read_somehow(text):
    """Lone surrogates, NULs, broken encodings and escapes: some text, no error."""
    said = window(text)

    assert said is not None
    assert isinstance(said[0], str)


@given(st.text(max_size=12_000), st.integers(0, 40), st.booleans())
def test_a_window_is_what_the_whole_text_begins_and_ends_with(text, repeat, escaped):
    """For any text, cut anywhere."""
    text = text * repeat
    said = window((json.dumps(text) if escaped else orjson.dumps(text).decode()).encode())

    assert said is not None
    if len(text) <= HEAD + TAIL:
        assert said[0] == text
    else:
        assert text.startswith(said[0][:150])
        assert text.endswith(said[0][-40:])


@given(st.binary(max_size=300))
def test_any_bytes_are_borne(junk):
    """What is between the quotes may be anything."""
    assert window(b'"' + junk + b'"') is not None


def test_ten_megabytes_take_no_longer_than_one_message():
    """A word without end, and an image without end before a question."""
    took = []
    for content in ("x" * 10_000_000, "word " * 2_000_000):
        parsed = openai.parse("chat", orjson.dumps({"model": "m", "messages": [user(content)]}))
        for _ in range(3):
            begun = time.perf_counter()
            assert prompt_of(parsed) is not None
            took.append(time.perf_counter() - begun)
        assert min(took[-3:]) < 0.005


def test_a_long_conversation_is_looked_through_a_little():
    """Beyond so many messages without the user nobody looks."""
    others = [{"role": "assistant", "content": "x"}] * 300

    assert read(user("hello"), *others) is None
    assert read(user("hello"), *others[:100]) is not None
