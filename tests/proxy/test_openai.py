"""The wire in front: what we do not decide on goes upstream as it came, byte for byte; what cannot be read is said by its field."""

import time

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve.proxy.dialects.openai import (
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    MOST_CHOICES,
    REFUSED_FIELDS,
    Parsed,
    forward,
    instructed,
    parse,
    split,
)
from bestserve.proxy.errors import BadAsk

HI = b'"messages":[{"role":"user","content":"Hi"}]'


def body(*fields: bytes) -> bytes:
    """A chat body with more fields, each as it would be written."""
    return b"{" + b",".join((b'"model":"auto"', HI, *fields)) + b"}"


def ask(*fields: bytes) -> Parsed:
    return parse("chat", body(*fields))


def raw(sent: bytes) -> dict[str, bytes]:
    """The fields of a body, each as its bytes."""
    return {name: bytes(value) for name, value in split(sent).items()}


def on(parsed: Parsed, *, model: str = "m", cap: int | None = None, instruction: str | None = None) -> dict[str, bytes]:
    """The fields that go upstream."""
    return raw(forward(parsed, model=model, cap=cap, instruction=instruction))


def refused(endpoint: str, sent: bytes) -> BadAsk:
    with pytest.raises(BadAsk) as caught:
        parse(endpoint, sent)
    return caught.value


# --- what goes on as it came ---


@pytest.mark.parametrize(
    "value",
    [
        b"123456789012345678901234567890123456789012345678901234567890",
        b"-0.0",
        b"1e400",
        b"-1E-4000",
        b"0.1000000000000000055511151231257827021181583404541015625",
        b"1.0",
        b'"\\u00e9\\ud83d\\ude00\\/\\b"',
        b'"\xc3\xa9\xf0\x9f\x98\x80"',
        b'"not UTF-8: \xff\xfe"',
        b'{ "b" : 1 ,\t"a":\r\n[ 1 , 2 ]  }',
        b'{"twice":1,"twice":2}',
        b'{"":{"":[[],{},null,true,false]}}',
        b"[]",
        b"null",
        b"false",
        b'"\\"usage\\": {"',
    ],
)
def test_a_field_that_we_do_not_know_is_not_touched(value):
    """Not a byte of it changes, whatever it is."""
    parsed = ask(b'"unknown":' + value)

    sent = on(parsed, cap=7, instruction="Be brief.")

    assert sent["unknown"] == value


def test_fields_keep_their_order():
    """So that a backend sees the request as the client wrote it."""
    parsed = parse("chat", b'{"z":1,"model":"auto","a":2,' + HI + b',"m":3}')

    assert list(on(parsed)) == ["z", "model", "a", "messages", "m"]


def test_without_an_instruction_the_messages_are_not_touched():
    """Their whitespace, their escapes and their unknown fields stay."""
    messages = b'[ {"role" : "user", "content": "\\u0041 b" , "x":1e999}, {"role":"assistant","content":null} ]'
    parsed = parse("chat", b'{"model":"auto","messages" : ' + messages + b"}")

    assert on(parsed, cap=5)["messages"] == messages


def test_of_a_field_written_twice_the_last_one_counts_and_goes_on():
    """What we have read is what the backend gets: nobody can show us one value and the backend another."""
    parsed = parse("chat", b'{"model":"x","max_tokens":5,' + HI + b',"max_tokens":9,"model":"auto","tem\\u0070":1,"temp":2}')
    sent = forward(parsed, model="m", cap=9, instruction=None)

    assert (parsed.model, parsed.max_tokens) == ("auto", 9)
    assert sent.count(b"max_tokens") == sent.count(b'"model"') == 1
    assert raw(sent)["temp"] == b"2"


def test_a_forbidden_field_cannot_hide_behind_escapes():
    """A name is compared after it has been read."""
    assert refused("chat", body(b'"api\\u005fbase":"http://x"')).param == "api_base"


NAMES = st.text(max_size=8).filter(lambda name: name not in {"model", "messages", "stream", *REFUSED_FIELDS})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KNOWN = {"max_tokens", "max_completion_tokens", "n", "stream_options", "service_tier", "metadata", "response_format", "priority", "rid"}


