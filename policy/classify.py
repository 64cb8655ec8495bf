"""prompt -> what kind of work it is, and how long its answer gets. A linear model over the features of `features`, in bounded time.

Weights are bytes 0..255 that stand for -128..127 times a scale of their group and one of their class. A `Reader` adds them up as whole
numbers; here the sums become probabilities.
"""

import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from operator import add, mul
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from .facts import TASKS, Length
from .features import GROUPS, Key, Prompt, cut, features
from .reader import MIDDLE, PART, UNITS, Compiled, PlainReader, read_keys
from .task import HINT_SHARE

Bytes = NDArray[np.uint8]
MAGIC = b"bestserve-task-3\n"
LEAST_TOKENS, MOST_TOKENS = 1.0, 16384.0
_STEPS = 8  # medians per factor e: near enough for a belief, and few enough to be remembered by whoever works on with them


class Guess(NamedTuple):
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
    heats: tuple[float, ...]  # (3,) temperatures by `reader.script`
    followed: float  # times that, where something of the message before was carried over
    carry: tuple[float, ...]  # (3,) by weight_class: how much of the message before holds for the last
    sigma: tuple[float, ...]  # (C,) spread of log tokens of each class about what is expected
    counts: Mapping[str, int]  # keys of each group
    about: Mapping[str, object]  # how it was trained


class BadWeights(ValueError):
    """Bytes that are no classifier; the message says why."""


class Classifier:
    """Reads prompts. Never changes."""

    def __init__(self, manifest: Manifest, keys: list[str], weights: bytes, *, name: str = "", compiled: bool = True) -> None:
        """`keys` (F,) as the file has them, in the order of GROUPS; `weights` (C + 1, F). It reads by plain Python where it is told so, or
        where the package was built without a compiler. Raises ValueError."""
        self.manifest = manifest
        self.id = name  # names the weights: 16 hex digits of their file's hash
        self._written, self._weights = keys, weights
        self.compiled = compiled and Compiled is not None
        make = Compiled if compiled and Compiled is not None else PlainReader
        counts = tuple(manifest.counts[group] for group in GROUPS)
        units = tuple(UNITS * manifest.shares[group] for group in GROUPS)
        self._reader = make(keys, counts, weights, len(manifest.classes) + 1, units, manifest.carry)
        self._columns = [scale / UNITS for scale in manifest.scales]
        self.names = (*TASKS, *(name for name in manifest.classes if name not in TASKS))

    @classmethod
    def from_bytes(cls, data: bytes, *, compiled: bool = True) -> "Classifier":
        """Read a weights file. Raises BadWeights."""
        try:
            manifest, keys, weights = _unpacked(data)
            return cls(manifest, keys, weights, name=blake2b(data, digest_size=8).hexdigest(), compiled=compiled)
        except (ValueError, KeyError, TypeError, IndexError, zlib.error, UnicodeDecodeError, OverflowError, struct.error) as error:
            raise BadWeights(f"these bytes are no task classifier: {type(error).__name__}: {error}") from error

    def guess(self, prompt: Prompt, hint: str | None = None) -> Guess:
        """What the prompt is, and how long the answer gets. A hint is one of `names`."""
        own, before, foreign = self._reader.read(prompt.text, prompt.size, prompt.before, prompt.system)
        scores = list(map(add, self.manifest.bias, map(mul, self._columns, own)))
        if before is not None:
            scores = list(map(add, scores, map(mul, self._columns, before)))
        *logits, log_tokens = scores
        heat = self.manifest.heats[2 if foreign else 0 if prompt.text.isascii() else 1]
        if before is not None and any(before):
            heat *= self.manifest.followed
        classes = softmax(logits, heat)
        if hint is not None:
            classes = self._hinted(classes, hint)
        return Guess(classes, self._tasks(classes), self._length(classes, log_tokens), self._name(classes))

    def _hinted(self, classes: tuple[float, ...], hint: str) -> tuple[float, ...]:
        """Most of the probability goes to what the hint names: a class, or the classes that are made of that task."""
        names = self.manifest.classes
        share = [float(name == hint) for name in names] if hint in names else [row[TASKS.index(hint)] for row in self.manifest.tasks]
        total = sum(share)
        return tuple((1 - HINT_SHARE) * p + HINT_SHARE * s / total for p, s in zip(classes, share, strict=True)) if total else classes

    def _tasks(self, classes: tuple[float, ...]) -> tuple[float, ...]:
        if self.manifest.classes == TASKS:
            return classes
        return tuple(sum(p * row[i] for p, row in zip(classes, self.manifest.tasks, strict=True)) for i in range(len(TASKS)))

    def _name(self, classes: tuple[float, ...]) -> str:
        most = max(classes)
        return self.manifest.classes[classes.index(most)] if most > 1.5 / len(classes) else "unknown"

    def _length(self, classes: tuple[float, ...], log_tokens: float) -> Length:
        usual = sum(map(mul, classes, self.manifest.tokens))
        median = math.exp(round((usual + log_tokens) * _STEPS) / _STEPS)
        sigma = sum(map(mul, classes, self.manifest.sigma))
        return Length(min(max(median, LEAST_TOKENS), MOST_TOKENS), round(sigma * 20) / 20)

    def strongest(self, prompt: Prompt, class_: str, n: int = 10) -> list[tuple[str, float]]:
        """The features that speak most for a class against the mean of all, as people read them, and by how much."""
        column = self.manifest.classes.index(class_)
        scales = np.array(self.manifest.scales[:-1])
        found: dict[str, float] = {}
        for group, keys in features(prompt).items():
            known = [key for key in dict.fromkeys(keys) if key in self._rows[group]]
            for key in known:
                weights = (self._matrix[:-1, self._rows[group][key]] - float(MIDDLE)) * scales * self.manifest.shares[group]
                found[spelled(group, key)] = float(weights[column] - weights.mean()) / math.sqrt(len(known))
        return sorted(found.items(), key=lambda item: -item[1])[:n]

    def rows(self, prompt: Prompt, most: int) -> list[int]:
        """Which known words a prompt has, as numbers in rising order, at most so many: what may be kept of a text that may not be."""
        words, rows = cut(prompt.text), self._rows["w"]
        return sorted({rows[word] for word in (*words.words, *words.han) if word in rows})[:most]

    def words(self, rows: Iterable[int]) -> list[str]:
        """The words of some rows. Raises ValueError for a row that is not there."""
        n = self.manifest.counts["w"]
        if any(not 0 <= row < n for row in rows):
            raise ValueError(f"a row is not in 0..{n - 1}")
        return [self._written[row] for row in rows]

    @cached_property
    def _rows(self) -> dict[str, dict[Key, int]]:
        """Of each group, where a key's weights are."""
        rows, begin = {}, 0
        for group in GROUPS:
            end = begin + self.manifest.counts[group]
            rows[group] = dict(zip(read_keys(self._written[begin:end], group), range(begin, end), strict=True))
            begin = end
        return rows

    @property
    def _matrix(self) -> Bytes:
        """(C + 1, F)."""
        return np.frombuffer(self._weights, np.uint8).reshape(len(self.manifest.classes) + 1, -1)


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

