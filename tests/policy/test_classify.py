"""The shipped classifier: what it says, what it says of any text, what its file may be, and that it is what was trained."""

import math
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve.policy.classify import MAGIC, BadWeights, Classifier, Guess, softmax
from bestserve.policy.facts import TASKS
from bestserve.policy.features import Prompt

WEIGHTS = Path(__file__).parent.parent.parent / "policy" / "weights" / "task.bin"


SHIPPED = Classifier.from_bytes(WEIGHTS.read_bytes())
PLAIN_PYTHON = Classifier.from_bytes(WEIGHTS.read_bytes(), compiled=False)


@pytest.fixture(params=[SHIPPED, PLAIN_PYTHON], ids=["as built", "plain"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    return request.param


PLAIN = {
    "code": "why does this python function throw a KeyError?\n\ndef f(d):\n    return d['x']",
    "math": "Solve for x: 3x + 7 = 22",
    "qa": "What is the capital of Mongolia?",
    "summ": "Summarize the following article in two sentences.\n\nThe council met on Monday to discuss the budget.",
    "rewrite": "fix the grammar: she dont know nothing about it",
    "translate": "Translate to French: where is the train station?",
    "write": "Write a short story about a lighthouse keeper and a storm",
    "classify": "Is this review positive or negative? The food was cold and the staff was rude.",
    "chat": "hey how are you today",
}


@pytest.mark.parametrize(("task", "text"), PLAIN.items(), ids=PLAIN)
def test_plain_cases_are_told(classifier, task, text):
    """The likeliest task, by name."""
    assert classifier.guess(Prompt.of(text)).name == task


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("translate", "把这句话翻译成英文：今天天气很好"),
        ("write", "写一首关于春天的诗"),
        ("translate", "Traduce esta frase al inglés: me gusta el café"),
        ("math", "Berechne 12 mal 15"),
        ("summ", "Résume ce texte en une phrase : le conseil municipal a voté la fermeture de la piscine."),
        ("write", "Напиши сказку про лису и волка"),
    ],
)
def test_other_languages_are_told(classifier, task, text):
    """Plain cases again."""
    assert classifier.guess(Prompt.of(text)).name == task


def test_a_follow_up_leans_on_what_came_before(classifier):
    """The same few words after code and after a poem."""
    code, poem = (
        classifier.guess(Prompt.of("make it shorter", before=before)).task
        for before in ("write a python function that sorts a list of dicts", "Write a poem about the sea")
    )

    assert code[TASKS.index("code")] > 2 * poem[TASKS.index("code")]
    assert poem[TASKS.index("write")] > 2 * code[TASKS.index("write")]


def test_answers_get_as_long_as_their_task(classifier):
    """An essay is longer than a label."""
    essay, label = (classifier.guess(Prompt.of(PLAIN[task])).length for task in ("write", "classify"))

    assert essay.median > 5 * label.median
    assert 0.3 <= essay.sigma <= 1.6


def test_a_hint_takes_most_of_the_probability(classifier):
    """And leaves the rest as the text has it."""
    plain, hinted = classifier.guess(Prompt.of(PLAIN["qa"])), classifier.guess(Prompt.of(PLAIN["qa"]), "code")

    assert hinted.name == "code"
    assert hinted.task[TASKS.index("code")] >= 0.9
    assert hinted.task[TASKS.index("qa")] == pytest.approx(0.1 * plain.task[TASKS.index("qa")])


def test_the_strongest_features_are_told_in_words(classifier):
    """The word that names the task is among them."""
    told = classifier.strongest(Prompt.of("Translate to French: where is the train station?"), "translate")

    assert len(told) == 10
    assert any("translate" in name for name, _ in told[:3])
    assert [weight for _, weight in told] == sorted((weight for _, weight in told), reverse=True)


def test_what_may_be_kept_is_numbers(classifier):
    """At most so many, rising, and words again by the same weights."""
    rows = classifier.rows(Prompt.of("translate the the the sentence zzyzx"), 3)

    assert rows == sorted(rows)
    assert len(rows) <= 3
    assert set(classifier.words(rows)) <= {"translate", "the", "sentence"}
    with pytest.raises(ValueError, match="row is not in"):
        classifier.words([10**9])


def sane(guess: Guess) -> bool:
    return (
        math.isclose(sum(guess.task), 1.0, abs_tol=1e-6)
        and all(0 <= p <= 1 for p in guess.task)
        and guess.length.median >= 1
        and guess.length.sigma > 0
    )


@settings(max_examples=200)
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=2000), st.text(max_size=300))
def test_any_text_is_told(text, before):
    """Lone surrogates, NULs, every script: probabilities and a length."""
    assert sane(SHIPPED.guess(Prompt.of(text, before)))


@pytest.mark.parametrize("text", ["", "\0" * 900, "\ud800" * 900, "a" * 10_000_000, "😀" * 900, "\u0301" * 900, "\n" * 900, "0" * 900])
def test_odd_texts_are_told(classifier, text):
    """One by one."""
    assert sane(classifier.guess(Prompt.of(text, before=text, system=text)))


def test_the_file_is_small():
    """Half a megabyte at most, and no pickle."""
    data = WEIGHTS.read_bytes()
    assert len(data) <= 500_000
    assert data.startswith(MAGIC)


BODY = zlib.decompress(WEIGHTS.read_bytes()[len(MAGIC) :])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        MAGIC,
        MAGIC + b"junk",
        WEIGHTS.read_bytes()[:-100],
        MAGIC + zlib.compress(BODY[:-1]),
        MAGIC + zlib.compress(BODY[:2]),
        MAGIC + zlib.compress(BODY.replace(b'"classes":["code"', b'"classes":["cod"', 1)[:100]),
        MAGIC + zlib.compress(BODY.replace(b'"followed":', b'"followed":-', 1)),
    ],
)
def test_a_file_that_is_none_is_refused(data):
    """With the reason, and nothing else than BadWeights."""
    with pytest.raises(BadWeights, match="no task classifier"):
        Classifier.from_bytes(data)


def test_softmax_bears_large_numbers():
    """And heat makes it flatter."""
    assert softmax([1e4, 0.0], 1.0) == (1.0, 0.0)
    assert softmax([1.0, 0.0], 10.0)[0] < softmax([1.0, 0.0], 1.0)[0]