@settings(deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: name not in KNOWN), VALUES, max_size=6), st.sampled_from([b"", b" ", b"\r\n\t "]))
def test_forwarding_keeps_the_bytes_of_every_other_field(fields, blank):
    """For any names and any values, with any whitespace."""
    encode = msgspec.json.Encoder().encode
    written = {name: encode(value) for name, value in fields.items()}
    pairs = [blank + encode(name) + blank + b":" + blank + value + blank for name, value in written.items()]
    parsed = parse("chat", body(*pairs))

    sent = on(parsed, model="other", cap=3, instruction="Stop.")

    assert {name: sent[name] for name in written} == written
    assert set(sent) - set(written) == {"model", "messages", "max_completion_tokens"}


@settings(deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda b: b"{" + b + b"}", st.binary(max_size=100)), st.sampled_from(["chat", "completions"]))
def test_any_bytes_are_read_or_refused(data, endpoint):
    """Nothing but BadAsk is ever raised."""
    try:
        parsed = parse(endpoint, data)
    except BadAsk:
        return

    assert forward(parsed, model="m", cap=1, instruction="x").startswith(b"{")


PIECES = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b":",
        b",",
        b" ",
        b"\\u00",
        b"\\",
        b"\xff",
        b"null",
        b"1e9",
        b'"role"',
        b'"user"',
        b'"content"',
        b'"text"',
    ]
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=20).map(b"".join))
def test_any_messages_are_read_or_refused(value):
    """Also where the noise is nearly a message."""
    for messages in (value, b"[" + value + b"]", b"[{" + value + b"}]", b'[{"role":"user","content":' + value + b"}]"):
        try:
            parsed = parse("chat", b'{"model":"m","messages":' + messages + b"}")
        except BadAsk:
            continue
        forward(parsed, model="m", cap=1, instruction="x")


def test_a_message_that_is_not_utf8_goes_on_as_it_came():
    """It is the backend's to judge; an instruction is then not added."""
    messages = b'[{"\xff":1,"role":"user","content":"x"}]'
    parsed = parse("chat", b'{"model":"m","messages":' + messages + b"}")

    assert on(parsed, instruction="Be brief.")["messages"] == messages


@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
@pytest.mark.parametrize("depth", [2_000, 1_000_000])
@pytest.mark.parametrize("field", [b'"x":', b'"metadata":', b'"messages":'])
def test_deep_nesting_is_refused_at_once(field, depth, open_, close):
    """In time that is linear in its size, without a crash."""
    nested = open_ * depth + b"1" + close * depth
    began = time.perf_counter()

    with pytest.raises(BadAsk, match="nested too deeply"):
        parse("chat", b'{"model":"m",' + field + nested + b"}")

    assert time.perf_counter() - began < 1


def test_ten_megabytes_are_read_in_no_time():
    """The text is not looked at."""
    text = b"word \\u00e9 " * 1_000_000
    sent = b'{"model":"auto","messages":[{"role":"user","content":"' + text + b'"}]}'
    began = time.perf_counter()

    parsed = parse("chat", sent)
    on(parsed, cap=5, instruction="Be brief.")

    assert time.perf_counter() - began < 1
    assert parsed.prompt_tokens == pytest.approx(len(text) / 4, rel=0.01)


# --- what we set ---


def test_the_model_is_set():
    """To the backend's name for it, whatever characters that has."""
    assert on(ask(), model='org/na"me-é')["model"] == orjson.dumps('org/na"me-é')


@pytest.mark.parametrize(
    ("fields", "cap", "expected"),
    [
        ((), None, {}),
        ((), 64, {"max_completion_tokens": b"64"}),
        ((b'"max_tokens":100',), 64, {"max_tokens": b"64"}),
        ((b'"max_completion_tokens":100',), 64, {"max_completion_tokens": b"64"}),
        ((b'"max_tokens":100', b'"max_completion_tokens":90'), 64, {"max_tokens": b"64", "max_completion_tokens": b"64"}),
        ((b'"max_tokens":null',), 64, {"max_tokens": b"null", "max_completion_tokens": b"64"}),
        ((b'"max_tokens":null', b'"max_completion_tokens":70'), 64, {"max_tokens": b"null", "max_completion_tokens": b"64"}),
        ((b'"max_tokens":50',), 50, {"max_tokens": b"50"}),
        ((b'"max_tokens":50', b'"max_completion_tokens":200'), 50, {"max_tokens": b"50", "max_completion_tokens": b"200"}),
        ((b'"max_tokens":  50',), None, {"max_tokens": b"50"}),
    ],
)
def test_the_cap_of_a_chat(fields, cap, expected):
    """It is set in the fields that the client has set, else in the one that chats have."""
    sent = on(ask(*fields), cap=cap)

    assert {name: value for name, value in sent.items() if name.startswith("max_")} == expected


