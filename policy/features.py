"""What is looked at of a prompt's text: a bounded window of it, cut into words, and twenty-odd counts. Never the whole text.

Facts
    What decides about a task stands at the beginning and at the end of the last user message. A look at all of a long text costs more
    than the decision itself, so HEAD and TAIL characters are read and no more, whatever the size.

Plan
    A Feature is one of a group; each group is scaled on its own, by one over the root of how many of it are known.
        w  words, numbers and runs of marks, in small letters; Chinese and Japanese characters
        b  pairs of neighbours of these
        a  beginnings and ends of words, and the number of a number's digits
        h  words among the first, and the first one, two and three as such
        t  words among the last, and the last two as such
        n  counts, by size: length, lines, question marks, brackets …
        s  words of the system prompt
    A key is a text, or a tuple of texts, or a number in n. The user's message before the last is cut by itself: what it is, is carried
    over to the last one, the more the less that one says (`weight_class`).

What is not handled
    Languages without spaces other than Chinese and Japanese are read as long words.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

HEAD, TAIL = 600, 300
"""Characters of the last user message that are read at its beginning and at its end."""

BEFORE = 200
"""Characters that are read of the user message before, and of the system prompt."""

GROUPS = ("w", "b", "a", "h", "t", "n", "s")
Key = str | tuple[str, ...] | int

_FIRST, _LAST, _CHARS = 6, 4, 400
_HAN = "\u3040-\u30ff\u3400-\u9fff"
_MARKS = r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u205e\u3000-\u303f\uff00-\uff65"
_ASCII = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+|\n+|[^\sa-z0-9]{1,3}")
_OTHER = re.compile(rf"[^\s0-9{_MARKS}{_HAN}]+(?:'[a-z]+)?|[0-9]+|\n+|[{_MARKS}]{{1,3}}")
_HANS = re.compile(rf"[{_HAN}]+")
_ARABIC = str.maketrans("أإآةى٠١٢٣٤٥٦٧٨٩", "اااهي0123456789", "\u0640\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652")
_HINDI = str.maketrans("०१२३४५६७८९", "0123456789")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Of one request, what its task is told from."""

    text: str  # of the last user message: its beginning and its end
    size: int  # characters of that message, about
    before: str = ""  # the beginning of the user message before it
    system: str = ""  # the beginning of the system prompt

    @classmethod
    def of(cls, text: str, before: str = "", system: str = "") -> "Prompt":
        """Cut the windows."""
        window = text if len(text) <= HEAD + TAIL else text[:HEAD] + "\n" + text[-TAIL:]
        return cls(window, len(text), before[:BEFORE], system[:BEFORE])


@dataclass(frozen=True, slots=True)
class Words:
    """A window, cut."""

    words: list[str]
    han: str  # its Chinese and Japanese characters, not more than _CHARS
    numbers: list[str]  # of the words, those of digits only


def cut(text: str) -> Words:
    """Words of a text, in small letters."""
    low = text.lower()
    if not low.isascii():
        low = _alike(low)
    if low.isascii():
        words, han = _ASCII.findall(low), ""
    else:
        words, han = _OTHER.findall(low), "".join(_HANS.findall(low))
    if len(han) > _CHARS:
        han = han[: _CHARS * 2 // 3] + han[-_CHARS // 3 :]
    return Words(words, han, [word for word in words if word.isdigit()])


def _alike(text: str) -> str:
    """What is written in several ways as one: quotes, Russian's ё, Arabic's alifs and vowel signs, digits."""
    text = text.replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"').replace("ё", "е")
    if "ا" in text:
        return text.translate(_ARABIC)
    return text.translate(_HINDI) if "\u094d" in text else text


def pairs(cut: Words) -> Iterable[tuple[str, str]]:
    """Neighbours."""
    words = zip(cut.words, islice(cut.words, 1, None), strict=False)
    return chain(words, zip(cut.han, islice(cut.han, 1, None), strict=False)) if cut.han else words


def ends(cut: Words) -> tuple[list[str], list[str], list[str]]:
    """What words have in common with their kin: beginnings and ends of those with more than four letters, and sizes of numbers."""
    long = (
        [word for word in cut.words if len(word) > 4 and not word.isdigit()]
        if cut.numbers
        else [word for word in cut.words if len(word) > 4]
    )
    return [word[:4] for word in long], [word[-3:] for word in long], [f"#{min(len(word), 9)}" for word in cut.numbers]


def first(cut: Words) -> list[Key]:
    """How it begins."""
    words = cut.words or list(cut.han[:_FIRST])
    return [*words[:_FIRST], *(("^", *words[:n]) for n in (1, 2, 3) if len(words) >= n)]


def last(cut: Words) -> list[Key]:
    """How it ends."""
    words = cut.words if len(cut.words) > 1 else list(cut.han[-_LAST:])
    return [*words[-_LAST:], (words[-2], words[-1], "$")] if len(words) > 1 else []


_SIGNS = '?`{}()=;:"_$\\!,.<#|+'


def counts(prompt: Prompt, cut: Words) -> list[Key]:
    """Sizes, each as its number times 64 plus its size's class."""
    text = prompt.text
    n, lines = len(cut.words) + len(cut.han), text.count("\n")
    known = [
        _size(prompt.size),
        _size(n),
        _size(lines),
        _size(n // (lines + 1)),
        text[:1].isupper() + 2 * text[:1].isalpha(),
        ("\n\n" in text) + 2 * ("```" in text),
        _share(len(cut.numbers), n),
        _share(len(cut.han), n),
        10 if text.isascii() else _share(sum(map(str.isascii, cut.words)), n),
        (prompt.before != "") + 2 * (prompt.system != ""),
        *[_SIZES[text.count(sign)] for sign in _SIGNS],
    ]
    return [i * 64 + value for i, value in enumerate(known)]


def features(prompt: Prompt) -> dict[str, list[Key]]:
    """Every feature by group, for training and for explanations."""
    words = cut(prompt.text)
    begins, ends_, numbers = ends(words)
    return {
        "w": [*words.words, *words.han],
        "b": list(pairs(words)),
        "a": [*(begin + "-" for begin in begins), *("-" + end for end in ends_), *numbers],
        "h": first(words),
        "t": last(words),
        "n": counts(prompt, words),
        "s": list(cut(prompt.system).words),
    }


def weight_class(cut: Words) -> int:
    """How much a message says by itself: 0 for a few words, 1 for a sentence or two, 2 for more."""
    size = len(cut.words) + len(cut.han) // 2
    return (size > 8) + (size > 25)


def _size(n: int) -> int:
    """0, 1, 2, 3, then two classes an octave."""
    return n if n < 4 else min(2 * n.bit_length() - 2 + (n >> (n.bit_length() - 2) & 1), 63)


def _share(some: int, n: int) -> int:
    return some * 10 // n if n else 0


_SIZES = [_size(n) for n in range(4 * (HEAD + TAIL))]
