"""Two readers, plain and compiled, add up the same numbers to the bit, whatever the text; and the compiled one keeps nothing of it."""

import gzip
import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve.policy import reader
from bestserve.policy.classify import Classifier
from bestserve.policy.features import Prompt
from bestserve.policy.reader import PlainReader
from tests.with_compiler import needs_compiler

ROOT = Path(__file__).parent.parent.parent
DATA = (ROOT / "policy" / "weights" / "task.bin").read_bytes()
SEEDS = sorted((ROOT / "data" / "seeds").glob("*.jsonl"))
PLAIN, COMPILED = Classifier.from_bytes(DATA, compiled=False), Classifier.from_bytes(DATA)


def read(classifier: Classifier, prompt: Prompt) -> reader.Read:
    return classifier._reader.read(prompt.text, prompt.size, prompt.before, prompt.system)


def of_a_script(first: int, last: int) -> st.SearchStrategy[str]:
    """Words of a script with what stands between words."""
    letters = st.characters(codec=None, min_codepoint=first, max_codepoint=last, exclude_categories=())
    return st.lists(st.text(letters, min_size=1, max_size=8), max_size=80).flatmap(
        lambda words: st.sampled_from([" ", "\n", ", ", "'s ", "’", ". 12 ", "\u3000", "\n\n```", "\x1f", "٣ ", "\0"]).map(
            lambda by: by.join(words)
        )
    )


SCRIPTS = st.one_of(
    *(
        of_a_script(*ends)
        for ends in (
            (0x00, 0x7F),
            (0x61, 0x7A),
            (0x80, 0x24F),
            (0x370, 0x3FF),
            (0x400, 0x52F),
            (0x590, 0x5FF),
            (0x600, 0x6FF),
            (0x900, 0x97F),
            (0xE00, 0xE7F),
            (0x2000, 0x206F),
            (0x3000, 0x30FF),
            (0x4E00, 0x4E40),
            (0xAC00, 0xAC80),
            (0xD800, 0xDFFF),
            (0xFF00, 0xFF6F),
            (0x1F600, 0x1F640),
        )
    )
)
ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=1500)


@needs_compiler
@settings(max_examples=400, deadline=None)
@given(SCRIPTS | ANY, SCRIPTS | st.just(""), SCRIPTS | st.just(""))
def test_both_read_the_same_in_any_script(text, before, system):
    """Sums, and what is made of them."""
    prompt = Prompt.of(text, before, system)

    assert read(COMPILED, prompt) == read(PLAIN, prompt)
    assert COMPILED.guess(prompt) == PLAIN.guess(prompt)


@needs_compiler
@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_both_read_every_seed_the_same(path):
    """Real words, which are in the table; pairs of seeds as follow-ups."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]

    assert len(texts) > 50
    for before, text in zip(["", *texts], texts, strict=False):
        prompt = Prompt.of(text, before, before[::-1])
        assert read(COMPILED, prompt) == read(PLAIN, prompt)


ODD = [
    "",
    "\0",
    "\0" * 900,
    "\ud800" * 900,
    "a" * 901,
    "😀" * 900,
    "语" * 900,
    "1" * 900,
    "'" * 900,
    "ß's a'b'c 'd",
    "İİ",
    "Σας ΟΔΟΣ",
    "²³ ٣٤",
]


@needs_compiler
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_both_read_odd_texts_the_same(text):
    """As the text, before it, and as the system prompt."""
    prompt = Prompt.of(text, text, text)

    assert read(COMPILED, prompt) == read(PLAIN, prompt)
    assert read(COMPILED, Prompt.of("why?", text)) == read(PLAIN, Prompt.of("why?", text))


@needs_compiler
def test_nothing_is_kept():
    """A hundred thousand readings of all kinds, and memory is where it was."""
    texts = ["Write a haiku. " * 60, "再短一点 " * 100, "Как дела? " * 90, "\ud800", ""]
    for text in texts * 200:
        read(COMPILED, Prompt.of(text, text[:50], "You are kind."))
    begun, counts = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [sys.getrefcount(text) for text in texts]
    prompts = [Prompt.of(text, text[:50], "You are kind.") for text in texts]
    for _ in range(20_000):
        for prompt in prompts:
            read(COMPILED, prompt)
    del prompts, prompt

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun < 2_000  # kB; one object a call would be 3,000
    assert [sys.getrefcount(text) for text in texts] == counts


@needs_compiler
def test_readers_come_and_go():
    """A hundred of them take no more memory than a few."""
    for _ in range(5):
        Classifier.from_bytes(DATA)
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        Classifier.from_bytes(DATA)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun < 20_000


GOOD = (["the", "a", "-s", "1"], (1, 1, 1, 0, 0, 1, 0), bytes(range(8)), 2, (1.0,) * 7, (0.0, 0.0, 0.0))


def with_(i: int, value: object) -> tuple[object, ...]:
    return (*GOOD[:i], value, *GOOD[i + 1 :])


@needs_compiler
@pytest.mark.parametrize(
    "wrong",
    [
        with_(0, ["the"]),
        with_(0, ("the", "a", "-s", "1")),
        with_(0, ["the", "a", "-s", 1]),
        with_(0, ["the", "a", "-s", "one"]),
        with_(1, (4, 0, 0, 0, 0, 0)),
        with_(1, (5, -1, 0, 0, 0, 0, 0)),
        with_(1, (2**62, 0, 0, 0, 0, 0, 0)),
        with_(2, b"short"),
        with_(2, "text"),
        with_(3, 0),
        with_(3, -2),
        with_(4, (1.0,)),
        with_(5, (1.0, "x", 0.0)),
        GOOD[:3],
    ],
)
def test_what_fits_not_together_is_refused(wrong):
    """Before anything is read from it."""
    with pytest.raises((ValueError, TypeError)):
        reader.Compiled(*wrong)


@pytest.mark.parametrize("make", [PlainReader, pytest.param(reader.Compiled, marks=needs_compiler)])
def test_a_small_table_is_added_up(make):
    """By hand: `the` has weights 0 and 4 less 128, times a share of one."""
    own, before, foreign = make(*GOOD).read("the", 3, "", "")

    assert (own, before, foreign) == ([0 - 128, 4 - 128], None, False)


@pytest.mark.parametrize("make", [PlainReader, pytest.param(reader.Compiled, marks=needs_compiler)])
def test_sizes_beyond_all_sizes_are_read(make):
    """Python's numbers have no end."""
    assert make(*GOOD).read("a", 10**30, "", "") == make(*GOOD).read("a", 10**40, "", "")