def test_the_cap_of_a_completion():
    """It has one field for it."""
    parsed = parse("completions", b'{"model":"auto","prompt":"x"}')

    assert on(parsed, cap=64)["max_tokens"] == b"64"
    assert "max_completion_tokens" not in on(parsed, cap=64)


def test_of_two_ceilings_the_lower_one_holds():
    """Whichever field it stands in."""
    assert ask(b'"max_tokens":10', b'"max_completion_tokens":20').max_tokens == 10
    assert ask(b'"max_tokens":20', b'"max_completion_tokens":10').max_tokens == 10
    assert ask(b'"max_tokens":null').max_tokens is None
    assert ask().max_tokens is None


@pytest.mark.parametrize(
    ("options", "sent", "usage_asked"),
    [
        (None, {"include_usage": True}, False),
        (b"null", {"include_usage": True}, False),
        (b"{}", {"include_usage": True}, False),
        (b'{"include_usage":false,"x":[1]}', {"include_usage": True, "x": [1]}, False),
        (b'{"include_usage":null}', {"include_usage": True}, False),
        (b'{"include_usage":1}', {"include_usage": True}, False),
        (b'{"include_usage":true,"continuous_usage_stats":true}', {"include_usage": True, "continuous_usage_stats": True}, True),
    ],
)
def test_a_stream_is_asked_for_its_usage(options, sent, usage_asked):
    """What else stands in stream_options stays, and whether the client wanted it is remembered."""
    parsed = ask(b'"stream":true', *([b'"stream_options":' + options] if options else []))

    assert orjson.loads(on(parsed)["stream_options"]) == sent
    assert parsed.usage_asked is usage_asked


def test_an_answer_that_is_not_streamed_is_not_asked_for_usage():
    """It has it anyway, and stream_options would be refused."""
    assert "stream_options" not in on(ask())
    assert "stream_options" not in on(ask(b'"stream":false'))


def test_what_is_ours_to_say_is_taken_off():
    """A client does not set its own priority, nor the id under which a backend knows the request."""
    sent = on(ask(b'"priority":9', b'"rid":"r"', b'"user":"u"'))

    assert "priority" not in sent
    assert "rid" not in sent
    assert sent["user"] == b'"u"'


# --- an instruction ---


def said(messages: bytes) -> list:
    return orjson.loads(bytes(instructed(msgspec.Raw(messages), "Be brief.")))


def test_an_instruction_stands_at_the_end_of_the_last_user_message():
    """Not at the front, where it would cost the prefix cache, and not in what the assistant has said."""
    rows = said(
        b'[{"role":"system","content":"S"},{"role":"user","content":"one"},{"role":"assistant","content":"a"},'
        b'{"role":"user","content":"two"},{"role":"assistant","content":"b"}]'
    )

    assert [row["content"] for row in rows] == ["S", "one", "a", "two\n\nBe brief.", "b"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'"\\u00e9 1"', "é 1\n\nBe brief."),
        (b'""', "\n\nBe brief."),
        (b'  "x"  ', "x\n\nBe brief."),
        (b'"ends in \\\\"', "ends in \\\n\nBe brief."),
        (b"[]", [{"type": "text", "text": "Be brief."}]),
        (b"[ ]", [{"type": "text", "text": "Be brief."}]),
        (b'[{"type":"text","text":"x"}]', [{"type": "text", "text": "x"}, {"type": "text", "text": "Be brief."}]),
        (b"null", None),
        (b"7", 7),
    ],
)
def test_an_instruction_suits_the_content(content, expected):
    """A text is lengthened, a list gets one more part, anything else stays."""
    assert said(b'[{"role":"user","content":' + content + b"}]")[0]["content"] == expected


def test_an_instruction_leaves_the_rest_of_its_message_alone():
    """Numbers, escapes and unknown fields of it stay the same bytes."""
    sent = instructed(msgspec.Raw(b'[{"x":1e400,"role":"user","content":"\\u0041","y":{"a":1,"a":2}}]'), "B")

    assert bytes(sent) == b'[{"x":1e400,"role":"user","content":"\\u0041\\n\\nB","y":{"a":1,"a":2}}]'


@pytest.mark.parametrize("messages", [b'[{"role":"assistant","content":"x"}]', b'[{"role":"user"}]', b"[{}]"])
def test_without_a_user_message_there_is_no_place_for_an_instruction(messages):
    """The messages stay as they are."""
    assert bytes(instructed(msgspec.Raw(messages), "B")) == messages


