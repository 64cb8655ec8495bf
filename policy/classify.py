"""prompt -> what kind of work it is, and how long its answer gets. A linear model over the features of `features`, in bounded time.

Facts
    One request, one thread, some hundred features. The arithmetic is nothing; calls are everything. Each call into numpy costs a
    microsecond when the caches are warm and five when they are not, and a request finds them cold.

Plan
    A feature's weights, one for each class and one for the length, are small whole numbers laid side by side in one Python integer, 32
    bits each, and a last field that counts. So `sum(map(get, keys))` adds up all classes at once, in C; groups are added up in sixteenth
    thousandths of their scale, and one `struct.unpack` takes the sum apart. Weights are bytes 0..255 that stand for -128..127 times a
    scale of their group and one of their class. 900 characters have at most some 1,600 features, which a field holds.
"""

import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import repeat
from operator import mul

import numpy as np
import orjson
from numpy.typing import NDArray

from .facts import TASKS, Length
from .features import GROUPS, Key, Prompt, Words, counts, cut, ends, features, first, last, pairs, weight_class
from .task import HINT_SHARE

Bytes = NDArray[np.uint8]
MAGIC = b"bestserve-task-2\n"
MIDDLE = 128
"""The byte that stands for a weight of zero."""

UNITS = 16_384
"""Steps in which a group's share of the sum is rounded."""

LEAST_TOKENS, MOST_TOKENS = 1.0, 16384.0
_STEPS = 8  # medians per factor e: near enough for a belief, and few enough to be remembered by whoever works on with them