@needs_compiler
@pytest.mark.parametrize("args", [(), ("a",), (b"a", 1, "", ""), ("a", "1", "", ""), ("a", 1, None, ""), ("a", 1.5, "", "")])
def test_what_is_no_prompt_is_refused(args):
    """With a TypeError, not a crash."""
    with pytest.raises(TypeError):
        COMPILED._reader.read(*args)


@needs_compiler
def test_a_text_whose_class_misbehaves_is_read_as_text():
    """Its own `lower` is not asked."""

    class Loud(str):
        __slots__ = ()

        def lower(self):
            raise AssertionError

    assert read(COMPILED, Prompt.of(Loud("é hello"))) == read(COMPILED, Prompt.of("é hello"))


def test_packed_sums_are_the_plain_arithmetic():
    """What one integer adds up is what a matrix would."""
    plain = PLAIN._reader
    table = plain._tables["w"]
    words = list(table)[:50]
    total = sum(table[word] for word in words)
    *fields, n = plain._fields.unpack(total.to_bytes(plain._fields.size, "little"))
    one_by_one = np.array([plain._fields.unpack(table[word].to_bytes(plain._fields.size, "little")) for word in words])

    assert n == 50
    assert [*fields, n] == one_by_one.sum(axis=0).tolist()


KEYS = [
    "the",
    "a",
    "-s",
    "s-",
    "-",
    "#3",
    "",
    "\x1f",
    "a\x1fb",
    "^\x1fthe",
    "the\x1fa\x1f$",
    "语",
    "语\x1f语",
    "\ud800",
    "x" * 70_000,
    "-x-",
    "#-",
]
NUMBERS = ["0", "1", "64", "65", "127", "1919", "1920", "-1", "333", "9" * 30]


@st.composite
def tables(draw):
    """Few keys of every group, some of them there twice, some that no text can have; any number of classes."""
    groups = [draw(st.lists(st.sampled_from(NUMBERS if group == "n" else KEYS), max_size=4)) for group in "wbahtns"]
    keys, columns = [key for group in groups for key in group], draw(st.sampled_from([1, 2, 11, 16, 17, 33]))
    weights = draw(st.binary(min_size=len(keys) * columns, max_size=len(keys) * columns))
    units = tuple(draw(st.lists(st.floats(0, 17_000), min_size=7, max_size=7)))
    return keys, tuple(map(len, groups)), weights, columns, units, (0.9, 0.7, 0.0)


@needs_compiler
@settings(max_examples=200, deadline=None)
@given(tables(), st.sampled_from(["the a the", "语the 语 语", "", "x" * 900, "asss 333 the", "\ud800 a", "the's b"]))
def test_any_table_is_read_the_same(table, text):
    """Whatever a weights file holds."""
    prompt = (text, len(text), text[:3], "the " + text)

    assert reader.Compiled(*table).read(*prompt) == PlainReader(*table).read(*prompt)