# --- what is refused ---


@pytest.mark.parametrize("name", REFUSED_FIELDS)
@pytest.mark.parametrize("value", [b'"http://evil"', b"null", b"{}"])
@pytest.mark.parametrize("endpoint", ["chat", "completions", "embeddings", "responses"])
def test_fields_that_name_an_address_a_credential_or_code_are_refused(endpoint, name, value):
    """On every endpoint, with any value."""
    error = refused(endpoint, b'{"model":"m","prompt":"x","input":"x",' + HI + b',"' + name.encode() + b'":' + value + b"}")

    assert error.param == name
    assert error.status == 400


@pytest.mark.parametrize(
    ("field", "param"),
    [
        (b'"model":1', "model"),
        (b'"model":null', "model"),
        (b'"model":""', "model"),
        (b'"model":["auto"]', "model"),
        (b'"model":"\xff"', "model"),
        (b'"messages":null', "messages"),
        (b'"messages":[]', "messages"),
        (b'"messages":"Hi"', "messages"),
        (b'"messages":{"role":"user"}', "messages"),
        (b'"messages":["Hi"]', "messages[0]"),
        (b'"messages":[{}, null]', "messages[1]"),
        (b'"stream":"yes"', "stream"),
        (b'"stream":1', "stream"),
        (b'"stream_options":true', "stream_options"),
        (b'"max_tokens":"5"', "max_tokens"),
        (b'"max_tokens":1.5', "max_tokens"),
        (b'"max_tokens":true', "max_tokens"),
        (b'"max_tokens":-1', "max_tokens"),
        (b'"max_tokens":10000001', "max_tokens"),
        (b'"max_tokens":123456789012345678901234567890', "max_tokens"),
        (b'"max_tokens":1e400', "max_tokens"),
        (b'"max_completion_tokens":[]', "max_completion_tokens"),
        (b'"max_completion_tokens":-1', "max_completion_tokens"),
        (b'"n":0', "n"),
        (b'"n":129', "n"),
        (b'"n":"2"', "n"),
        (b'"service_tier":1', "service_tier"),
        (b'"metadata":[]', "metadata"),
        (b'"response_format":"json"', "response_format"),
    ],
)
def test_a_wrong_value_is_said_by_its_field(field, param):
    """The client learns which one it was."""
    error = refused("chat", body(field))

    assert error.param == param
    assert f"'{param}'" in error.message or param == "model"


@pytest.mark.parametrize(
    ("endpoint", "sent", "param"),
    [
        ("chat", b"{" + HI + b"}", "model"),
        ("chat", b'{"model":"m"}', "messages"),
        ("completions", b'{"model":"m"}', "prompt"),
        ("completions", b'{"model":"m","prompt":null}', "prompt"),
        ("embeddings", b'{"model":"m"}', "input"),
        ("responses", b'{"input":"x"}', "model"),
    ],
)
def test_what_is_missing_is_said(endpoint, sent, param):
    """By its name."""
    assert refused(endpoint, sent).param == param


@pytest.mark.parametrize(
    "sent", [b"", b" ", b"null", b"[]", b'"x"', b"1", b"{", b'{"model"', b"{}x", b"\xef\xbb\xbf{}", b'{"a":NaN}', b"{'a':1}", b'{"a":01}']
)
def test_what_is_no_json_object_is_refused(sent):
    """Without the parser's name in the message."""
    error = refused("chat", sent)

    assert error.status == 400
    assert "malformed" not in error.message
    assert "msgspec" not in error.message


@pytest.mark.parametrize("end", [b"", b" and more, so that something follows"])
@pytest.mark.parametrize("half", [rb"\ud83d", rb"\udc00", rb"\ud83d\u0041"])
def test_half_a_surrogate_pair_is_refused_by_its_name(half, end):
    """As SGLang refuses it; a NUL passes."""
    error = refused("chat", b'{"model":"m","messages":[{"role":"user","content":"x' + half + end + b'"}]}')

    assert (error.status, error.code) == (400, "invalid_json")
    assert "half of a surrogate pair" in error.message
    assert parse("chat", b'{"model":"m","messages":[{"role":"user","content":"x\\u0000' + end + b'"}]}').model == "m"


def test_zero_tokens_may_be_asked_of_a_completion():
    """That is how log-probabilities of a prompt are asked for (with echo), and SGLang takes it."""
    parsed = parse("completions", b'{"model":"m","prompt":"x","max_tokens":0,"echo":true}')

    assert on(parsed)["max_tokens"] == b"0"