_KEY = "\0"


def to_bytes(manifest: Manifest, keys: Mapping[str, list[Key]], weights: Bytes) -> bytes:
    """A weights file: a line of magic, then, deflated: the manifest's size, the manifest, the keys' size, the keys, the weights."""
    said = orjson.dumps({name: getattr(manifest, name) for name in Manifest.__slots__})
    words = _KEY.join(_written(key) for group in GROUPS for key in keys[group]).encode("utf-8", "surrogatepass")
    body = struct.pack("<I", len(said)) + said + struct.pack("<I", len(words)) + words + weights.T.tobytes()
    return MAGIC + zlib.compress(body, 9)


def _unpacked(data: bytes) -> tuple[Manifest, list[str], bytes]:
    if not data.startswith(MAGIC):
        raise ValueError("the first line is not that of a classifier of this version")
    body = zlib.decompress(data[len(MAGIC) :])
    (size,) = struct.unpack_from("<I", body)
    manifest = _manifest(orjson.loads(body[4 : 4 + size]))
    (more,) = struct.unpack_from("<I", body, 4 + size)
    keys = body[8 + size : 8 + size + more].decode("utf-8", "surrogatepass").split(_KEY)
    total = sum(manifest.counts.values())
    if len(keys) != total:
        raise ValueError(f"{len(keys)} keys where {total} are announced")
    return manifest, keys, body[8 + size + more :]


def _manifest(raw: dict[str, object]) -> Manifest:
    manifest = Manifest(**{name: _frozen(value) for name, value in raw.items()})  # type: ignore[arg-type]
    n = len(manifest.classes)
    for name, got, wanted in (
        ("tasks", len(manifest.tasks), n),
        ("bias", len(manifest.bias), n + 1),
        ("sigma", len(manifest.sigma), n),
        ("tokens", len(manifest.tokens), n),
        ("scales", len(manifest.scales), n + 1),
        ("heats", len(manifest.heats), 3),
        ("carry", len(manifest.carry), 3),
    ):
        if got != wanted:
            raise ValueError(f"{name}: {got} values for {n} classes")
    numbers = [
        *manifest.bias,
        *manifest.sigma,
        *manifest.tokens,
        *manifest.carry,
        *manifest.heats,
        manifest.followed,
        *manifest.scales,
        *(manifest.shares[g] for g in GROUPS),
    ]
    if not all(map(math.isfinite, numbers)) or min(*manifest.heats, manifest.followed, *manifest.sigma) <= 0:
        raise ValueError("a number is not finite, or a spread or a temperature not positive")
    if not all(0 < manifest.shares[group] < 1.01 for group in GROUPS) or not all(0 <= c <= 2 for c in manifest.carry):
        raise ValueError("a group's share is not in (0, 1], or what is carried over not in 0..2")
    return manifest


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _written(key: Key) -> str:
    return PART.join(key) if isinstance(key, tuple) else str(key)
