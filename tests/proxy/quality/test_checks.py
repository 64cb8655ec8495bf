"""Every kind of check: what it takes for right, what not, and what a wrong row is told."""

import time

import pytest

from bestserve.proxy.quality import sandbox
from bestserve.proxy.quality.checks import KINDS, read, runs_code

PERSON = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer"}},
}
needs_sandbox = pytest.mark.skipif(sandbox.lack() is not None, reason=str(sandbox.lack()))


@pytest.mark.parametrize(
    ("row", "scores"),
    [
        ({"check": "exact", "answer": "Paris"}, {"**paris.**": 1, "Paris, France": 0, "": 0}),
        ({"check": "one_of", "answer": ["car", "automobile"]}, {"Automobile.": 1, "bus": 0}),
        ({"check": "number", "answer": 0.5}, {"1/2": 1, "so 0.5": 1, "0.51": 0, "half": 0}),
        ({"check": "number", "answer": 3.14, "tolerance": 0.01}, {"3.1416": 1, "3.2": 0}),
        ({"check": "regex", "answer": r"(?i)^yes\b"}, {"Yes, it is": 1, "oh yes": 0}),
        ({"check": "contains", "answer": ["Anna", ["car", "auto"]]}, {"Anna's auto": 1, "anna": 0.5, "carpet": 0}),
        ({"check": "avoids", "answer": ["very"]}, {"it is good": 1, "Very good": 0, "every": 1, "": 0}),
        ({"check": "length", "answer": {"min": 4, "max": 6}}, {"a b c d": 1, "a b c": 0.5, "a b": 0, "a b c d e f g h i": 0, "": 0}),
        ({"check": "length", "unit": "sentences", "answer": {"max": 1}}, {"One. Two.": 0, "One.": 1}),
        ({"check": "language", "answer": "de"}, {"Das ist ein Satz.": 1, "This is a sentence.": 0, "": 0}),
        ({"check": "overlap", "answer": ["the house is white", "white is the house"]}, {"The house is white.": 1, "zzz": 0, "": 0}),
    ],
)
def test_what_counts_as_right(row, scores):
    """An answer to its score, kind by kind."""
    check = read(row)

    assert {said: check.score(said) for said in scores} == pytest.approx(scores)


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("positive", 1),
        ("**Positive**", 1),
        ("The tone is positive.", 1),
        ("Positive\n\nIt could be called neutral, but the words are warm.", 1),
        ("It is not negative, and not neutral.\nAnswer: positive", 1),
        ("positive or negative", 0),
        ("negative", 0),
        ("positively so", 0),
        ("", 0),
    ],
)
def test_a_label_is_named_once_and_rightly(said, score):
    """Alone in the answer, or in its first or last line; the list of all labels names none."""
    assert read({"check": "label", "labels": ["positive", "negative", "neutral"], "answer": "positive"}).score(said) == score


def test_a_label_within_a_label_is_the_longer_one():
    """`not spam` is not `spam`."""
    assert read({"check": "label", "labels": ["spam", "not spam"], "answer": "spam"}).score("not spam") == 0
    assert read({"check": "label", "labels": ["spam", "not spam"], "answer": "not spam"}).score("Not spam.") == 1


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ('{"name": "Ada", "age": 36}', 1),
        ('```json\n{"name": "ADA.", "age": 36.0}\n```', 1),
        ('{"name": "Ada", "age": 35}', 0.75),
        ('{"name": "ada", "age": 36}', 0),
        ('{"name": "Ada"}', 0),
        ('{"name": "Ada", "age": "36"}', 0),
        ("Ada is 36", 0),
        ("[" * 5000, 0),
    ],
)
def test_json_is_held_to_its_schema_and_its_values(said, score):
    """Half for what the schema accepts, half for the fields that are right; the rest is nothing."""
    assert read({"check": "json", "answer": PERSON, "fields": {"name": "Ada", "age": 36}}).score(said) == score


def test_lists_in_json_have_no_order():
    """And paths lead into lists."""
    check = read({"check": "json", "answer": {"type": "object"}, "fields": {"a": ["x", "Y"], "b.1.c": 2}})

    assert check.score('{"a": ["y", "X"], "b": [{}, {"c": 2}]}') == 1
    assert check.score('{"a": ["x"], "b": []}') == 0.5