# --- what is known of it ---


def test_a_plain_request():
    """Its defaults."""
    parsed = ask()

    assert (parsed.endpoint, parsed.model, parsed.stream, parsed.n) == ("chat", "auto", False, 1)
    assert (parsed.service_tier, parsed.metadata, parsed.needs) == (None, {}, frozenset())


def test_choices_are_counted():
    """Up to the most."""
    assert ask(b'"n":3').n == 3
    assert ask(b'"n":null').n == 1
    assert ask(b'"n":%d' % MOST_CHOICES).n == MOST_CHOICES


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ((b'"tools":[{"type":"function"}]',), {"tools"}),
        ((b'"functions":[{}]',), {"tools"}),
        ((b'"tools":null',), set()),
        ((b'"response_format":{"type":"json_schema"}',), {"json"}),
        ((b'"response_format":{"type":"json_object"}',), {"json"}),
        ((b'"response_format":{"type":"text"}',), set()),
        ((b'"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]',), {"vision"}),
        ((b'"messages":[{"role":"user","content":[{"type":"text","text":"\\"image_url\\""}]}]',), set()),
        ((b'"messages":[{"role":"user","content":"what is \\"image_url\\": [?"}]',), set()),
    ],
)
def test_needs_are_read_from_fields(fields, needs):
    """And not from what somebody writes about them."""
    assert ask(*fields).needs == needs


@pytest.mark.parametrize("endpoint", ["embeddings", "responses"])
def test_what_is_only_passed_on_needs_its_endpoint(endpoint):
    """A backend has to offer it."""
    assert parse(endpoint, b'{"model":"m","input":"x"}').needs == {endpoint}


PIXELS = b"iVBOR" * 100_000


@pytest.mark.parametrize(
    "message",
    [
        b'{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:' + PIXELS + b'"}}]}',
        b'{"role":"user","content" :\n [{"type":"image_url","image_url":{"url":"data:' + PIXELS + b'"}},{"type":"text","text":"look"}]}',
        b'{"role":"user","name":"' + b"n" * 300 + b'","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"'
        b"data:" + PIXELS + b'"}}]}',
    ],
    ids=["usual", "spaced", "late"],
)
def test_the_bytes_of_an_image_are_not_its_tokens(message):
    """A picture of half a megabyte is not a hundred thousand tokens, wherever in its message it stands."""
    parsed = parse("chat", b'{"model":"auto","messages":[' + message + b"]}")

    assert parsed.prompt_tokens == pytest.approx(IMAGE_TOKENS + MESSAGE_TOKENS + 1, abs=1)
    assert parsed.needs == {"vision"}


def test_a_long_text_that_speaks_of_parts_is_counted_as_text():
    """Also where its content begins late."""
    text = b'\\"content\\": [{\\"type\\": \\"image_url\\"}] ' * 1000
    parsed = parse("chat", b'{"model":"auto","messages":[{"role":"user","name":"' + b"n" * 300 + b'","content":"' + text + b'"}]}')

    assert parsed.prompt_tokens == pytest.approx(len(text) / 4, rel=0.02)
    assert not parsed.needs


def test_many_inputs_to_embed_are_not_one_long_one():
    """Each is read for itself, so a thousand of them fit where one does."""
    inputs = orjson.dumps(["twelve bytes"] * 1000 + ["x" * 400])
    parsed = parse("embeddings", b'{"model":"m","input":' + inputs + b"}")

    assert parsed.prompt_tokens == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(
    ("prompt", "tokens", "n"),
    [
        (orjson.dumps("x" * 398), 100, 1),
        (orjson.dumps(["x" * 38, "x" * 398, ""]), 100, 3),
        (orjson.dumps(list(range(100_000, 100_100))), 100, 1),
        (orjson.dumps([[1, 2, 3], list(range(100))]), 100, 2),
        (b"[]", 1, 1),
        (b"7", 1, 1),
    ],
)
def test_several_prompts_are_several_answers(prompt, tokens, n):
    """The longest has to fit; each is answered for itself. Tokens are counted, texts are estimated."""
    parsed = parse("completions", b'{"model":"m","n":2,"prompt":' + prompt + b"}")

    assert (parsed.prompt_tokens, parsed.n) == (tokens, 2 * n)


def test_tools_are_part_of_the_prompt():
    """They are read by the model."""
    assert ask(b'"tools":[{"type":"function","x":"' + b"y" * 4000 + b'"}]').prompt_tokens > 1000
