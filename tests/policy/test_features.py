"""A prompt is read in bounded windows, cut into words, and counted; the same for any text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.policy import features as f
from bestserve.policy.features import GROUPS, HEAD, TAIL, Prompt, cut, features


def test_a_long_text_is_read_at_both_ends():
    """HEAD characters and TAIL characters, whatever lies between."""
    prompt = Prompt.of("a" * 5000 + "b" * 5000, before="c" * 5000, system="d" * 5000)

    assert prompt.text == "a" * HEAD + "\n" + "b" * TAIL
    assert prompt.size == 10_000
    assert (len(prompt.before), len(prompt.system)) == (f.BEFORE, f.BEFORE)


def test_words_numbers_and_marks_are_apart():
    """In small letters, new lines too, typographic quotes as plain ones."""
    assert cut("Don\u2019t PANIC,\n\nit's 42!!").words == ["don't", "panic", ",", "\n\n", "it's", "42", "!!"]


def test_chinese_is_cut_into_characters():
    """Beside the words of other scripts in the same text; pairs are of neighbours of one kind."""
    words = cut("用Python写函数")

    assert (words.words, words.han) == (["python"], "用写函数")
    assert list(f.pairs(words)) == [("用", "写"), ("写", "函"), ("函", "数")]


def test_words_with_vowel_signs_stay_whole():
    """Hindi's signs are part of its words."""
    assert cut("कविता लिखो").words == ["कविता", "लिखो"]


def test_a_word_has_ends():
    """A number has digits; a short word has nothing."""
    assert f.ends(cut("an underestimated 1984 12345")) == (["unde"], ["ted"], ["#4", "#5"])
    assert features(Prompt.of("frobnicate 7"))["a"] == ["frob-", "-ate", "#1"]


def test_how_much_a_message_says_by_itself():
    """Few words, a sentence, more."""
    assert [f.weight_class(cut("word " * n)) for n in (1, 8, 9, 25, 26)] == [0, 0, 1, 1, 2]
    assert f.weight_class(cut("再短一点")) == 0


@pytest.mark.parametrize(("n", "size"), [(0, 0), (3, 3), (4, 4), (5, 4), (6, 5), (7, 5), (8, 6), (1000, 19), (10**9, 59)])
def test_sizes_have_two_classes_an_octave(n, size):
    """And one each below four."""
    assert f._size(n) == size


ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=3000)


@given(ANY, ANY, ANY)
def test_any_text_has_features(text, before, system):
    """Lone surrogates, control characters and any script; every group is there, and counts are in their range."""
    bag = features(Prompt.of(text, before, system))

    assert tuple(bag) == GROUPS
    assert all(0 <= key % 64 < 64 and key >= 0 for key in bag["n"])


@pytest.mark.parametrize("text", ["x" * 10_000_000, "语" * 3_000_000, "\n" * 5_000_000, "\ud800" * 1_000_000, "{" * 2_000_000])
def test_a_large_text_takes_no_longer_than_a_small_one(text):
    """Ten milliseconds are a hundred times what it takes."""
    prompt = Prompt.of(text)
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        features(prompt)
        took.append(time.perf_counter() - begun)

    assert min(took) < 0.01
