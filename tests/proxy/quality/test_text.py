"""What is read off an answer's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.proxy.quality import text


def test_thoughts_are_not_the_answer():
    """What stands between think tags is left out; a thought that never ends leaves nothing."""
    assert text.said("<think>4? 5?</think>\n 4 ") == "4"
    assert text.said("<think>so let me see") == ""
    assert text.said("4") == "4"


@pytest.mark.parametrize(
    ("one", "other"),
    [("**Paris.**", "paris"), ("  New\n York ", "new york"), ("“Yes”", '"yes"'), ("it’s", "it's"), ("ＡＢＣ", "abc"), ("东京。", "东京")],
)
def test_texts_are_compared_plainly(one, other):
    """Emphasis, case, space, quotation marks, width and closing punctuation make no difference."""
    assert text.plain(one) == text.plain(other)


@pytest.mark.parametrize(
    ("within", "phrase", "is_there"),
    [
        ("the capital is Tokyo, of course", "tokyo", True),
        ("1945 it was", "45", False),
        ("he said no", "no", True),
        ("nobody knows", "no", False),
        ("about 5%", "5%", True),
        ("use C++ here", "c++", True),
        ("今天天气很好", "天气", True),
        ("Größe", "größe", True),
    ],
)
def test_a_phrase_is_found_as_whole_words(within, phrase, is_there):
    """Where the script has spaces."""
    assert text.holds(text.plain(within), phrase) is is_there


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("The answer is 1,234.50 dollars.", 1234.5),
        (r"so \boxed{\frac{3}{4}} holds", 0.75),
        (r"\boxed{42} as 6 * 7 = 42, and 13 is not", 42),
        ("3/4", 0.75),
        ("x = -7", -7),
        ("x = −7", -7),
        ("10–7 = 3", 3),
        ("about 5%", 5),
        ("**42**", 42),
        ("7.", 7),
        (r"$1{,}000$", 1000),
        ("values 2, 300", 300),
        ("version2", None),
        ("none at all", None),
        ("1/0", None),
        ("1e999", None),
        ("1e999999999999", None),
    ],
)
def test_the_number_that_an_answer_ends_at(answer, value):
    """Boxed or last; signs, fractions, thousands and LaTeX; what is no finite number is none."""
    assert text.number(answer) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Here:\n```python\nx = 1\n```\nand\n```py\ny = 2\n```", "x = 1\n\ny = 2"),
        ("```\nx = 1\n```\nprints\n```text\n1\n```", "x = 1"),
        ("x = 1", "x = 1"),
        ("```python\nx = 1\ny =", "x = 1\ny ="),
    ],
)
def test_the_program_in_an_answer(answer, code):
    """Its Python blocks, or the first block, or all of it; a block that was cut counts as far as it goes."""
    assert text.code(answer) == code


@pytest.mark.parametrize("answer", ['```json\n{"a": [1]}\n```', 'Sure: {"a": [1]} as you asked.', '{"a": [1]}', '```\n{"a": [1]}\n```'])
def test_the_json_in_an_answer(answer):
    """Fenced, alone, or between words."""
    assert text.json(answer) == {"a": [1]}


def test_no_json_is_an_error():
    """Also where there are brackets."""
    with pytest.raises(ValueError, match="no JSON"):
        text.json("a [b] {c}")


@pytest.mark.parametrize(("unit", "n"), [("words", 11), ("sentences", 3), ("lines", 2), ("bullets", 0), ("characters", 46)])
def test_lengths(unit, n):
    """In each unit; a last sentence without its point counts."""
    assert text.count("It's 3.5 km. Is that far?\n\nNot for us, I think", unit) == n


def test_other_lengths():
    """Bullets and numbers begin items; two characters of Chinese or Japanese are a word."""
    assert text.count("1. a\n2) b\n- c\n* d\n  • e\nf", "bullets") == 5
    assert text.count("今天天气", "words") == 2
    assert text.count("你好。再见！", "sentences") == 2
    assert text.count("", "sentences") == 0


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("The cat sat on the mat.", "The cat is on the mat.", 67.17273492330233),
        ("猫が寝ています", "猫は寝ている", 21.13371154467045),
        ("abc", "abd", 38.888888888888886),
        ("Der Zug fährt um acht Uhr ab.", "Der Zug geht um 8.", 34.947071469677915),
    ],
)
def test_chrf_is_sacrebleus(answer, reference, score):
    """As sacrebleu 2.6.0 gives it: CHRF().sentence_score(answer, [reference]).score."""
    assert text.chrf(answer, reference) * 100 == pytest.approx(score)


@given(st.text(max_size=60), st.text(max_size=60))
def test_chrf_is_a_share(one, other):
    """In [0, 1], and 1 of a text with itself."""
    assert 0 <= text.chrf(one, other) <= 1
    if one.split():
        assert text.chrf(one, one) == pytest.approx(1)


@given(st.text(alphabet="0123456789,./-−eE \\boxed{}$%", max_size=80))
def test_no_text_breaks_the_number(answer):
    """Whatever stands there gives a finite number or none."""
    value = text.number(answer)

    assert value is None or abs(value) < float("inf")


def test_languages_are_told_apart():
    """Among those that are asked about."""
    assert text.language("Der Zug fährt um acht.", ["en", "de"]) == "de"
    assert text.language("The train leaves at eight.", ["en", "de"]) == "en"
    assert {"de", "fr", "es", "ja", "zh", "ru"} <= text.languages()
