"""The fit: rows -> Model. A linear softmax over sparse features and a linear length, by Adagrad, in numpy.

Facts
    Some 25,000 rows of 100 to 200 features each, 40,000 features, 10 classes: a batch's gradient is a `bincount` for each class.

Plan
    1. Every feature that enough rows have gets a column; a first fit tells which of them matter.
    2. The `size` that matter most stay.
    3. A second fit, and its weights as bytes.
    The same rows give the same weights in any process on any processor: no order is that of a set, sums of products are products and sums,
    never `@`, and `exp` is our own.
    What is expected of a length is the mean over the classes of their usual length, plus a linear part fitted to what is left.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bestserve.policy.classify import Manifest, to_bytes
from bestserve.policy.facts import TASKS
from bestserve.policy.features import GROUPS, Key, Prompt, cut, features, weight_class
from bestserve.policy.reader import MIDDLE, script

from .prompts import Row, weights

Floats = NDArray[np.float32]
Bag = dict[str, list[Key]]
Step = Callable[[int, int], None]
"""Told how far a fit is: done, of all."""


@dataclass(frozen=True, slots=True)
class Args:
    """How a fit is done."""

    size: int = 24_000  # features that stay
    least: int = 3  # rows that a feature must be in to be looked at
    epochs: int = 10
    scout: int = 3  # epochs of the first fit
    batch: int = 512
    rate: float = 0.12
    l2: float = 2e-6
    smooth: float = 0.02  # of the probability, given to all classes
    also: float = 0.25  # of the probability, given to what a reader would also accept
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Sparse:
    """A matrix (N, F) as its rows: row i has `values[begin[i]:begin[i+1]]` in `columns[...]`."""

    begin: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: Floats

    def rows(self, which: NDArray[np.int64]) -> "Sparse":
        """Some of the rows."""
        sizes = self.begin[which + 1] - self.begin[which]
        begin = np.concatenate(([0], np.cumsum(sizes)))
        at = np.repeat(self.begin[which] - begin[:-1], sizes) + np.arange(begin[-1])
        return Sparse(begin, self.columns[at], self.values[at])

    def times(self, w: Floats) -> Floats:
        """(N, C) of a matrix (F, C)."""
        padded = np.concatenate([w[self.columns] * self.values[:, None], np.zeros((1, w.shape[1]), np.float32)])
        out: Floats = np.add.reduceat(padded, self.begin[:-1], axis=0)
        out[self.begin[:-1] == self.begin[1:]] = 0.0
        return out

    def transposed_times(self, g: Floats, n: int) -> Floats:
        """(F, C) of a matrix (N, C)."""
        row = np.repeat(np.arange(len(g)), np.diff(self.begin))
        out = np.empty((n, g.shape[1]), np.float32)
        for c in range(g.shape[1]):
            out[:, c] = np.bincount(self.columns, weights=g[row, c] * self.values, minlength=n)
        return out


NOTHING: Bag = {group: [] for group in GROUPS}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is set after the fit, on rows that it did not see."""

    heats: tuple[float, float, float] = (1.0, 1.0, 1.0)
    followed: float = 1.0
    carry: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scores:
    """Of N prompts; the last of the C + 1 columns is the length's."""

    own: Floats  # (N, C + 1)
    before: Floats  # (N, C + 1)
    weight: NDArray[np.int64]  # (N,) the last message's `weight_class`
    script: NDArray[np.int64]  # (N,) the last message's

    def tuned(self, tuning: Tuning) -> tuple[Floats, Floats]:
        """Probabilities (N, C), and the length's own column (N,)."""
        carried = np.array(tuning.carry, np.float32)[self.weight, None] * self.before
        heat = np.array(tuning.heats)[self.script] * np.where(carried.any(axis=1), tuning.followed, 1.0)
        z = self.own + carried
        return softmaxed((z[:, :-1] / heat[:, None]).astype(np.float32)), z[:, -1]

    def some(self, which: NDArray[Any]) -> "Scores":
        """Those of some prompts."""
        return Scores(self.own[which], self.before[which], self.weight[which], self.script[which])


@dataclass(frozen=True, slots=True)
class Model:
    """What was fitted."""

    classes: tuple[str, ...]
    keys: Mapping[str, list[Key]]
    weights: Floats  # (F, C + 1), the last column is the length's
    bias: Floats  # (C + 1,)
    tokens: Floats  # (C,) log of each class's usual length
    sigma: Floats  # (C,)

    def columns(self) -> dict[tuple[str, Key], int]:
        """Where each feature stands."""
        return {pair: i for i, pair in enumerate((group, key) for group in GROUPS for key in self.keys[group])}

    def scores(self, prompts: Sequence[Prompt]) -> Scores:
        """What each prompt's own features say, and what those of the message before it say."""
        columns = self.columns()
        own = matrix([features(prompt) for prompt in prompts], columns).times(self.weights) + self.bias
        earlier = [{**features(Prompt.of(p.before)), "n": [], "s": []} if p.before else NOTHING for p in prompts]
        before = matrix(earlier, columns).times(self.weights)
        return Scores(own, before, np.array([weight_class(cut(p.text)) for p in prompts]), np.array([script(p.text) for p in prompts]))