@dataclass(frozen=True, slots=True)
class Guess:
    """What a prompt is believed to be."""

    classes: tuple[float, ...]  # probabilities over the classifier's classes
    task: tuple[float, ...]  # over TASKS
    length: Length
    name: str  # the likeliest class, or `unknown` when none stands out


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a weights file says of itself."""

    classes: tuple[str, ...]
    tasks: tuple[tuple[float, ...], ...]  # a row for each class: the built-in tasks that it is made of, shares that add up to 1
    bias: tuple[float, ...]  # (C + 1,) the last is the length's
    tokens: tuple[float, ...]  # (C,) log of the tokens that answers of each class usually have
    scales: tuple[float, ...]  # (C + 1,) what one step of a weight is worth in each column
    shares: Mapping[str, float]  # by group, in (0, 1]: of that
    temperature: float
    foreign: float  # temperature where more than a twentieth of the window is not ASCII
    carry: tuple[float, ...]  # (3,) by weight_class: how much of the message before holds for the last
    sigma: tuple[float, ...]  # (C,) spread of log tokens of each class about what is expected
    counts: Mapping[str, int]  # keys of each group
    about: Mapping[str, object]  # how it was trained


class BadWeights(ValueError):
    """Bytes that are no classifier; the message says why."""


class Classifier:
    """Reads prompts. Never changes."""

    def __init__(self, manifest: Manifest, keys: Mapping[str, list[Key]], weights: Bytes, name: str = "") -> None:
        """`weights` (F, C + 1), the features in the order of GROUPS and of `keys`."""
        self.manifest = manifest
        self.id = name  # names the weights: 16 hex digits of their file's hash
        self._fields = struct.Struct(f"<{len(manifest.classes) + 2}I")
        self._tables: dict[str, dict[Key, int]] = {}
        self._rows: dict[Key, int] = {}
        packed, begin = _packed(weights), 0
        for group in GROUPS:
            names = keys[group]
            self._tables[group] = dict(zip(names, packed[begin : begin + len(names)], strict=True))
            begin += len(names)
        parts = [(str(key), value) for key, value in self._tables["a"].items()]
        self._begins = {key[:-1]: value for key, value in parts if key.endswith("-")}
        self._finals = {key[1:]: value for key, value in parts if key.startswith("-")}
        self._units = [UNITS * manifest.shares[group] for group in GROUPS]
        self._columns = [scale / UNITS for scale in manifest.scales]
        self.names = (*TASKS, *(name for name in manifest.classes if name not in TASKS))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Classifier":
        """Read a weights file. Raises BadWeights."""
        try:
            manifest, keys, weights = _unpacked(data)
            return cls(manifest, keys, weights, blake2b(data, digest_size=8).hexdigest())
        except (ValueError, KeyError, TypeError, IndexError, zlib.error, UnicodeDecodeError, struct.error) as error:
            raise BadWeights(f"these bytes are no task classifier: {type(error).__name__}: {error}") from error

    def guess(self, prompt: Prompt, hint: str | None = None) -> Guess:
        """What the prompt is, and how long the answer gets. A hint is one of `names`."""
        words = cut(prompt.text)
        system = dict.fromkeys(cut(prompt.system).words) if prompt.system else ()
        scores = self._added(list(self.manifest.bias), words, counts(prompt, words), system, 1.0)
        if prompt.before:
            scores = self._added(scores, cut(prompt.before), (), (), self.manifest.carry[weight_class(words)])
        *logits, log_tokens = scores
        classes = softmax(logits, self._temperature(prompt.text))
        if hint is not None:
            classes = self._hinted(classes, hint)
        return Guess(classes, self._tasks(classes), self._length(classes, log_tokens), self._name(classes))

    def _added(self, scores: list[float], words: Words, sizes: Iterable[Key], system: Iterable[Key], share: float) -> list[float]:
        """Scores with those of a text's features, times a share."""
        t, size = self._tables, self._fields.size
        begins, finals, numbers = ends(words)
        totals = (
            sum(map(t["w"].get, dict.fromkeys([*words.words, *words.han] if words.han else words.words), repeat(0))),
            sum(map(t["b"].get, dict.fromkeys(pairs(words)), repeat(0))),
            sum(map(self._begins.get, begins, repeat(0)))
            + sum(map(self._finals.get, finals, repeat(0)))
            + sum(map(t["a"].get, numbers, repeat(0))),
            sum(map(t["h"].get, first(words), repeat(0))),
            sum(map(t["t"].get, last(words), repeat(0))),
            sum(map(t["n"].get, sizes, repeat(0))),
            sum(map(t["s"].get, system, repeat(0))),
        )
        counted = 32 * (len(self._columns))  # where the field begins that counts
        grand = sum(
            total * round(unit * share / math.sqrt(total >> counted)) for total, unit in zip(totals, self._units, strict=True) if total
        )
        *fields, n = self._fields.unpack(grand.to_bytes(size, "little"))
        zero = MIDDLE * n
        return [score + column * (field - zero) for score, column, field in zip(scores, self._columns, fields, strict=True)]

    def _hinted(self, classes: tuple[float, ...], hint: str) -> tuple[float, ...]:
        """Most of the probability goes to what the hint names: a class, or the classes that are made of that task."""
        names = self.manifest.classes
        share = [float(name == hint) for name in names] if hint in names else [row[TASKS.index(hint)] for row in self.manifest.tasks]
        total = sum(share)
        return tuple((1 - HINT_SHARE) * p + HINT_SHARE * s / total for p, s in zip(classes, share, strict=True)) if total else classes

    def _temperature(self, text: str) -> float:
        return self.manifest.foreign if is_foreign(text) else self.manifest.temperature

    def _tasks(self, classes: tuple[float, ...]) -> tuple[float, ...]:
        if self.manifest.classes == TASKS:
            return classes
        return tuple(sum(p * row[i] for p, row in zip(classes, self.manifest.tasks, strict=True)) for i in range(len(TASKS)))

    def _name(self, classes: tuple[float, ...]) -> str:
        best = max(range(len(classes)), key=classes.__getitem__)
        return self.manifest.classes[best] if classes[best] > 1.5 / len(classes) else "unknown"

    def _length(self, classes: tuple[float, ...], log_tokens: float) -> Length:
        usual = sum(map(mul, classes, self.manifest.tokens))
        median = math.exp(round((usual + log_tokens) * _STEPS) / _STEPS)
        sigma = sum(map(mul, classes, self.manifest.sigma))
        return Length(min(max(median, LEAST_TOKENS), MOST_TOKENS), round(sigma * 20) / 20)

    def strongest(self, prompt: Prompt, class_: str, n: int = 10) -> list[tuple[str, float]]:
        """The features that speak most for a class against the mean of all, as people read them, and by how much."""
        column = self.manifest.classes.index(class_)
        found: dict[str, float] = {}
        for group, keys in features(prompt).items():
            known = [key for key in dict.fromkeys(keys) if key in self._tables[group]]
            for key in known:
                *fields, _ = self._fields.unpack(self._tables[group][key].to_bytes(self._fields.size, "little"))
                share = self.manifest.shares[group]
                weights = [(f - MIDDLE) * s * share for f, s in zip(fields, self.manifest.scales, strict=True)][:-1]
                found[spelled(group, key)] = (weights[column] - sum(weights) / len(weights)) / math.sqrt(len(known))
        return sorted(found.items(), key=lambda item: -item[1])[:n]

    def rows(self, prompt: Prompt, most: int) -> list[int]:
        """Which known words a prompt has, as numbers in rising order, at most so many: what may be kept of a text that may not be."""
        if not self._rows:
            self._rows = {key: row for row, key in enumerate(self._tables["w"])}
        words = cut(prompt.text)
        return sorted({self._rows[word] for word in (*words.words, *words.han) if word in self._rows})[:most]

    def words(self, rows: Iterable[int]) -> list[str]:
        """The words of some rows. Raises ValueError for a row that is not there."""
        keys = list(self._tables["w"])
        if any(not 0 <= row < len(keys) for row in rows):
            raise ValueError(f"a row is not in 0..{len(keys) - 1}")
        return [str(keys[row]) for row in rows]


