"""What backends are believed to remember of prompts: beginnings, within bounds, corrected by what they say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.policy import prefixes as px
from bestserve.policy.prefixes import FEW, LEAST_FACTOR, MOST_FACTOR, MOST_MARKS, NOTHING, Prefixes, Prompt, prompt_of

from .facts_by_hand import LADDER, SMALL, backend

TEXTS = st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b * 60), min_size=1, max_size=12)
A, B = backend("a"), backend("b")


def talk(*texts: bytes) -> Prompt:
    """A conversation that the user begins; a very long one as the dialect shows it."""
    shown = [(memoryview(text), i % 2 == 1, i % 2 == 0, 0) for i, text in enumerate(texts)]
    if len(texts) > 2 * FEW:
        cut = len(texts) - FEW
        text, answer, user, _ = shown[cut]
        shown = [*shown[:FEW], (text, answer, user, sum(map(len, texts[FEW:cut]))), *shown[cut + 1 :]]
    return prompt_of(shown)


def knowing(*read: Prompt, tokens: int = 1000) -> Prefixes:
    """`a` has read these."""
    made = Prefixes()
    made.adopt((A, B))
    for prompt in read:
        made.learn("a", prompt, tokens)
    return made


@given(TEXTS, TEXTS)
def test_as_much_is_expected_as_was_read_and_never_the_last_token(said, more):
    """A prompt that goes on with one that was read: at least that much of it, at most all but a token; of nobody else anything."""
    before, after = talk(*said), talk(*said, *more)
    cached = knowing(before).predict(after, 1000, (A, B))
    assert cached is not None
    size = sum(map(len, said))
    assert min(1000 * size / (size + sum(map(len, more))), 999) - 1e-6 <= cached[0] <= 999
    assert cached[1] == 0


@given(TEXTS, st.integers(0, 11), st.integers(0, 10_000))
def test_nothing_after_a_changed_byte_is_expected(said, which, where):
    """Only what stands before it is remembered, whatever follows. (An answer is believed to be the backend's own until the next mark.)"""
    which = which % len(said) // 2 * 2  # a user's
    text = bytearray(said[which])
    text[where % len(text)] ^= 1
    if len(text) > px.WHOLE:
        return  # of a long block the middle is not looked at
    other = talk(*said[:which], bytes(text), *said[which + 1 :])
    cached = knowing(talk(*said)).predict(other, 1000, (A,)) or [0.0]
    before = sum(map(len, said[:which])) + where % len(text)
    assert cached[0] <= 1000 * before / sum(map(len, said)) + 1e-6


def test_an_answer_that_was_written_there_is_remembered_too():
    """The prompt that follows brings the backend's own words back."""
    here = knowing(talk(b"q" * 100))
    cached = here.predict(talk(b"q" * 100, b"a" * 300, b"w" * 100), 1000, (A,))
    assert cached == [pytest.approx(800)]


def test_words_put_at_the_end_of_the_users_message_are_not_expected_again():
    """What was told to be brief is remembered up to within the message that the words were put to."""
    here = Prefixes()
    here.adopt((A,))
    here.learn("a", talk(b"s" * 100, b"a" * 100, b"q" * 100), 300, told=True)
    assert here.predict(talk(b"s" * 100, b"a" * 100, b"q" * 100, b"b" * 100, b"w" * 100), 500, (A,)) == [pytest.approx(200)]


@given(st.integers(1, 3 * MOST_MARKS), st.integers(1, 3000))
def test_of_a_long_conversation_the_end_is_still_known(turns, size):
    """However many messages, of whatever length: the marks are few, and all but the new turn is expected."""
    texts = [b"%d" % i + b"x" * size for i in range(2 * turns - 1)]
    before, after = talk(*texts), talk(*texts, b"an answer", b"go on")
    assert len(after.marks) <= 2 * MOST_MARKS
    cached = knowing(before).predict(after, 10_000, (A,))
    assert cached is not None
    assert cached[0] == pytest.approx(min(10_000 * after.ends[-2], 9_999), rel=1e-6)


def test_the_least_lately_read_is_forgotten_first_and_memory_is_bounded():
    """By tokens, as the profile says; what is read again stays."""
    here = Prefixes()
    here.adopt((backend("a", kv_tokens=10_000),))
    prompts = [talk(b"%d" % i * 200) for i in range(40)]
    for prompt in prompts:
        here.learn("a", prompts[0], 1000)
        here.learn("a", prompt, 1000)
    known = [here.predict(prompt, 1000, (A,)) is not None for prompt in prompts]
    assert known[0]
    assert known[-5:] == [True] * 5
    assert not any(known[1:25])


def test_a_memory_has_so_many_places_whatever_its_tokens(monkeypatch):
    """Short prompts cannot fill a process."""
    monkeypatch.setattr(px, "MOST_PLACES", 50)
    here = Prefixes()
    here.adopt((backend("a", kv_tokens=10**9),))
    for i in range(500):
        here.learn("a", talk(b"%d" % i), 10)
    assert sum(here.predict(talk(b"%d" % i), 10, (A,)) is not None for i in range(500)) == 50


def test_who_goes_or_is_replaced_remembers_nothing():
    """Forgotten when told so; when it leaves the fleet; not when others come."""
    prompt = talk(b"hello" * 50)
    here = knowing(prompt)
    here.adopt((A, SMALL))
    assert here.predict(prompt, 100, (A, SMALL)) == [99.0, 0.0]
    here.forget("a")
    assert here.predict(prompt, 100, (A,)) is None

    here = knowing(prompt)
    here.adopt((B,))
    here.adopt((A, B))
    assert here.predict(prompt, 100, (A, B)) is None
    assert not here.any_of(b.name for b in LADDER)


def test_one_with_another_memory_begins_anew():
    """A profile that says otherwise of its size is another engine."""
    prompt = talk(b"hello" * 50)
    here = knowing(prompt)
    here.adopt((replace(A, profile=backend("a", kv_tokens=7).profile),))
    assert here.predict(prompt, 100, (A,)) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_what_a_backend_says_corrects_what_is_expected_within_bounds(said):
    """It ends between its bounds, whatever is said."""
    prompt = talk(b"x" * 1000)
    here = knowing(prompt)
    for share in said:
        here.correct("a", 0.5, share, 1000)
    cached = here.predict(prompt, 1000, (A,))
    assert cached is not None
    assert LEAST_FACTOR * 1000 - 1e-6 <= cached[0] <= min(MOST_FACTOR * 1000, 999)


@pytest.mark.parametrize(("says", "expected"), [(0.0, LEAST_FACTOR), (0.4, 0.5), (0.8, 1.0)])
def test_a_word_repeated_is_believed(says, expected):
    """One that remembers half of what is expected is expected to remember half; one that forgets all comes to the lower bound."""
    here = knowing(talk(b"x" * 1000))
    for _ in range(300):
        here.correct("a", 0.8, says, 1000)
    cached = here.predict(talk(b"x" * 1000, b"", b"y" * 1000), 2000, (A,))
    assert cached == [pytest.approx(1000 * expected, rel=0.05)]


def test_where_there_is_no_text_nothing_is_expected():
    """Of nobody, without an error."""
    here = knowing(NOTHING)
    assert here.predict(NOTHING, 100, (A, B)) is None
    assert here.learn("nobody", talk(b"x"), 10) == 0.0
    here.correct("nobody", 1.0, 1.0, 10)
    here.forget("nobody")