def bags_of(rows: Sequence[Row]) -> list[Bag]:
    """The features of each row."""
    return [{**NOTHING, "w": list(row.words)} if row.words else features(row.prompt) for row in rows]


def matrix(bags: Sequence[Bag], columns: Mapping[tuple[str, Key], int]) -> Sparse:
    """(N, F): each group's features weigh one over the root of their number."""
    begin, cols, values = [0], [], []
    for bag in bags:
        for group in GROUPS:
            keys = dict.fromkeys(bag[group]) if group in "wb" else bag[group]
            known = [columns[group, key] for key in keys if (group, key) in columns]
            cols += known
            values += [1.0 / math.sqrt(len(known) or 1)] * len(known)
        begin.append(len(cols))
    return Sparse(np.array(begin), np.array(cols, np.int32), np.array(values, np.float32))


def fit(rows: Sequence[Row], classes: Sequence[str], args: Args, step: Step | None = None) -> Model:
    """The three steps of the head of this file. Raises ValueError when there is nothing to learn a class from."""
    missing = set(classes) - {row.task for row in rows}
    if missing:
        raise ValueError(f"no row is labelled {', '.join(sorted(missing))}")
    bags, told = bags_of(rows), step or (lambda done, of: None)
    seen = Counter(pair for bag in bags for group in GROUPS for pair in dict.fromkeys((group, key) for key in bag[group]))
    first = {pair: i for i, pair in enumerate(pair for pair, n in seen.items() if n >= args.least and _is_plain(pair[1]))}
    sparse = matrix(bags, first)
    all_epochs = args.scout + args.epochs
    w, _ = _descend(sparse, len(first), rows, classes, args, args.scout, lambda i: told(i, all_epochs))
    matters = np.ptp(w, axis=1) * np.sqrt(np.bincount(sparse.columns, minlength=len(first)))
    strongest = set(np.argsort(-matters, kind="stable")[: args.size].tolist())
    kept = {pair for pair, i in first.items() if i in strongest}
    keys: dict[str, list[Key]] = {group: sorted((key for g, key in kept if g == group), key=str) for group in GROUPS}
    columns = {pair: i for i, pair in enumerate((group, key) for group in GROUPS for key in keys[group])}
    sparse = matrix(bags, columns)
    w, bias = _descend(sparse, len(columns), rows, classes, args, args.epochs, lambda i: told(args.scout + i, all_epochs))
    p = softmaxed(sparse.times(w) + bias)
    usual, column, base, sigma = _lengths(sparse, len(columns), rows, classes, p)
    return Model(tuple(classes), keys, np.column_stack([w, column]), np.append(bias, base).astype(np.float32), usual, sigma)


def _is_plain(key: Key) -> bool:
    return isinstance(key, int) or not any(sign in part for part in ((key,) if isinstance(key, str) else key) for sign in "\0\x1f")


def targets(rows: Sequence[Row], classes: Sequence[str], args: Args) -> Floats:
    """(N, C) probabilities to be learned; zeros where only a length is known."""
    index, y = {name: i for i, name in enumerate(classes)}, np.zeros((len(rows), len(classes)), np.float32)
    for i, row in enumerate(rows):
        if row.soft is not None:
            y[i] = row.soft
        elif row.task is not None:
            others = [index[name] for name in row.also if name in index and name != row.task]
            y[i] = args.smooth / len(classes)
            y[i, index[row.task]] += (1 - args.smooth) * (1 - args.also if others else 1)
            for other in others:
                y[i, other] += (1 - args.smooth) * args.also / len(others)
    return y


def _descend(
    x: Sparse, n: int, rows: Sequence[Row], classes: Sequence[str], args: Args, epochs: int, step: Callable[[int], None]
) -> tuple[Floats, Floats]:
    """Weights (F, C) and biases (C,) of a softmax, by Adagrad with a falling rate."""
    rng, y, sure = np.random.default_rng(args.seed), targets(rows, classes, args), weights(rows)
    w, b = np.zeros((n, len(classes)), np.float32), np.zeros(len(classes), np.float32)
    seen, seen_b = np.full_like(w, 1e-8), np.full_like(b, 1e-8)
    for epoch in range(epochs):
        order, rate = rng.permutation(len(rows)), args.rate * (1 - epoch / epochs)
        for begin in range(0, len(order), args.batch):
            some = order[begin : begin + args.batch]
            part = x.rows(some)
            g = (softmaxed(part.times(w) + b) * y[some].sum(1, keepdims=True) - y[some]) * sure[some, None] / len(some)
            gw, gb = part.transposed_times(g, n) + args.l2 * w, g.sum(0)
            seen, seen_b = seen + gw * gw, seen_b + gb * gb
            w -= rate * gw / np.sqrt(seen)
            b -= rate * gb / np.sqrt(seen_b)
        step(epoch + 1)
    return w, b