def is_foreign(text: str) -> bool:
    """Whether more than some twentieth of it is not ASCII."""
    return not text.isascii() and len(text.encode("utf-8", "ignore")) >= 1.05 * len(text)


def softmax(logits: list[float], temperature: float) -> tuple[float, ...]:
    """Probabilities."""
    most = max(logits)
    odds = [math.exp((logit - most) / temperature) for logit in logits]
    total = sum(odds)
    return tuple([each / total for each in odds])


def spelled(group: str, key: Key) -> str:
    """A feature as people read it."""
    said = " ".join(key) if isinstance(key, tuple) else str(key)
    return {"h": f"begins: {said}", "t": f"ends: {said}", "n": f"count {said}", "s": f"system: {said}"}.get(group, said)


# --- the file ---------------------------------------------------------------------------------------------------------

_KEY, _PART = "\0", "\x1f"


def to_bytes(manifest: Manifest, keys: Mapping[str, list[Key]], weights: Bytes) -> bytes:
    """A weights file: a line of magic, then, deflated: the manifest's size, the manifest, the keys' size, the keys, the weights."""
    said = orjson.dumps({name: getattr(manifest, name) for name in Manifest.__slots__})
    words = _KEY.join(_written(key) for group in GROUPS for key in keys[group]).encode("utf-8", "surrogatepass")
    body = struct.pack("<I", len(said)) + said + struct.pack("<I", len(words)) + words + weights.T.tobytes()
    return MAGIC + zlib.compress(body, 9)


def _unpacked(data: bytes) -> tuple[Manifest, dict[str, list[Key]], Bytes]:
    if not data.startswith(MAGIC):
        raise ValueError("the first line is not that of a classifier of this version")
    body = zlib.decompress(data[len(MAGIC) :])
    (size,) = struct.unpack_from("<I", body)
    manifest = _manifest(orjson.loads(body[4 : 4 + size]))
    (more,) = struct.unpack_from("<I", body, 4 + size)
    words = body[8 + size : 8 + size + more].decode("utf-8", "surrogatepass").split(_KEY)
    total, columns = sum(manifest.counts.values()), len(manifest.classes) + 1
    if len(words) != total:
        raise ValueError(f"{len(words)} keys where {total} are announced")
    keys, begin = {}, 0
    for group in GROUPS:
        keys[group] = _read(words[begin : begin + manifest.counts[group]], group)
        begin += manifest.counts[group]
    return manifest, keys, np.frombuffer(body, np.uint8, offset=8 + size + more).reshape(columns, total).T


def _manifest(raw: dict[str, object]) -> Manifest:
    manifest = Manifest(**{name: _frozen(value) for name, value in raw.items()})  # type: ignore[arg-type]
    n = len(manifest.classes)
    for name, got, wanted in (
        ("tasks", len(manifest.tasks), n),
        ("bias", len(manifest.bias), n + 1),
        ("sigma", len(manifest.sigma), n),
        ("tokens", len(manifest.tokens), n),
        ("scales", len(manifest.scales), n + 1),
        ("carry", len(manifest.carry), 3),
    ):
        if got != wanted:
            raise ValueError(f"{name}: {got} values for {n} classes")
    numbers = [
        *manifest.bias,
        *manifest.sigma,
        *manifest.tokens,
        *manifest.carry,
        manifest.temperature,
        manifest.foreign,
        *manifest.scales,
        *(manifest.shares[g] for g in GROUPS),
    ]
    if not all(map(math.isfinite, numbers)) or min(manifest.temperature, manifest.foreign, *manifest.sigma) <= 0:
        raise ValueError("a number is not finite, or a spread or a temperature not positive")
    if not all(0 < manifest.shares[group] < 1.01 for group in GROUPS) or not all(0 <= c <= 2 for c in manifest.carry):
        raise ValueError("a group's share is not in (0, 1], or what is carried over not in 0..2")
    return manifest


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _written(key: Key) -> str:
    return _PART.join(key) if isinstance(key, tuple) else str(key)


def _read(words: list[str], group: str) -> list[Key]:
    if group == "n":
        return list(map(int, words))
    if group in "was":
        return list(words)
    return [tuple(word.split(_PART)) if _PART in word else word for word in words]


def _packed(weights: Bytes) -> list[int]:
    """Each row (C + 1,) as one integer: its bytes 32 bits apart, and a last field of one, which counts."""
    fields = np.ones((len(weights), weights.shape[1] + 1), dtype="<u4")
    fields[:, :-1] = weights
    data, size = fields.tobytes(), 4 * fields.shape[1]
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
