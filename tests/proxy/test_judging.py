"""What a judge is asked, and how its answer is read."""

import orjson
import pytest

from bestserve.proxy.dialects.judging import MOST_CHARS, answer, conversation, question, score_of, usage_of


def said(text: object, **more: object) -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": text}}], **more})


def test_a_question_holds_both_texts_between_marks():
    """And of long ones both ends."""
    asked = orjson.loads(question("m", "what is 2 + 2?", "x" * 3 * MOST_CHARS + "four", "<<77>>"))
    text = asked["messages"][0]["content"]
    assert asked["model"] == "m"
    assert text.count("<<77>>") == 4
    assert "what is 2 + 2?" in text
    assert "four\n<<77>> end" in text
    assert len(text) < 2 * MOST_CHARS


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 7}', 0.7),
        ('Well, "score": 3 it was, no: {"score": 10}', 1.0),
        ('```json\n{"score":0}\n```', 0.0),
        ('{"score": 2.5}', 0.25),
    ],
)
def test_the_last_score_counts(text, score):
    """Whatever is said around it."""
    assert score_of(said(text)) == pytest.approx(score)


@pytest.mark.parametrize("reply", [b"", b"{}", said(None), said("fine"), said('{"score": 11}'), said('{"score": -1}'), b'{"choices": []}'])
def test_what_is_no_score_is_told(reply):
    """Never another error."""
    with pytest.raises(ValueError, match="the judge"):
        score_of(reply)


def test_what_it_took_is_read_where_it_is_told():
    """Tokens of prompt and answer."""
    assert usage_of(said("", usage={"prompt_tokens": 5, "completion_tokens": 2})) == (5, 2)
    assert usage_of(said("")) is None


def test_a_conversation_is_text():
    """Images are told by their kind; a completion's prompt is its own."""
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:…"}}]
    chat = [{"role": "system", "content": "be kind"}, {"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    assert conversation(orjson.dumps(chat)) == "[system]\nbe kind\n\n[user]\nlook\n(image_url)\n\n[assistant]\n"
    assert conversation(b'"once upon"') == "once upon"


def test_an_answer_is_text_whole_or_streamed():
    """Of its first choice."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": c}}]} for c in ("fo", "ur")]
    chunks += [{"choices": [{"index": 1, "delta": {"content": "five"}}]}, {"choices": [], "usage": {}}]
    stream = b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    assert answer(stream, stream=True) == "four"
    assert answer(said("four"), stream=False) == "four"
    assert answer(b'{"choices": [{"text": "four"}]}', stream=False) == "four"
    assert answer(said(None), stream=False) == ""


@pytest.mark.parametrize(
    ("body", "stream"), [(b"{}", False), (b"[1]", False), (b"x", False), (b"data: [1]\n\n", True), (b"data: {\n\n", True)]
)
def test_what_is_no_answer_is_told(body, stream):
    """Never another error."""
    with pytest.raises(ValueError):
        answer(body, stream=stream)