def _lengths(x: Sparse, n: int, rows: Sequence[Row], classes: Sequence[str], p: Floats) -> tuple[Floats, Floats, float, Floats]:
    """Usual log length of each class (C,), a column (F,) and a base for what is left, and the spread that stays (C,)."""
    told = np.array([i for i, row in enumerate(rows) if row.tokens is not None])
    if not len(told):
        return np.full(len(classes), math.log(129.0), np.float32), np.zeros(n, np.float32), 0.0, np.full(len(classes), 0.93, np.float32)
    y = np.array([math.log(max(rows[i].tokens or 1.0, 1.0)) for i in told.tolist()], np.float32)
    sure = np.array([TEMPLATE_LENGTH if rows[i].source == "templates" else 1.0 for i in told.tolist()], np.float32)
    own = p[told]
    for i, row in enumerate(rows[i] for i in told.tolist()):
        if row.task is not None:  # what it is known to be, not what it looks like
            own[i] = [float(name == row.task) for name in classes]
    mean, heard = float(np.average(y, weights=sure)), (own * sure[:, None]).sum(axis=0)
    usual = (((own * (y * sure)[:, None]).sum(axis=0) + mean) / (heard + 1.0)).astype(np.float32)
    after = y - (own * usual).sum(axis=1)
    column = ridge(x.rows(told), n, after, sure, RIDGE)
    left = after - x.rows(told).times(column[:, None])[:, 0]
    spread = np.sqrt((own * (sure * left * left)[:, None]).sum(0) / np.maximum(heard, 1e-6))
    return usual, column, 0.0, np.maximum(spread, LEAST_SIGMA).astype(np.float32)


RIDGE = 6.0
TEMPLATE_LENGTH = 0.25
"""What the length of a template's child counts beside one that was said for its own prompt, or measured."""

LEAST_SIGMA = 0.93
"""Authors' estimates scatter less than answers do: below this spread (Azure's conversations, see `task`) a belief is not taken."""


def ridge(x: Sparse, n: int, y: Floats, sure: Floats, strength: float, rounds: int = 60) -> Floats:
    """Weights (F,) of a linear regression with a penalty, by conjugate gradients."""

    def times(v: Floats) -> Floats:
        out: Floats = x.transposed_times(x.times(v[:, None]) * sure[:, None], n)[:, 0] + strength * v
        return out

    w = np.zeros(n, np.float32)
    r = x.transposed_times((y * sure)[:, None], n)[:, 0]
    d, rr = r.copy(), float((r * r).sum())
    for _ in range(rounds):
        if rr < 1e-8:
            break
        ad = times(d)
        a = rr / float((d * ad).sum())
        w, r = w + a * d, r - a * ad
        rr, before = float((r * r).sum()), rr
        d = r + rr / before * d
    return w


def softmaxed(z: Floats) -> Floats:
    """(N, C) -> (N, C)."""
    e = exp(z - z.max(axis=1, keepdims=True))
    out: Floats = e / e.sum(axis=1, keepdims=True)
    return out


def exp(x: Floats) -> Floats:
    """e to the x of numbers that are at most 0, by operations whose results IEEE 754 fixes to the bit. numpy's own picks instructions by
    the processor, and their last bits differ."""
    x64 = np.maximum(x.astype(np.float64), -80.0)
    twos = np.rint(x64 / math.log(2.0))
    rest, series = x64 - twos * math.log(2.0), np.ones(x.shape)
    for n in range(10, 0, -1):
        series = series * rest / n + 1.0
    out: Floats = np.ldexp(series, twos.astype(np.int32)).astype(np.float32)
    return out


def written(model: Model, tasks: Mapping[str, Mapping[str, float]], tuning: Tuning, about: Mapping[str, object]) -> bytes:
    """A weights file. `tasks` says of a class that is not built in which built-in ones it is made of."""
    columns = np.maximum(np.abs(model.weights).max(axis=0, initial=0.0) / (MIDDLE - 1), 1e-9)
    shares, rounded, begin = {}, [], 0
    for group in GROUPS:
        part = model.weights[begin : begin + len(model.keys[group])] / columns
        begin += len(part)
        shares[group] = float(max(np.abs(part).max(initial=0.0) / (MIDDLE - 1), 1e-3))
        rounded.append((np.rint(part / shares[group]) + MIDDLE).astype(np.uint8))
    manifest = Manifest(
        classes=model.classes,
        tasks=tuple(tuple(float(tasks.get(c, {c: 1.0}).get(t, 0.0)) for t in TASKS) for c in model.classes),
        bias=tuple(model.bias.tolist()),
        tokens=tuple(model.tokens.tolist()),
        scales=tuple(columns.tolist()),
        shares=shares,
        heats=tuning.heats,
        followed=tuning.followed,
        carry=tuning.carry,
        sigma=tuple(model.sigma.tolist()),
        counts={group: len(model.keys[group]) for group in GROUPS},
        about=about,
    )
    return to_bytes(manifest, model.keys, np.concatenate(rounded))
