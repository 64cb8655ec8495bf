"""What can be read off an answer's text: its conclusion, a number, a piece of code, an object, its length, its likeness to another text."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import orjson

MOST = 100_000
"""Characters of an answer that are looked at."""

THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
FENCE = re.compile(r"```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[-−–]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?(?:e[-+]?\d+)?", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}")
WORD = re.compile(r"[^\W_]+(?:['’.,-][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s|$)|[。！？]")
BULLET = re.compile(r"^\s*(?:[-*+•–]|\d+[.)])\s+\S", re.MULTILINE)
WITHOUT_SPACES = re.compile(r"[぀-ヿ㐀-鿿豈-﫿]")  # kana and Chinese characters: each is counted as half a word

CHRF_ORDER, CHRF_BETA = 6, 2


def said(answer: str) -> str:
    """An answer without what a model thought aloud before it. A thought that never ends leaves nothing."""
    return THOUGHT.sub("", answer[:MOST]).strip()


def plain(text: str) -> str:
    """A text as it is compared: one kind of letters, case, space and quotation mark, without emphasis and closing punctuation."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    text = re.sub(r"[*`_#]+", "", text)
    return re.sub(r"\s+", " ", text).strip(" \t\n.!?,;:\"'()[]。！？").casefold()


def holds(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a plain text, as whole words where its ends are letters or digits of a script that has spaces."""
    wanted = plain(phrase)
    if WITHOUT_SPACES.search(wanted):
        return wanted in text
    start = r"(?<![^\W_])" if wanted[:1].isalnum() else ""
    end = r"(?![^\W_])" if wanted[-1:].isalnum() else ""
    return re.search(start + re.escape(wanted) + end, text) is not None


def number(text: str) -> float | None:
    """The number that an answer ends at: what is boxed, else the last number in it."""
    boxed = BOXED.findall(text)
    text = LATEX_FRACTION.sub(r"\1/\2", boxed[-1] if boxed else text)
    found = NUMBER.findall(re.sub(r"\{,\}|,\\!", ",", text))
    return _value(found[-1]) if found else None


def _value(written: str) -> float | None:
    over, _, under = re.sub(r"[,\s]", "", written).replace("−", "-").replace("–", "-").partition("/")
    try:
        value = float(over) / float(under or "1")
    except ZeroDivisionError:
        return None
    return value if math.isfinite(value) else None


def code(text: str) -> str:
    """The program in an answer: its fenced blocks in Python one after the other, else the first block, else all of it."""
    blocks = FENCE.findall(text)
    ours = [body for tag, body in blocks if tag.casefold() in ("python", "py", "python3")]
    return "\n\n".join(ours) if ours else blocks[0][1] if blocks else text


def json(text: str) -> Any:
    """The JSON in an answer: a fenced block, the whole, or from the first bracket to the last. Raises ValueError."""
    blocks = [body for tag, body in FENCE.findall(text) if tag.casefold() in ("json", "")]
    inner = re.search(r"[\[{].*[\]}]", text, re.DOTALL)
    for candidate in [*blocks, text, inner.group() if inner else ""]:
        try:
            return orjson.loads(candidate)
        except orjson.JSONDecodeError:
            continue
    raise ValueError("there is no JSON in the answer")


def count(text: str, unit: str) -> float:
    """How many words, sentences, lines, bullets or characters there are. Scripts without spaces: two characters to a word."""
    if unit == "characters":
        return len(text)
    if unit == "lines":
        return sum(bool(line.strip()) for line in text.splitlines())
    if unit == "bullets":
        return len(BULLET.findall(text))
    if unit == "sentences":
        ends = len(SENTENCE_END.findall(text))
        return ends + bool(re.search(r"\w", SENTENCE_END.split(text)[-1]))
    return len(WORD.findall(WITHOUT_SPACES.sub(" ", text))) + len(WITHOUT_SPACES.findall(text)) / 2


def chrf(answer: str, reference: str) -> float:
    """chrF (Popović, 2015) in [0, 1]: the F2 of character n-grams, n from 1 to 6, without spaces."""
    a, b = re.sub(r"\s", "", answer), re.sub(r"\s", "", reference)
    precisions, recalls = [], []
    for n in range(1, CHRF_ORDER + 1):
        ours, theirs = _grams(a, n), _grams(b, n)
        if ours and theirs:
            common = (ours & theirs).total()
            precisions.append(common / ours.total())
            recalls.append(common / theirs.total())
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    weighed = CHRF_BETA**2 * precision + recall
    return (1 + CHRF_BETA**2) * precision * recall / weighed if weighed else 0.0


def language(text: str, among: Collection[str]) -> str:
    """The likeliest of some languages (ISO 639-1), by py3langid."""
    return next(str(code) for code, _ in _identifier().rank(text) if code in among)


def languages() -> frozenset[str]:
    """The codes of the languages that can be told."""
    return frozenset(_identifier().labels)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))