def test_a_schema_may_refer_to_itself():
    """To its own parts, and an answer that is nested without end is no answer."""
    schema = {"type": "object", "properties": {"in": {"$ref": "#"}}}
    check = read({"check": "json", "answer": schema})

    assert check.score('{"in": {"in": {}}}') == 1
    assert check.score('{"in": {"in": 1}}') == 0
    assert check.score('{"in":' * 900 + "{}" + "}" * 900) in (0, 1)


@pytest.mark.parametrize(
    "row",
    [
        {"check": "regex", "answer": "^(a+)+$"},
        {"check": "json", "answer": {"type": "string", "pattern": "^(a+)+$"}},
    ],
)
def test_a_pattern_that_backtracks_for_ever_is_given_up(row):
    """The answer was made to hang it; it is not found, and the run goes on."""
    said = "a" * 40 + "!" if row["check"] == "regex" else '"' + "a" * 40 + '!"'
    began = time.monotonic()

    assert read(row).score(said) == 0
    assert time.monotonic() - began < 5


def test_parts_are_weighed_and_some_must_be():
    """The mean by weight, times what must be."""
    parts = [
        {"check": "contains", "answer": ["a", "b"], "weight": 3},
        {"check": "regex", "answer": "z"},
        {"check": "length", "answer": {"max": 4}, "must": True},
    ]
    check = read({"check": "all", "answer": parts})

    assert check.score("a b z") == 1
    assert check.score("a b") == pytest.approx(0.75)
    assert check.score("a z") == pytest.approx((3 * 0.5 + 1) / 4)
    assert check.score("a b z c d e f") == 0
    assert read({"check": "all", "answer": [{"check": "exact", "answer": "x", "must": True}]}).score("x") == 1


@needs_sandbox
@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("```python\ndef f(x):\n    return x / 2\n```", 1),
        ("def f(x):\n    return x / 2", 1),
        ("```python\ndef f(x):\n    return x // 2\n```", 0),
        ("```python\ndef f(x):\n    return x /", 0),
        ("I cannot do that.", 0),
        ("```python\nimport os\nos._exit(0)\n```", 0),
    ],
)
def test_a_program_passes_every_test_or_none(said, score):
    """Values are compared as Python's are, and what should raise raises."""
    tests = [{"call": "f(4)", "gives": 2}, {"call": "f(1)", "gives": 0.5}, {"call": "f('a')", "raises": "TypeError"}]

    assert read({"check": "code", "answer": tests}).score(said) == score


def test_which_checks_need_the_sandbox():
    """Code, also within `all`."""
    code = {"check": "code", "answer": [{"call": "f()", "gives": 1}]}

    assert runs_code(read(code))
    assert runs_code(read({"check": "all", "answer": [{"check": "exact", "answer": "x"}, code]}))
    assert not runs_code(read({"check": "exact", "answer": "x"}))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"check": "exat", "answer": "x"}, "check: must be one of exact, one_of"),
        ({"answer": "x"}, "check: must be one of"),
        ({"check": "exact"}, "answer: Field required"),
        ({"check": "exact", "answer": "x", "tolerence": 1}, "tolerence: Extra inputs"),
        ({"check": "number", "answer": "many"}, "answer: Input should be a valid number"),
        ({"check": "regex", "answer": "(a"}, "answer: not a pattern"),
        ({"check": "json", "answer": {"type": "objekt"}}, "answer: not a JSON schema"),
        ({"check": "json", "answer": {"$ref": "http://127.0.0.1:1/a.json"}}, "answer: the schema has no 'http.*nothing is fetched"),
        ({"check": "json", "answer": {"items": [{"$ref": "#/defs/x"}]}}, "answer: "),
        ({"check": "label", "labels": ["a", "b"], "answer": "c"}, "c: not among labels"),
        ({"check": "language", "answer": "xx"}, "'xx' is not the code"),
        ({"check": "contains", "answer": ["a", "!"]}, "answer.1.*nothing but punctuation"),
        ({"check": "length", "answer": {"mx": 3}}, "answer.mx: Extra inputs"),
        ({"check": "all", "answer": [{"check": "exact"}]}, "answer.0.answer: Field required"),
        ({"check": "code", "answer": [{"calls": "f()"}]}, "answer.0.call: Field required"),
    ],
)
def test_a_wrong_row_is_told_by_its_field(row, why):
    """The name of the field, then what is wrong with it."""
    with pytest.raises(ValueError, match=why):
        read(row)


def test_every_kind_has_its_name():
    """What the message lists is what there is."""
    for kind in KINDS:
        with pytest.raises(ValueError, match="answer") as told:
            read({"check": kind, "answer": None})
        assert "must be one of" not in str(told.value)
